"""Registers what the window knows about packages, and takes it away again."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.gui import QgisInterface
from qgis.PyQt.QtWidgets import QDialog

from ...processing_provider.base import dialog_factories
from .browser import ModelDropHandler, ModelItemProvider
from .card import CARD
from .run_dialog import make_dialog

ASKING = ("detectobjects", "classifypixels", "classifyobjects", "detectchange")


class PackageIntegration:
    """Browser items, drop handler, and the dialogs that ask for consent."""

    def __init__(self, iface: QgisInterface) -> None:
        self._iface = iface
        self._items = ModelItemProvider(iface)
        QgsApplication.dataItemProviderRegistry().addProvider(self._items)
        self._drops = ModelDropHandler(iface)
        iface.registerCustomDropHandler(self._drops)
        for name in ASKING:
            dialog_factories[name] = make_dialog

    def unload(self) -> None:
        """Take everything away, cards that are still open included."""
        for card in self._iface.mainWindow().findChildren(QDialog, CARD):
            card.close()
            card.deleteLater()
        for name in ASKING:
            dialog_factories.pop(name, None)
        self._iface.unregisterCustomDropHandler(self._drops)
        QgsApplication.dataItemProviderRegistry().removeProvider(self._items)
