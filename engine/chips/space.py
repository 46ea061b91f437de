"""Whether the chips will fit on the disk; the standard library alone."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Optional

from ..errors import OutputError

# Blocks that must be done before their size says something about the others, and as a share of all.
_BLOCKS, _SHARE = 4, 0.1
# Images seldom compress to less than half; blocks to come seldom hold less than half of those done.
_HALF = 0.5


def free_bytes(folder: Path) -> Optional[int]:
    """Return the free bytes of the disk of ``folder``; None if nobody knows."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def warning(folder: Path, uncompressed: int) -> str:
    """Return a sentence if chips of so many bytes, uncompressed, will hardly fit; else an empty text."""
    free = free_bytes(folder)
    if free is None or uncompressed * _HALF <= free:
        return ""
    return (
        f"The chips may take up to {_shown(uncompressed)}, but only {_shown(free)} are free at “{folder}”. "
        "If the disk fills up, the export can be continued later."
    )


class Room:
    """Watches while blocks are written whether the rest will fit.

    Args:
        folder: the output.
        blocks: number of all blocks.
    """

    def __init__(self, folder: Path, blocks: int) -> None:
        self._folder, self._blocks = folder, blocks
        self._done, self._bytes = 0, 0

    def add(self, size: int) -> None:
        """Note that a block is done that takes ``size`` bytes.

        Raises:
            OutputError: even half of what the other blocks should take is more than what is free.
        """
        self._done, self._bytes = self._done + 1, self._bytes + size
        if self._done < max(_BLOCKS, self._blocks * _SHARE) or self._done >= self._blocks:
            return
        rest = round(self._bytes / self._done * (self._blocks - self._done))
        free = free_bytes(self._folder)
        if free is not None and rest * _HALF > free:
            raise OutputError(
                f"The chips that are still to be written need about {_shown(rest)}, but only {_shown(free)} are free "
                f"at “{self._folder}”.",
                stage="writing chips",
                file=str(self._folder),
                hint="Make room or choose another folder, then run the export again with “continue”.",
            )


def no_room(folder: Path) -> str:
    """Return a half sentence on what is free, for a message that something cannot be written."""
    free = free_bytes(folder)
    return "" if free is None else f"; {_shown(free)} are free there"


def _shown(size: int) -> str:
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size} bytes"
