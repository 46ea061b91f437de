"""Model packages in QGIS's browser: an icon, a card, and the tools that use them."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from qgis.core import (
    QgsDataItem,
    QgsDataItemProvider,
    QgsDataProvider,
    QgsMimeDataUtils,
)
from qgis.gui import QgisInterface, QgsCustomDropHandler
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QWidget

from ...engine.errors import DeepRasterError
from ...engine.package.peek import peek_definition
from ...processing_provider.base import ICONS
from ...processing_provider.compat import alive, custom_item_type
from ...processing_provider.text import tr
from ..algorithms import open_algorithm
from .card import show_card

SUFFIXES = (".dlpk", ".emd")


def is_model(path: str) -> bool:
    """Whether a path is a model by its ending."""
    return Path(path).suffix.lower() in SUFFIXES


class ModelItem(QgsDataItem):
    """One package or definition in the browser."""

    def __init__(self, iface: QgisInterface, parent: Optional[QgsDataItem], path: str) -> None:
        super().__init__(custom_item_type(), parent, Path(path).name, path)
        self._iface = iface
        self.setState(QgsDataItem.State.Populated)
        self.setIcon(QIcon(str(ICONS / "packages.svg")))
        self.setToolTip(path)

    def hasDragEnabled(self) -> bool:
        return True

    def mimeUri(self) -> QgsMimeDataUtils.Uri:
        uri = QgsMimeDataUtils.Uri()
        uri.layerType, uri.providerKey = "custom", ModelDropHandler.KEY
        uri.name, uri.uri = self.name(), self.path()
        return uri

    def mimeUris(self) -> List[QgsMimeDataUtils.Uri]:
        return [self.mimeUri()]

    def handleDoubleClick(self) -> bool:
        show_card(self._iface, self.path())
        return True

    def actions(self, parent: QWidget) -> List[QAction]:
        card = QAction(tr("Show model card"), parent)
        card.triggered.connect(lambda: show_card(self._iface, self.path()))
        found = [card]
        try:
            tools = peek_definition(self.path()).tools
        except DeepRasterError:
            tools = ()
        for tool in tools:
            found.append(self._tool_action(tool, parent))
        return found

    def _tool_action(self, tool: str, parent: QWidget) -> QAction:
        titles = {
            "detectobjects": tr("Detect objects with this model…"),
            "classifypixels": tr("Classify pixels with this model…"),
            "classifyobjects": tr("Classify objects with this model…"),
            "detectchange": tr("Detect change with this model…"),
        }
        action = QAction(titles.get(tool, tool), parent)
        values = {"MODEL": self.path()}
        action.triggered.connect(lambda: open_algorithm(self._iface, f"deepraster:{tool}", values))
        return action


class ModelItemProvider(QgsDataItemProvider):
    """Makes items of files that end as models do."""

    def __init__(self, iface: QgisInterface) -> None:
        super().__init__()
        self._iface = iface
        self._items: List[ModelItem] = []  # QGIS keeps the items, but not their Python halves

    def name(self) -> str:
        return "deep_raster"

    def capabilities(self) -> int:
        return QgsDataProvider.DataCapability.File

    def createDataItem(self, path: str, parentItem: Optional[QgsDataItem]) -> Optional[QgsDataItem]:
        if not path or not is_model(path) or not Path(path).is_file():
            return None
        item = ModelItem(self._iface, parentItem, path)
        self._items = [one for one in self._items if alive(one)]
        self._items.append(item)
        return item


class ModelDropHandler(QgsCustomDropHandler):
    """Shows the card of a model that is dropped on QGIS's window."""

    KEY = "deep_raster_model"

    def __init__(self, iface: QgisInterface) -> None:
        super().__init__()
        self._iface = iface

    def customUriProviderKey(self) -> str:
        return self.KEY

    def handleCustomUriDrop(self, uri: QgsMimeDataUtils.Uri) -> None:
        show_card(self._iface, uri.uri)

    def handleFileDrop(self, file: str) -> bool:
        if not is_model(file):
            return False
        show_card(self._iface, file)
        return True
