"""The menu below Raster and the toolbar: the steps of the work in their order, each opening its algorithm."""

from __future__ import annotations

from functools import partial
from typing import List, Tuple

from qgis.core import QgsApplication
from qgis.gui import QgisInterface
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QMenu, QToolBar

from ..processing_provider.base import ICONS
from ..processing_provider.text import tr
from .algorithms import open_algorithm
from .environment.setup_dialog import close_setup_dialog, open_setup_dialog

SEPARATOR = ""
MENU = (
    "labelobjects",
    "exporttrainingdata",
    "trainmodel",
    SEPARATOR,
    "detectobjects",
    "classifypixels",
    "classifyobjects",
    "detectchange",
    "nonmaximumsuppression",
    SEPARATOR,
    "computeaccuracy",
    SEPARATOR,
    "packageinfo",
    "createpackage",
)
TOOLBAR = ("labelobjects", "exporttrainingdata", "trainmodel", "detectobjects", "computeaccuracy")


class Menu:
    """Menu and toolbar; their actions have names, so that users can find them in the customisation."""

    def __init__(self, iface: QgisInterface) -> None:
        self._iface = iface
        self._actions: List[QAction] = []
        self._menu = QMenu(tr("Deep Raster"), iface.mainWindow())
        self._menu.setObjectName("mDeepRasterMenu")
        self._menu.setIcon(QIcon(str(ICONS / "deepraster.svg")))
        self._toolbar: QToolBar = iface.addToolBar(tr("Deep Raster"))
        self._toolbar.setObjectName("mDeepRasterToolBar")
        for name in MENU:
            self._add(name)
        self._menu.addSeparator()
        self._menu.addAction(self._setup_action())
        iface.rasterMenu().addMenu(self._menu)

    def _add(self, name: str) -> None:
        if name == SEPARATOR:
            self._menu.addSeparator()
            return
        algorithm = QgsApplication.processingRegistry().algorithmById(f"deepraster:{name}")
        action = QAction(algorithm.icon(), tr("{}…").format(algorithm.displayName()), self._iface.mainWindow())
        action.setObjectName(f"mActionDeepRaster_{name}")
        action.setToolTip(algorithm.shortDescription())
        action.triggered.connect(partial(self._open, f"deepraster:{name}"))
        self._actions.append(action)
        self._menu.addAction(action)
        if name in TOOLBAR:
            self._toolbar.addAction(action)

    def _setup_action(self) -> QAction:
        action = QAction(QIcon(str(ICONS / "management.svg")), tr("Set up environment…"), self._iface.mainWindow())
        action.setObjectName("mActionDeepRaster_environment")
        action.triggered.connect(self._open_setup)
        self._actions.append(action)
        return action

    def _open(self, algorithm: str, *_: Tuple[object, ...]) -> None:
        open_algorithm(self._iface, algorithm)

    def _open_setup(self) -> None:
        open_setup_dialog(self._iface)

    def unload(self) -> None:
        """Take menu, toolbar and actions away."""
        close_setup_dialog()
        self._iface.rasterMenu().removeAction(self._menu.menuAction())
        for action in self._actions:
            action.deleteLater()
        self._actions = []
        self._menu.deleteLater()
        self._iface.mainWindow().removeToolBar(self._toolbar)
        self._toolbar.deleteLater()
