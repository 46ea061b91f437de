"""Texts for people, translated by Qt in one context."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication

CONTEXT = "DeepRaster"


def tr(text: str) -> str:
    """Return ``text`` in the user's language; only plain literals may be passed, so that translators see them."""
    return QCoreApplication.translate(CONTEXT, text)
