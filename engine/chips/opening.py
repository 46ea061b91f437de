"""Beginning an export, or going on with one: the lock of its output, and its working folder; the standard library."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator, Tuple

from .. import locks
from ..errors import DeepRasterError, JobCancelled, JobError, OutputError
from ..jobs import ExportTrainingData
from . import rules, space
from .publish import restore
from .staging import CHIP_FOLDERS, NAME, VERSION, Check, Staging, accumulated, digest, read_json, write_json

_LOCK = ".deep_raster_export.lock"


@contextlib.contextmanager
def opened(job: ExportTrainingData, check: Check = lambda: None) -> Iterator[Tuple[Staging, str]]:
    """Lock the output folder, and yield its working folder and a note on what was found in it.

    A failure before the first block of chips is complete leaves nothing behind; after that, as after a cancel or a
    crash, the working folder stays for CONTINUE.

    Args:
        job: the export.
        check: called from time to time while what an earlier export left is removed; may raise.

    Raises:
        JobError: the folder holds something else than chips, or what ``existing`` asks for does not fit.
        OutputError: the folder cannot be made or written to, or another export works in it.
    """
    output = Path(job.output)
    with _writable(output), _locked(output):
        staging = Staging(output)
        try:
            note = _prepare(job, staging, check)
            yield staging, note
        except JobCancelled:
            raise
        except (DeepRasterError, OSError) as error:
            if not any(staging.blocks.glob("*.json")):
                staging.discard()
            if isinstance(error, DeepRasterError):
                raise
            raise _unwritable(output, error) from error
        staging.discard()


def _unwritable(output: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Nothing more can be written to “{output}”: {error.strerror or error}{space.no_room(output)}.",
        stage="writing chips",
        file=str(output),
        hint="Make room or choose another folder, then run the export again with “continue”.",
    )


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
        if not locks.take(file):
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


def _prepare(job: ExportTrainingData, staging: Staging, check: Check) -> str:
    """Make the working folder ready for this job; return a sentence on what was there."""
    own = digest(job)
    found = read_json(staging.job_file)
    note = ""
    if job.existing == rules.CONTINUE and found and found.get("digest") == own:
        return "Going on with the unfinished export."
    if found:
        if job.existing == rules.CONTINUE:
            raise JobError(
                "The unfinished export in the output folder had other parameters or inputs, so it cannot be continued.",
                hint="Run it with its own parameters, or choose to replace or to append.",
            )
        note = "An unfinished export in the output folder was given up."
        _undo(staging, check)
    staging.discard(check)
    _check_output(job, staging)
    staging.blocks.mkdir(parents=True)
    replace = job.existing == rules.REPLACE
    write_json(staging.job_file, {"digest": own, "version": VERSION, "replace": replace})
    return note


def _undo(staging: Staging, check: Check) -> None:
    try:
        restore(staging, check)
    except OSError as error:
        raise OutputError(
            f"The unfinished export in “{staging.output}” was moving its chips into place, and “{error.filename}” "
            f"cannot be moved back: {error.strerror or error}.",
            stage="preparing the output",
            file=str(staging.output),
            hint="Make sure that nobody uses the folder, then try again, or go on with the unfinished export.",
        ) from error


def _check_output(job: ExportTrainingData, staging: Staging) -> None:
    """Refuse to replace or to append to a folder whose content is not that of an export."""
    output = staging.output
    inside = [one for one in output.iterdir() if one.name not in (NAME, _LOCK)]
    if not inside:
        return
    statistics = accumulated(output)
    if statistics is None:
        if job.existing == rules.REPLACE or any((output / one).exists() for one in CHIP_FOLDERS):
            raise JobError(
                f"The output folder “{output}” holds files that are not those of an export.",
                file=str(output),
                hint="Choose an empty folder.",
            )
        return
    if job.existing == rules.REPLACE:
        return
    if statistics.get("MetaDataMode") != job.format:
        raise JobError(
            f"The output folder holds chips of the format {statistics.get('MetaDataMode')}, not {job.format}.",
            file=str(output),
            hint="Choose another folder, or replace what is there.",
        )
