"""Scratch folders of jobs: one each, removed with the job; those of engines that were killed are swept up later."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from .errors import OutputError

_PREFIX = "deep_raster_job_"
# Libraries write small files there even if the job itself has little to keep: code, kernels, locks.
_LEAST_ROOM = 1_000_000


def new_scratch() -> Path:
    """Return a new empty folder whose name carries this process's id.

    ``DEEP_RASTER_SCRATCH`` names the folder to make it in (a large or fast disk, or one a cluster's nodes share);
    without it the system's temporary folder is used.

    Raises:
        OutputError: it cannot be made there, or that disk is full.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}_", dir=_base()))
    except OSError as error:
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
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of engines that no longer run (they were killed together with QGIS)."""
    base = Path(_base() or tempfile.gettempdir())
    for folder in base.glob(f"{_PREFIX}*"):
        owner = folder.name[len(_PREFIX) :].split("_")[0]
        with contextlib.suppress(OSError):
            if owner.isdigit() and not _is_alive(int(owner)) and (os.name == "nt" or _is_mine(folder)):
                shutil.rmtree(folder, ignore_errors=True)


def _base() -> str | None:
    return os.environ.get("DEEP_RASTER_SCRATCH") or None


def _is_mine(folder: Path) -> bool:
    return folder.lstat().st_uid == os.getuid() and not folder.is_symlink()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # no cheap and safe way to ask; Windows clears its temporary folder itself
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
