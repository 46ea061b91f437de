"""Write model packages: flat root, the definition first, the same bytes for the same content."""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ..errors import DefinitionError, JobError, OutputError
from .archive import Archive
from .emd import ModelDefinition, build_definition, write_definition
from .names import clashes, name_fault
from .opening import ModelPackage, open_package
from .references import Listing, check_references
from .stac import write_item

Content = Union[Path, bytes]

_EPOCH = (1980, 1, 1, 0, 0, 0)
# Compressing weights costs time and saves nothing; text shrinks to a fifth.
_TEXT = frozenset((".emd", ".json", ".html", ".htm", ".txt", ".py", ".md", ".xml", ".csv", ".pbtxt", ".svg"))


def write_package(
    output: Union[str, Path],
    members: Mapping[str, Any],
    files: Mapping[str, Content],
    *,
    cache: Optional[Path] = None,
) -> ModelPackage:
    """Write a package and return it opened.

    Args:
        output: path of the ``.dlpk``; it appears under this name only when it is complete and verified.
        members: members of the definition; its paths name entries of ``files``.
        files: name in the package (slashes separate folders) to a file, a folder or bytes.
        cache: folder of unpacked packages; default the user's.

    Raises:
        DefinitionError: the definition cannot be used or names a file that is not there; JobError: a file to pack is
        missing or badly named; OutputError: the package cannot be written.
    """
    target = Path(output)
    contents = _expand(files)
    definition = _definition(members, contents)
    name = f"{target.stem}.emd"
    ordered: Dict[str, Content] = {name: write_definition(definition).encode("utf-8")}
    ordered.update((one, contents[one]) for one in sorted(contents) if one != name)
    item = f"{target.stem}.stac.json"
    ordered.setdefault(item, write_item(definition, target.stem).encode("utf-8"))
    found = [f"the name “{one}” {name_fault(one)}" for one in ordered if name_fault(one)] + clashes(ordered)
    if found:
        raise JobError(f"The package cannot be written: {'; '.join(found[:5])}.", file=str(target))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(part, ordered)
        with Archive(part):  # what a stranger's reader would refuse must not leave this place
            pass
        os.replace(part, target)
    except OSError as error:
        raise OutputError(
            f"The package cannot be written: {error.strerror or error}.",
            stage="writing the package",
            file=str(target),
            hint="Check the folder, its rights and the free space.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return open_package(target, cache)


def _expand(files: Mapping[str, Content]) -> Dict[str, Content]:
    """Return every file under its name in the package, folders opened."""
    found: Dict[str, Content] = {}
    missing: List[str] = []
    for name, content in files.items():
        if isinstance(content, bytes):
            found[name] = content
        elif content.is_dir():
            for one in sorted(content.rglob("*")):
                if one.is_file() and not one.is_symlink() and "__pycache__" not in one.parts:
                    found[f"{name}/{one.relative_to(content).as_posix()}"] = one
        elif content.is_file():
            found[name] = content
        else:
            missing.append(str(content))
    if missing:
        raise JobError(f"Files to be packed are missing: {', '.join(missing[:5])}.", hint="Check their paths.")
    return found


def _definition(members: Mapping[str, Any], contents: Mapping[str, Content]) -> ModelDefinition:
    """Return the definition with its paths as they are in the package."""
    given = build_definition(members)
    listing = Listing(contents)
    problems, _ = check_references(given, listing)
    if problems:
        raise DefinitionError(
            f"The model definition does not fit the files of the package: {'; '.join(problems)}.",
            problems=problems,
            stage="writing the package",
            hint="Add the missing files, or correct the definition.",
        )
    changed = dict(given.members)
    for key, raw in (("ModelFile", given.model_file), ("InferenceFunction", given.inference_function)):
        found = listing.find(raw) if raw and not (key == "InferenceFunction" and given.names_builtin_function) else None
        if found:
            changed[key] = found
    return build_definition(changed)


def _write(part: Path, contents: Mapping[str, Content]) -> None:
    with part.open("wb") as file:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name, content in contents.items():
                info, size = _info(name, content)
                with archive.open(info, "w", force_zip64=size > 0x7FFFFFFF) as entry:
                    if isinstance(content, bytes):
                        entry.write(content)
                    else:
                        with content.open("rb") as source:
                            for piece in iter(lambda: source.read(1 << 20), b""):
                                entry.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _info(name: str, content: Content) -> Tuple[zipfile.ZipInfo, int]:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o100644 << 16
    info.create_system = 3
    info.compress_type = zipfile.ZIP_DEFLATED if Path(name).suffix.casefold() in _TEXT else zipfile.ZIP_STORED
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    info.file_size = size
    return info, size
