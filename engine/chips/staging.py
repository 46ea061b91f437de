"""Where an export works until its chips are complete: a hidden folder inside the output; the standard library alone.

    .deep_raster_export/
        job.json         digest of the job, so that only the same job goes on with it
        plan.json        written by the planning task
        blocks/12/...    chip files of block 12, laid out as they will be in the output
        blocks/12.json   receipt of block 12: it is complete
        publish.json     first number of each root folder; from now on files move into the output
        numbers.json     final number of each chip
        before/          side files of the output before this export, so that finishing can be repeated

Every file therefore comes under its final name by a rename, and a dead or cancelled export leaves the output as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ..errors import ChipError, DeepRasterError, JobCancelled, JobError, OutputError
from ..jobs import ExportTrainingData, RasterInput, VectorInput, to_dict
from ..raster.remote import with_paths, without_credentials
from . import rules

NAME = ".deep_raster_export"
_LOCK = ".deep_raster_export.lock"
VERSION = 3
SIDE_FILES = (
    "esri_model_definition.emd",
    "esri_accumulated_stats.json",
    "map.txt",
    "stats.txt",
    "split.json",
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
_CHIP_FOLDERS = ("images", "images2", "labels", "labels2", "annotations", "A", "B")
_LEFT_BY_TRAINING = ("esri_normalization_stats.json",)


def digest(job: ExportTrainingData) -> str:
    """Return a hash of what the job makes: its parameters and the size and time of its local files."""
    members = with_paths(to_dict(job), without_credentials)
    for name in ("existing", "workers", "output"):
        members.pop(name)
    members["files"] = [_identity(one) for one in _input_paths(job)]
    members["version"] = VERSION
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


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


def write_json(path: Path, members: Any) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(members, separators=(",", ":")), encoding="utf-8")
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
    if (output / NAME).exists():
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
        self.blocks = self.folder / "blocks"
        self.plan_file = self.folder / "plan.json"
        self.publish_file = self.folder / "publish.json"
        self.numbers_file = self.folder / "numbers.json"
        self.before = self.folder / "before"

    def block_file(self, block: int) -> Path:
        """Return the receipt of a block, which exists once the block is complete."""
        return self.blocks / f"{block}.json"

    def block_folder(self, block: int) -> Path:
        """Return the folder of a block's files."""
        return self.blocks / str(block)

    def discard(self) -> None:
        """Remove the working folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def opened(job: ExportTrainingData) -> Iterator[Tuple[Staging, str]]:
    """Lock the output folder, and yield its working folder and a note on what was found in it.

    A failure before the first block of chips is complete leaves nothing behind; after that, as after a cancel or a
    crash, the working folder stays for CONTINUE.

    Raises:
        JobError: the folder holds something else than chips, or what ``existing`` asks for does not fit.
        OutputError: the folder cannot be made, or another export works in it.
    """
    output = Path(job.output)
    with _writable(output), _locked(output):
        staging = Staging(output)
        try:
            note = _prepare(job, staging)
            yield staging, note
        except JobCancelled:
            raise
        except (DeepRasterError, OSError):
            if not any(staging.blocks.glob("*.json")):
                staging.discard()
            raise
        staging.discard()


@contextlib.contextmanager
def _writable(output: Path) -> Iterator[None]:
    created = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The output folder “{output}” cannot be made: {error.strerror}.",
            stage="preparing the output",
            file=str(output),
            hint="Choose a folder that you may write to.",
        ) from error
    try:
        yield
    finally:
        if created:
            _remove_if_empty(output)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Hold a lock that the system itself releases when this process ends, however it ends."""
    path = output / _LOCK
    try:
        file = open(path, "a+b")  # noqa: SIM115
    except OSError as error:
        raise OutputError(
            f"Nothing can be written to the output folder “{output}”: {error.strerror}.",
            stage="preparing the output",
            file=str(output),
            hint="Choose a folder that you may write to.",
        ) from error
    try:
        if not _try_lock(file):
            raise OutputError(
                f"Another export is writing to “{output}”.",
                stage="preparing the output",
                file=str(output),
                hint="Wait until it is done, or choose another folder.",
            )
        yield
    finally:
        file.close()
        with contextlib.suppress(OSError):
            path.unlink()


