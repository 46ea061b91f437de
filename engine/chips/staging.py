"""Where an export works until its chips are complete: a hidden folder inside the output; the standard library alone.

    .deep_raster_export/
        job.json         digest of the job, so that only the same job goes on with it
        plan.json        written by the planning task, without logins and for this user alone
        blocks/12/...    chip files of block 12, laid out as they will be in the output
        blocks/12.json   receipt of block 12: it is complete
        numbers.json     first number of each root folder, and final number of each chip
        ready/...        everything under its final name, as it will lie in the output, side files too
        publish.json     renames from ready to the output and from there to before; from now on the output changes
        before/          what was replaced in the output

So the output is as it was until an export is complete, whether it dies, is cancelled or meets a full disk; what comes
then are renames, which :mod:`.publish` can undo.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..errors import ChipError
from ..jobs import ExportTrainingData, RasterInput, VectorInput, to_dict
from ..raster.remote import with_paths, without_credentials
from ..raster.secrets import hide

NAME = ".deep_raster_export"
VERSION = 4
SPLIT = "split.json"
SIDE_FILES = (
    "esri_model_definition.emd",
    "esri_accumulated_stats.json",
    "map.txt",
    "stats.txt",
    SPLIT,
    "chips.csv",
    "annotations/instances.json",
    "annotations/instances_train.json",
    "annotations/instances_validation.json",
    "annotations/instances_test.json",
    "classes.txt",
    "data.yaml",
    "train.txt",
    "validation.txt",
    "test.txt",
    "contact_sheet.png",
)
CHIP_FOLDERS = ("images", "images2", "labels", "labels2", "annotations", "A", "B")
# Files after which a cancel is looked for: a slow disk does this many in well under a second.
CHECKED_EACH = 100
# Called from time to time; raises where the job was cancelled.
Check = Callable[[], None]
LEFT_BY_TRAINING = ("esri_normalization_stats.json",)


def digest(job: ExportTrainingData) -> str:
    """Return a hash of what the job makes: its parameters and the size and time of its local files."""
    members = with_paths(to_dict(job), without_credentials)
    for name in ("existing", "workers", "output"):
        members.pop(name)
    members["files"] = [_identity(one) for one in _input_paths(job)]
    members["logins"] = len(logins(job))
    members["version"] = VERSION
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


def secret_members(job: ExportTrainingData) -> Dict[str, Any]:
    """Return the members of the plan in which logins may stand: the job, and the names of its rasters."""
    return {"job": to_dict(job), "names": [without_credentials(one.path) for one in rasters_of(job)]}


def logins(job: ExportTrainingData) -> List[str]:
    """Return what fills the places for logins in the plan of a job; the same places for renewed logins."""
    return hide(secret_members(job))[1]


def rasters_of(job: ExportTrainingData) -> List[RasterInput]:
    """Return all rasters that a job reads."""
    further = [one for one in (job.label_raster, job.instances_raster) if one is not None]
    return [*job.inputs, *job.inputs2, *further]


def _input_paths(job: ExportTrainingData) -> List[str]:
    layers = [job.labels, job.label_raster, job.mask, job.instances, job.instances_raster]
    inputs: List[Any] = [*job.inputs, *job.inputs2, *(one for one in layers if one is not None)]
    return [one.path for one in inputs if isinstance(one, (RasterInput, VectorInput))]


def _identity(path: str) -> Tuple[str, int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return without_credentials(path), 0, 0
    return path, status.st_size, status.st_mtime_ns


def write_json(path: Path, members: Any, mode: int = 0o666) -> None:
    """Write a JSON file so that it is there whole or not at all; ``mode`` is cut by the umask."""
    part = path.with_name(path.name + ".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()  # its mode may be another
    with open(part, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(json.dumps(members, separators=(",", ":")))
    os.replace(part, path)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that this program wrote; None if it does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def summary(receipt: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the part of a block's receipt that the engine process needs."""
    members = {name: receipt[name] for name in ("objects", "values", "left_out", "bytes")}
    return members | {"kept": [[one["root"], one["item"], one["candidate"]] for one in receipt["chips"]]}


def finished(job: ExportTrainingData) -> Optional[Dict[str, Any]]:
    """Return the counts of this very export if the output holds it complete, else None."""
    output = Path(job.output)
    if Staging(output).job_file.exists():
        return None
    for root in (output, output / "A"):
        try:
            members = read_json(root / "split.json") or {}
        except ValueError:
            continue
        for one in members.get("exports", ()):
            if one.get("digest") == digest(job):
                return dict(one)
    return None


class Staging:
    """The working folder of one export."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / NAME
        self.job_file = self.folder / "job.json"
        self.blocks = self.folder / "blocks"
        self.plan_file = self.folder / "plan.json"
        self.publish_file = self.folder / "publish.json"
        self.numbers_file = self.folder / "numbers.json"
        self.ready = self.folder / "ready"
        self.before = self.folder / "before"

    def block_file(self, block: int) -> Path:
        """Return the receipt of a block, which exists once the block is complete."""
        return self.blocks / f"{block}.json"

    def block_folder(self, block: int) -> Path:
        """Return the folder of a block's files."""
        return self.blocks / str(block)

    @property
    def replaces(self) -> bool:
        """Whether the export replaces what is there, whoever goes on with it."""
        return bool((read_json(self.job_file) or {}).get("replace"))

    @property
    def kept(self) -> Path:
        """The folder with the chips to which this export adds: the output, or none if they are replaced."""
        return self.folder / "nothing" if self.replaces else self.output

    def discard(self, check: Check = lambda: None) -> None:
        """Remove the working folder; without the job's digest nobody takes up what is left of it.

        Args:
            check: called from time to time, as there may be very many files; may raise.
        """
        with contextlib.suppress(OSError):
            self.job_file.unlink()
        _remove(self.folder, check)


def _remove(folder: Path | str, check: Check) -> None:
    check()
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            found = list(entries)
        for number, one in enumerate(found):
            if one.is_dir(follow_symlinks=False):
                _remove(one.path, check)
                continue
            if number % CHECKED_EACH == 0:
                check()
            with contextlib.suppress(OSError):
                os.unlink(one.path)
        os.rmdir(folder)


def accumulated(output: Path) -> Optional[Dict[str, Any]]:
    """Return the statistics that a folder of chips has; None if it holds none.

    Raises:
        ChipError: they cannot be read.
    """
    for root in (output, output / "A"):
        path = root / "esri_accumulated_stats.json"
        if path.is_file():
            try:
                members = json.loads(path.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError) as error:
                raise ChipError(
                    f"“{path}” cannot be read: {error}.", file=str(path), hint="Choose another folder, or replace it."
                ) from error
            return members if isinstance(members, dict) else {}
    return None
