"""Moving an export that is ready into the output: all of it or nothing; the standard library alone.

Everything lies in the working folder as it will lie in the output, so that nothing is left to do but renames, which
need no room. They are listed in a file first. So they can be gone on with after a crash, and be undone after a failure
or by another export: whatever is replaced is kept in the working folder until the last of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from ..errors import OutputError
from ..raster.publishing import give_name
from ..workers.task import TaskContext
from . import space
from .staging import (
    CHECKED_EACH,
    CHIP_FOLDERS,
    LEFT_BY_TRAINING,
    SIDE_FILES,
    SPLIT,
    Check,
    Staging,
    read_json,
    write_json,
)

# From and to, relative to the output.
Move = Tuple[str, str]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNCHANGED = "The output is as it was before."
_AGAIN = (
    "Make sure that nobody uses the folder and that nothing stands in the way, then run the export again with "
    "“continue”."
)
_HALF = "Some chips are in place already and could not be moved back."
_COMPLETE = (
    "Make sure that nobody uses the folder, then run the export again with “continue”, which moves the rest; any other "
    "export into this folder first moves everything back."
)


def publish_export(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Task: move everything that is ready into the output, and remove the working folder.

    Args:
        payload: ``output`` folder.
        context: of the worker; not used.

    Raises:
        OutputError: a file cannot be moved; its sentence says whether the output is as before.
    """
    staging = Staging(Path(payload["output"]))
    if not staging.job_file.exists():
        return {}  # done, by a worker that died before it could say so
    try:
        moves = _begun(staging) or _begin(staging)
    except OSError as error:
        raise _refused(staging, error, _UNCHANGED, _AGAIN) from error
    try:
        for one in moves:
            _do(staging, one)
    except OSError as error:
        try:
            restore(staging)
        except OSError:
            raise _refused(staging, error, _HALF, _COMPLETE) from error
        raise _refused(staging, error, _UNCHANGED, _AGAIN) from error
    staging.discard()
    return {}


def _refused(staging: Staging, error: OSError, state: str, hint: str) -> OutputError:
    full = error.errno in _FULL
    which = "The chips" if full or not error.filename else f"“{Path(str(error.filename)).name}”"
    return OutputError(
        f"{which} cannot be moved into place in “{staging.output}”: {error.strerror or error}"
        f"{space.no_room(staging.output) if full else ''}. {state}",
        stage="moving chips into place",
        file=str(staging.output),
        hint=hint,
    )


def restore(staging: Staging, check: Check = lambda: None) -> None:
    """Undo whatever was moved, so that the output is as before the export.

    Args:
        staging: the working folder.
        check: called from time to time; may raise, and then this can be called again.

    Raises:
        OSError: a file cannot be moved back; then this can be called again.
    """
    for number, (source, target) in enumerate(reversed(_begun(staging))):
        if number % CHECKED_EACH == 0:
            check()
        here, there = staging.output / source, staging.output / target
        if os.path.lexists(there) and not os.path.lexists(here):
            give_name(str(there), str(here))
    with contextlib.suppress(FileNotFoundError):
        staging.publish_file.unlink()


def _begun(staging: Staging) -> List[Move]:
    """Return the moves that were begun; none if the output is as it was."""
    return [(source, target) for source, target in (read_json(staging.publish_file) or {}).get("moves", ())]


def _begin(staging: Staging) -> List[Move]:
    """List all moves, and make the folders that hold what is replaced."""
    replaced = list(_replaced(staging)) if staging.replaces else []
    moves = [(one, _before(staging, one)) for one in replaced]
    moves += _moves(staging, "", frozenset(replaced))
    for _, target in moves:
        if target.startswith(_inside(staging, staging.before)):
            (staging.output / target).parent.mkdir(parents=True, exist_ok=True)
    write_json(staging.publish_file, {"moves": moves})
    return moves


def _inside(staging: Staging, folder: Path) -> str:
    return folder.relative_to(staging.output).as_posix()


def _before(staging: Staging, path: str) -> str:
    return f"{_inside(staging, staging.before)}/{path}"


def _replaced(staging: Staging) -> Iterator[str]:
    """Yield what of the output belongs to the old chips; links to folders elsewhere stay."""
    for name in CHIP_FOLDERS:
        path = staging.output / name
        if path.is_dir() and not path.is_symlink():
            yield name
    for name in (*SIDE_FILES, *LEFT_BY_TRAINING):
        if "/" not in name and os.path.lexists(staging.output / name):
            yield name


def _moves(staging: Staging, folder: str, gone: frozenset[str]) -> List[Move]:
    """Return the moves of what is ready below ``folder``: whole folders where there are none yet, else their files.

    Raises:
        FileExistsError: something that is not of an export stands in the way.
    """
    found: List[Move] = []
    there = _names(staging.output / folder)
    for entry in _in_order(staging.ready / folder):
        path = f"{folder}/{entry.name}" if folder else entry.name
        ready = f"{_inside(staging, staging.ready)}/{path}"
        if entry.name not in there or path in gone:
            found.append((ready, path))
        elif entry.is_dir() and (staging.output / path).is_dir():
            found += _moves(staging, path, gone)
        elif _is_side_file(path) and not (staging.output / path).is_dir():
            found += [(path, _before(staging, path)), (ready, path)]
        else:
            raise FileExistsError(errno.EEXIST, "another file of this name is there already", path)
    return found


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()


def _in_order(folder: Path) -> List[os.DirEntry[str]]:
    """Return folders first, and last the file by which a finished export is known."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda one: (one.name == SPLIT, not one.is_dir(), one.name))


def _is_side_file(path: str) -> bool:
    return path in SIDE_FILES or path.partition("/")[2] in SIDE_FILES


def _do(staging: Staging, move: Move) -> None:
    source, target = (staging.output / one for one in move)
    if not os.path.lexists(target):
        give_name(str(source), str(target))
    elif os.path.lexists(source) and not move[1].startswith(_inside(staging, staging.before)):
        # It was not there when the moves were listed.
        raise FileExistsError(errno.EEXIST, "another file of this name is there already", str(target))
