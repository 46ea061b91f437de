"""Read the definition of a package without unpacking it: quick enough for a dialog that follows the user's choice."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple, Union

from . import opening
from .archive import Archive
from .declared import MAX_SOURCE, runs_function, written_parameters
from .emd import ModelDefinition, read_definition
from .lenient import is_object_text
from .parameters import ModelParameter, declared_parameters
from .references import Listing, runs_code


def peek_definition(path: Union[str, Path]) -> ModelDefinition:
    """Return the definition of a ``.dlpk``, an ``.emd``, or JSON text; the files it names are not looked at.

    Raises:
        PackageError, DefinitionError: there is none that can be read.
    """
    return _peek(path)[0]


def may_ask(path: Union[str, Path]) -> bool:
    """Whether a package may want something that needs consent; yes is a reason to open it and to look closely.

    Raises:
        PackageError, DefinitionError: it has no definition that can be read.
    """
    definition, names = _peek(path)
    return definition.framework == "TorchScript" or runs_code(definition, Listing(names))


def peek_parameters(path: Union[str, Path]) -> Tuple[ModelParameter, ...]:
    """Return the arguments of a package: those that its own function's text declares, else those of its definition.

    Raises:
        PackageError, DefinitionError: it has no definition that can be read.
    """
    definition, names = _peek(path)
    function = Listing(names).find(definition.inference_function) if runs_function(definition) else None
    if function is None:
        return declared_parameters(definition)
    place = Path(path)
    if place.suffix.casefold() not in (".dlpk", ".zip"):
        return written_parameters((place.parent / function).read_bytes()[: MAX_SOURCE + 1])
    with Archive(place) as archive:
        listed = [one.name for one in archive.entries]
        prefix = opening.choose_definition(listed, place)[0].rpartition("/")[0]
        wanted = f"{prefix}/{function}" if prefix else function
        entry = next(one for one in archive.entries if one.name == wanted)
        return written_parameters(b"".join(archive.stream(entry)) if entry.size <= MAX_SOURCE else b"")


def _peek(path: Union[str, Path]) -> Tuple[ModelDefinition, List[str]]:
    """Return the definition and the names of the files beside it, as far as they are known without a search."""
    text = str(path)
    if is_object_text(text):
        return read_definition(text), []
    place = Path(path)
    if place.suffix.casefold() not in (".dlpk", ".zip"):
        beside = [one.name for one in place.parent.glob("*.py")]
        return read_definition(place), beside
    with Archive(place) as archive:
        names = [one.name for one in archive.entries]
        name, _warnings = opening.choose_definition(names, place)
        prefix = name[: name.rfind("/") + 1]
        return opening.definition_of(archive, name, place), [one[len(prefix) :] for one in names]
