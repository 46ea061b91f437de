"""The runners of ``createpackage`` and ``packageinfo``; they read and copy files, and load no framework."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Dict, Sequence

from ..errors import JobError, OutputError
from ..jobs import CreatePackage, PackageInfo
from ..session import Session
from ..workers import sandbox
from . import formats
from .card import build_card, card_html, card_json
from .dlpk import ModelPackage, open_package, write_package
from .opening import is_archive
from .propose import propose, read_answers
from .references import Listing, named_files
from .trust import needs_of, trust_own, verdict

_ARTIFACTS = ("model_metrics.html", "ModelCharacteristics")


def create_package(job: CreatePackage, session: Session) -> Dict[str, Any]:
    """Write a package from a definition or a bare network file; outputs OUTPUT, HASH.

    A definition brings the files it names, a package everything in it; a bare network gets a proposed definition.

    Raises:
        JobError, DefinitionError, PackageError, OutputError: each names the file and what to do.
    """
    source = Path(job.definition)
    if not job.definition or not source.exists():
        raise JobError(f"There is no file “{job.definition}”.", hint="Check the parameter DEFINITION.")
    if not job.output:
        raise JobError("No output is given.", hint="Name the package to write in OUTPUT.")
    session.progress(0.05, "Reading the model")
    foreign = False
    files: Dict[str, Path] = {}
    if source.suffix.casefold() in (".emd", ".json") or is_archive(source):
        package = open_package(source)
        foreign = is_archive(source)  # its code was written by somebody else, and packing it again does not change that
        members: Dict[str, Any] = {**package.definition.members, **read_answers(job.answers)}
        names = [one.name for one in package.files]
        if not foreign:
            names = list(named_files(package.definition, Listing(names)))
        files = {name: package.file(name) for name in names if not _is_made_by_us(name)}
    else:
        if source.is_file() and formats.detect(source).kind == formats.SAVED_MODEL:
            source = source.parent  # its variables lie beside it
        members = propose(source, job.answers, _describe(source, session))
        files[source.name] = source
        files.update(_siblings(source))
    files.update(_further(job.files))
    session.check_cancelled()
    session.progress(0.3, "Writing the package")
    written = write_package(job.output, members, files)
    if not foreign:
        trust_own(written)
    _tell(written, session)
    session.progress(1.0, "Done")
    return {"OUTPUT": str(written.path), "HASH": written.digest}


def package_info(job: PackageInfo, session: Session) -> Dict[str, Any]:
    """Describe a package; outputs NAME, TYPE, HASH, ALLOWED, CARD and the paths HTML and JSON if asked for.

    Raises:
        PackageError, DefinitionError: the package cannot be opened; OutputError: a card cannot be written.
    """
    session.progress(0.05, "Opening the package")
    package = open_package(job.model)
    answer = verdict(package, needs_of(package), trust=job.trust)
    card = build_card(package, answer, sandbox.available().sentence if package.has_code else "")
    values = {
        "NAME": card["name"],
        "TYPE": card["type"],
        "HASH": package.digest,
        "ALLOWED": answer.allowed,
        "CARD": card,
    }
    for name, path, text in (("HTML", job.html, card_html(card)), ("JSON", job.json, card_json(card))):
        if path:
            _write_text(Path(path), text)
            values[name] = path
    _tell(package, session)
    session.progress(1.0, "Done")
    return values


def _describe(source: Path, session: Session) -> Any:
    """Return what a worker tells about an ONNX file; None for files that are read here."""
    if formats.detect(source).kind != formats.ONNX:
        return None
    return session.call("describe_network", {"path": str(source)})["members"]


def _siblings(source: Path) -> Dict[str, Path]:
    """Return what belongs to a bare network beside it: data files of its weights, and what training left."""
    found = {name: source.parent / name for name in _ARTIFACTS if (source.parent / name).exists()}
    for suffix in (".data", "_data", ".weight", ".bin"):
        data = source.with_name(source.name + suffix)
        if data.is_file():
            found[data.name] = data
    return found


def _further(names: Sequence[str]) -> Dict[str, Path]:
    found: Dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if not path.exists():
            raise JobError(f"There is no file “{name}”.", hint="Check the parameter FILES.")
        if path.name in found:
            raise JobError(f"Two files to pack are called “{path.name}”.", hint="Give each file a name of its own.")
        found[path.name] = path
    return found


def _is_made_by_us(name: str) -> bool:
    """Whether a file is written anew with every package, so that the old one must not come along."""
    return name.casefold().endswith((".emd", ".stac.json"))


def _tell(package: ModelPackage, session: Session) -> None:
    for warning in package.warnings:
        session.log(warning, "warning")
    session.log(f"{package.path.name}: {len(package.files)} files, {package.digest}")


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OutputError(f"The card cannot be written: {error.strerror or error}.", file=str(path)) from error