def _try_lock(file: Any) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _prepare(job: ExportTrainingData, staging: Staging) -> str:
    """Make the working folder ready for this job; return a sentence on what was there."""
    own = digest(job)
    found = read_json(staging.folder / "job.json") if staging.folder.exists() else None
    note = ""
    if job.existing == rules.CONTINUE and found and found.get("digest") == own:
        return "Going on with the unfinished export."
    if staging.folder.exists():
        if job.existing == rules.CONTINUE and found:
            raise JobError(
                "The unfinished export in the output folder had other parameters or inputs, so it cannot be continued.",
                hint="Run it with its own parameters, or choose to replace or to append.",
            )
        if staging.publish_file.exists() and job.existing != rules.REPLACE:
            raise JobError(
                "The unfinished export in the output folder was already moving its chips into place.",
                hint="Run it again with its own parameters and “continue”, or replace the folder.",
            )
        note = "An unfinished export in the output folder was given up."
        if staging.publish_file.exists():
            _remove_chips(staging.output)
        staging.discard()
    _check_output(job, staging)
    staging.blocks.mkdir(parents=True)
    replace = job.existing == rules.REPLACE
    write_json(staging.folder / "job.json", {"digest": own, "version": VERSION, "replace": replace})
    return note


def _check_output(job: ExportTrainingData, staging: Staging) -> None:
    """Refuse to replace or to append to a folder whose content is not that of an export."""
    output = staging.output
    inside = [one for one in output.iterdir() if one.name not in (NAME, _LOCK)]
    if not inside:
        return
    accumulated = _accumulated(output)
    if accumulated is None:
        if job.existing == rules.REPLACE or any((output / one).exists() for one in _CHIP_FOLDERS):
            raise JobError(
                f"The output folder “{output}” holds files that are not those of an export.",
                file=str(output),
                hint="Choose an empty folder.",
            )
        return
    if job.existing == rules.REPLACE:
        return
    same = accumulated.get("MetaDataMode") == job.format
    if not same:
        raise JobError(
            f"The output folder holds chips of the format {accumulated.get('MetaDataMode')}, not {job.format}.",
            file=str(output),
            hint="Choose another folder, or replace what is there.",
        )


def _accumulated(output: Path) -> Optional[Dict[str, Any]]:
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


def begin_publishing(staging: Staging, roots: List[str]) -> Dict[str, int]:
    """Return the first chip number of each root folder; from here on the output changes.

    An export that was started with REPLACE removes the old chips first, whoever goes on with it. Side files of the old
    state are kept beside until the end.
    """
    known = read_json(staging.publish_file)
    if known is not None:
        return {str(root): int(number) for root, number in known.items()}
    if (read_json(staging.folder / "job.json") or {}).get("replace"):
        _remove_chips(staging.output)
    shutil.rmtree(staging.before, ignore_errors=True)
    for root in roots:
        for name in SIDE_FILES:
            source = staging.output / root / name
            if source.is_file():
                target = staging.before / root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    starts = {root: _next_number(staging.output / root) for root in roots}
    write_json(staging.publish_file, starts)
    return starts


def _remove_chips(output: Path) -> None:
    for name in _CHIP_FOLDERS:
        if not (output / name).is_symlink():
            shutil.rmtree(output / name, ignore_errors=True)
    for name in (*SIDE_FILES, *_LEFT_BY_TRAINING):
        with contextlib.suppress(FileNotFoundError):
            (output / name).unlink()


def _next_number(root: Path) -> int:
    """Return the number after the last chip, whatever the side files say."""
    accumulated = _accumulated(root) or {}
    numbers = [int(accumulated.get(key) or 0) for key in ("NextTileIndex", "NumTiles")]
    for folder in ("images", "labels"):
        for _, _, names in os.walk(root / folder):
            numbers.extend(int(one.split(".")[0]) + 1 for one in names if one.split(".")[0].isdecimal())
    return max(numbers)
