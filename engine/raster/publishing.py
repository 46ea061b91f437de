"""Giving complete files their final names: those of several outputs together or not at all; standard library alone.

Files are written under part names in the folders of their targets, so that a rename is all that is left to do. Before
the first of several renames, what is replaced gets a second name, and a note lists all steps; so they can be taken back
when one fails, and by another process when this one was killed between two of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..errors import OutputError

# Part file (empty: the file of the final name only goes), final name, second name of the file that was there before
# (empty: there was none).
Step = Tuple[str, str, str]
# Virus scanners and indexers hold fresh files open for moments on Windows.
_REPLACE_PATIENCE = 5.0 if os.name == "nt" else 0.0
# What a part may be called beside the ending of its target: layers are written as GeoPackage first.
_VECTOR_PARTS = (".gpkg", ".dbf", ".shx", ".prj", ".cpg")
# Such names are made by :func:`part_path`, and GDAL adds to them.
_PART_NAME = re.compile(r"\.(.+)\.(?:part|flat)(\..+)$")
_AS_BEFORE = "All outputs are as they were before."


def part_path(target: Path, tag: str = "part") -> Path:
    """Return the name under which ``target`` is written, in the same folder so that renaming is one step."""
    return target.with_name(f".{target.stem}.{tag}{target.suffix}")


class Publication:
    """The files of one or several outputs; use as a context manager, add complete part files, then :meth:`publish`.

    Parts that were added and not published are removed at the end.

    Args:
        note: file in which the steps are listed while they are done; None to be safe from failures alone, not from
            being killed.
    """

    def __init__(self, note: Optional[Path] = None) -> None:
        self._note = note
        self._steps: List[Step] = []

    def add(self, files: Sequence[Tuple[Path, Path]], obsolete: Sequence[Path] = ()) -> None:
        """Take over verified part files.

        Args:
            files: part files and their final names, in the order in which to rename them.
            obsolete: files that belong to older ones of these names, and go.
        """
        self._steps += [("", str(one), str(part_path(one, "old"))) for one in obsolete]
        self._steps += [(str(part), str(target), str(part_path(target, "old"))) for part, target in files]

    def place_of(self, target: Path) -> Path:
        """Return where the content of an output can be read: its part file while it is not published."""
        return next((Path(part) for part, name, _ in self._steps if part and name == str(target)), target)

    def publish(self) -> None:
        """Give all files their names.

        Raises:
            OutputError: one cannot be renamed; those before it have been taken back, or are named.
        """
        steps = [
            (part, name, kept if os.path.lexists(name) else "")
            for part, name, kept in self._steps
            if part or os.path.lexists(name)
        ]
        alone = len(steps) == 1  # then the rename is the whole of it
        at = ""
        try:
            if self._note is not None and not alone:
                _write_note(self._note, steps)
            for part, at, kept in [] if alone else steps:
                if kept:
                    _keep(at, kept, stays=bool(part))
            for part, at, _ in steps:
                if part:
                    give_name(part, at)
        except OSError as error:
            left = [] if alone else take_back(steps)
            if self._note is not None and not left:
                discard(self._note)
            raise _refusal(at, error, left) from error
        for folder in {os.path.dirname(os.path.abspath(name)) for _, name, _ in steps}:
            _folder_to_disk(folder)
        if self._note is not None:
            discard(self._note)
        if not alone:
            discard(*(Path(kept) for _, _, kept in steps if kept))
        self._steps.clear()

    def __enter__(self) -> Publication:
        return self

    def __exit__(self, *_: object) -> None:
        discard(*(Path(part) for part, _, _ in self._steps if part))
        self._steps.clear()


def take_back(steps: Sequence[Step]) -> List[str]:
    """Undo what was done of the steps of a publication; return the outputs that could not be taken back."""
    left: List[str] = []
    for part, target, kept in reversed(steps):
        try:
            if kept and os.path.lexists(kept):
                os.replace(kept, target)
                discard(Path(kept))  # two names of one file stay two names
            elif not kept and os.path.lexists(target) and not os.path.lexists(part):
                os.replace(target, part)
        except OSError:
            left.append(target)
    return left


def take_back_noted(note: Path) -> List[str]:
    """Undo a publication whose process was killed; return the outputs that could not be taken back."""
    try:
        steps = [(str(part), str(target), str(kept)) for part, target, kept in json.loads(note.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
    left = take_back(steps)
    if not left:
        discard(note)
    return left


def hand_over(
    files: Sequence[Tuple[Path, Path]], obsolete: Sequence[Path], outputs: Optional[Publication] = None
) -> None:
    """Have verified part files named: together with other outputs, or at once; see :meth:`Publication.add`."""
    if outputs is not None:
        outputs.add(files, obsolete)
        return
    with Publication() as alone:
        alone.add(files, obsolete)
        alone.publish()


def part_files(targets: Iterable[Path]) -> List[Path]:
    """Return the part files that a process which was killed while writing ``targets`` has left."""
    endings: Dict[Path, Dict[str, Set[str]]] = {}
    for one in targets:
        stems = endings.setdefault(one.parent, {})
        stems.setdefault(one.stem, set()).update((one.suffix, *_VECTOR_PARTS))
        stems.setdefault(f"{one.name}.aux", set()).add(".xml")
    found: List[Path] = []
    for folder, stems in endings.items():
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                match = _PART_NAME.match(name)
                known = stems.get(match[1], ()) if match else ()
                if match and any(match[2] == one or match[2].startswith((f"{one}.", f"{one}-")) for one in known):
                    found.append(folder / name)
    return found


def to_disk(path: Path) -> None:
    """Bring a file's content to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def discard(*paths: Path) -> None:
    """Remove files that may be there."""
    for one in paths:
        with contextlib.suppress(OSError):
            one.unlink()


def _write_note(note: Path, steps: Sequence[Step]) -> None:
    with note.open("w", encoding="utf-8") as file:
        json.dump(steps, file)
        file.flush()
        os.fsync(file.fileno())


def _keep(target: str, kept: str, stays: bool) -> None:
    """Give a file that is to be replaced a second name; where a disk knows no second names, or it is to go, another."""
    if os.path.isdir(target) and not os.path.islink(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    discard(Path(kept))
    if stays:
        with contextlib.suppress(OSError):
            if os.link in os.supports_follow_symlinks:
                os.link(target, kept, follow_symlinks=False)
            else:
                os.link(target, kept)
            return
    os.replace(target, kept)


def give_name(part: str, target: str) -> None:
    """Rename, replacing an older file of that name in one step; folders only where nothing of that name is."""
    deadline = time.monotonic() + _REPLACE_PATIENCE
    while True:
        try:
            os.replace(part, target)
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _folder_to_disk(folder: str) -> None:
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # the names are given; some network disks know no such thing
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _refusal(target: str, error: OSError, left: Sequence[str]) -> OutputError:
    # Windows refuses to replace what somebody has open; elsewhere it is a matter of rights alone.
    used = os.name == "nt" and isinstance(error, PermissionError)
    why = "it is in use by another program" if used else error.strerror or str(error)
    state = _AS_BEFORE
    if left:
        names = ", ".join(f"“{one}”" for one in left)
        state = f"{names} could not be taken back: what was there is beside it, with “.old” in its name."
    return OutputError(
        f"“{target}” cannot be given its new content: {why}. {state}",
        stage="writing",
        file=target,
        hint=(
            "Remove it from the project or close the program" if used else "See what is in its place, or choose another"
        )
        + ", then start the same job again; what is finished is kept.",
    )
