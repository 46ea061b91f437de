"""One module per chip format behind one interface; :func:`make` finds the module by the format's name."""

from __future__ import annotations

import importlib

from ..rules import traits
from .base import ChipFormat


def make(name: str) -> ChipFormat:
    """Return the writer of a format.

    Raises:
        JobError: there is no such format.
    """
    module = importlib.import_module(f".{traits(name).module}", package=__package__)
    writer: ChipFormat = module.FORMAT
    return writer
