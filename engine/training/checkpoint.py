"""Checkpoints: written so that whatever happens while one is saved, a whole one remains.

``last``, ``previous`` and ``best`` lie in one folder. A checkpoint is written beside its place, flushed to the disk,
read back, and renamed; files that cannot be read are passed over with a message. Only tensors, numbers, texts, lists
and mappings are in it, so it loads without running anything.
"""

from __future__ import annotations

import os
import pickle  # nosec B403 - the name of an error; nothing is unpickled
import shutil
import zipfile
from pathlib import Path
from typing import Any, Callable, Optional

import torch

from ..errors import OutputError

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
# What torch raises for a file that is cut, overwritten or of another kind.
_UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder for the training cannot be made: {error.strerror}.",
                stage="saving the training",
                file=str(folder),
            ) from error

    def save(self, state: dict[str, Any]) -> None:
        """Save as ``last``; what was last becomes ``previous``."""
        part = self._write(state, LAST)
        last = self.folder / LAST
        if last.exists():
            os.replace(last, self.folder / PREVIOUS)
        os.replace(part, last)
        _flush_folder(self.folder)

    def save_best(self, state: dict[str, Any]) -> None:
        """Save as ``best``."""
        os.replace(self._write(state, BEST), self.folder / BEST)
        _flush_folder(self.folder)

    def _write(self, state: dict[str, Any], name: str) -> Path:
        part = self.folder / f"{name}.part"
        try:
            with open(part, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            _load(part)
        except _UNREADABLE as error:
            part.unlink(missing_ok=True)
            # PyTorch tells a disk that is full in words of its own inside.
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "the file was cut off"
            free = shutil.disk_usage(self.folder).free / 1e6
            raise OutputError(
                f"The state of the training cannot be saved: {reason}; {free:,.3g} MB of space are free there.",
                stage="saving the training",
                file=str(part),
                hint="Check that the disk has room; the last saved state is kept.",
            ) from error
        return part

    def load(self, warn: Callable[[str], None]) -> Optional[dict[str, Any]]:
        """Return the newest whole checkpoint, or None."""
        for name in (LAST, PREVIOUS):
            state = self._try(name, warn)
            if state is not None:
                return state
        return None

    def load_best(self, warn: Callable[[str], None]) -> Optional[dict[str, Any]]:
        """Return the best checkpoint, or None."""
        return self._try(BEST, warn)

    def _try(self, name: str, warn: Callable[[str], None]) -> Optional[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return _load(path)
        except _UNREADABLE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warn(f"The saved state “{name}” is damaged and is passed over ({reason}).")
            return None

    def clear(self) -> None:
        """Delete all checkpoints, so that none of another training can be taken for one of this."""
        for path in self.folder.glob("*.pt*"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete all checkpoints and their folder; the training is complete."""
        self.clear()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _load(path: Path) -> dict[str, Any]:
    # A tail of zeros or a flipped bit does not always stop the reader, so the checksums of the archive are compared.
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise ValueError(f"the checksum of {bad} is wrong")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    return state


def _flush_folder(folder: Path) -> None:
    """Make the renames last; systems that cannot open folders do without."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
