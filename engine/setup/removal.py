"""Environments of earlier versions: found, weighed and removed when a person asks for it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List

from ..errors import EnvironmentFault, JobCancelled
from . import locations

STAGE = "removing environments"


@dataclass(frozen=True)
class Outdated:
    """An environment that we made and that nothing of this version uses.

    Attributes:
        folder: of the environment.
        bytes: that its files occupy; hard links (pip makes none) count twice.
    """

    folder: Path
    bytes: int


def outdated_environments(location: str = "") -> List[Outdated]:
    """Return the finished environments below ``location`` that were made from requirements other than today's.

    A folder without our success marker is never named: it may be a set-up in progress, or somebody else's.
    """
    current = {folder for folder, _ in locations.finished_environments(location)}
    markers = sorted((locations.home(location) / "environments").glob(f"*/{locations.MARKER}"))
    folders = [one.parent for one in markers if one.parent not in current and locations.read_marker(one.parent)]
    return [Outdated(folder, _bytes_below(folder)) for folder in folders]


def remove_outdated(location: str = "", is_cancelled: Callable[[], bool] = lambda: False) -> int:
    """Remove them, and return how many bytes that freed.

    The marker goes first, so that what a broken-off removal leaves behind never passes for an environment.

    Raises:
        EnvironmentFault: a folder cannot be removed, for example because a program still uses it.
        JobCancelled: it was cancelled; environments that are gone stay so.
    """
    freed = 0
    for one in outdated_environments(location):
        if is_cancelled():
            raise JobCancelled("Removing earlier environments was cancelled.")
        lock = one.folder.parent / f".{one.folder.name}.lock"
        with locations.only_one(lock, lambda text: None, is_cancelled):
            try:
                (one.folder / locations.MARKER).unlink()
                shutil.rmtree(one.folder)
            except OSError as error:
                raise EnvironmentFault(
                    f"The environment {one.folder} cannot be removed: {error.strerror or error}.",
                    stage=STAGE,
                    hint="Close the programs that use it (another QGIS, say), then remove the folder by hand.",
                ) from error
        lock.unlink(missing_ok=True)
        freed += one.bytes
    return freed


def _bytes_below(folder: Path) -> int:
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # what cannot be looked at is not counted
    return total
