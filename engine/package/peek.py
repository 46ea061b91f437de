"""Read the definition of a package without unpacking it: quick enough for a dialog that follows the user's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from . import opening
from .archive import Archive
from .emd import ModelDefinition, read_definition


def peek_definition(path: Union[str, Path]) -> ModelDefinition:
    """Return the definition of a ``.dlpk``, an ``.emd``, or JSON text; the files it names are not looked at.

    Raises:
        PackageError, DefinitionError: there is none that can be read.
    """
    text = str(path)
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return read_definition(text)
    place = Path(path)
    if place.suffix.casefold() not in (".dlpk", ".zip"):
        return read_definition(place)
    with Archive(place) as archive:
        name, _warnings = opening.choose_definition([one.name for one in archive.entries], place)
        return opening.definition_of(archive, name, place)
