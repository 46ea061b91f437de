"""Scratch folders of jobs: one each, removed with the job; those of engines that were killed are swept up later.

The engine holds a lock in its folder, which the system gives back when the engine ends. The process id in the name
alone would not tell: numbers are given out again, and other machines may share the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Dict

from . import locks
from .errors import OutputError

_PREFIX = "deep_raster_job_"
_LOCK = "lock"
_held: Dict[Path, IO[bytes]] = {}
# Libraries write small files there even if the job itself has little to keep: code, kernels, locks.
_LEAST_ROOM = 1_000_000


def new_scratch() -> Path:
    """Return a new folder, with nothing but its lock in it, whose name carries this process's id.

    ``DEEP_RASTER_SCRATCH`` names the folder to make it in (a large or fast disk, or one a cluster's nodes share);
    without it the system's temporary folder is used.

    Raises:
        OutputError: it cannot be made there, or that disk is full.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}_", dir=_base()))
        _held[folder] = (folder / _LOCK).open("ab")
        locks.take(_held[folder])
    except OSError as error:
        if folder is not None:
            remove_scratch(folder)
        raise _refusal(f"The scratch folder cannot be made: {error.strerror or error}.") from error
    free = shutil.disk_usage(folder).free
    if free < _LEAST_ROOM:
        remove_scratch(folder)
        raise _refusal(f"Only {free:,} bytes of space are free on the disk of the scratch folder.")
    return folder


def _refusal(sentence: str) -> OutputError:
    return OutputError(
        sentence,
        stage="preparing the job",
        file=_base() or tempfile.gettempdir(),
        hint="Make space there, or name another folder in the environment variable DEEP_RASTER_SCRATCH.",
    )


def remove_scratch(folder: Path) -> None:
    """Remove a job's folder; what another process still holds open is left to :func:`sweep`."""
    held = _held.pop(folder, None)
    if held is not None and os.name == "nt":
        held.close()  # an open file cannot be removed there
    shutil.rmtree(folder, ignore_errors=True)
    if held is not None:
        held.close()


def sweep() -> None:
    """Remove the folders of engines that no longer run (they were killed together with QGIS)."""
    base = Path(_base() or tempfile.gettempdir())
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if (os.name == "nt" or _is_mine(folder)) and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Return whether the engine of a folder has ended."""
    try:
        with (folder / _LOCK).open("rb+") as file:
            return locks.take(file)
    except FileNotFoundError:
        # The moment before the lock is made, or after it was removed: only the engine itself can tell.
        owner = folder.name[len(_PREFIX) :].split("_")[0]
        return os.name != "nt" and owner.isdigit() and not _is_alive(int(owner))


def _base() -> str | None:
    return os.environ.get("DEEP_RASTER_SCRATCH") or None


def _is_mine(folder: Path) -> bool:
    return folder.lstat().st_uid == os.getuid() and not folder.is_symlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
