"""Loads the translation for the language of QGIS, if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, QTranslator

FOLDER = Path(__file__).resolve().parent.parent / "i18n"


def install_translator() -> Optional[QTranslator]:
    """Return the translator that was installed, which the caller must keep and remove; None without translation."""
    locale = QgsApplication.locale() or "en"
    for name in (locale, locale.split("_")[0]):
        path = FOLDER / f"deep_raster_{name}.qm"
        translator = QTranslator()
        if path.exists() and translator.load(str(path)):
            QCoreApplication.installTranslator(translator)
            return translator
    return None
