"""Texts for people, translated by Qt in one context."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication

CONTEXT = "DeepRaster"


def tr(text: str) -> str:
    """Return ``text`` in the user's language; only plain literals may be passed, so that translators see them."""
    return QCoreApplication.translate(CONTEXT, text)


def translated(text: str) -> str:
    """Return a text of the engine's tables in the user's language; a package's own texts come back as they are."""
    return QCoreApplication.translate(CONTEXT, text) if text else ""
