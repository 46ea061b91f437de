"""Wiring: registers the provider and the parts of the window, and takes everything away again."""

from __future__ import annotations

from typing import List, Optional, Protocol

from qgis.core import QgsApplication
from qgis.gui import QgisInterface
from qgis.PyQt.QtCore import QCoreApplication

from ..engine.client import shutdown_engines
from ..processing_provider.provider import DeepRasterProvider
from .translation import install_translator


class Part(Protocol):
    """A part of the window."""

    def unload(self) -> None:
        """Take away everything that was added."""


class DeepRasterPlugin:
    """What QGIS loads. Without a window (``qgis_process``) only :meth:`initProcessing` is called."""

    def __init__(self, iface: Optional[QgisInterface]) -> None:
        self.iface = iface
        self.provider: Optional[DeepRasterProvider] = None
        self._parts: List[Part] = []
        self._translator = install_translator()

    def initProcessing(self) -> None:
        """Add the algorithms."""
        self.provider = DeepRasterProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Add the algorithms and the parts of the window."""
        self.initProcessing()
        # Imported here, because qgis_process loads this module as well and has no use for widgets.
        from .environment.options_page import OptionsPages
        from .menu import Menu
        from .packages.integration import PackageIntegration

        for part in (Menu, OptionsPages, PackageIntegration):
            self._parts.append(part(self.iface))

    def unload(self) -> None:
        """Take everything away and end the engines."""
        while self._parts:
            self._parts.pop().unload()
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
        shutdown_engines()
        if self._translator is not None:
            QCoreApplication.removeTranslator(self._translator)
            self._translator = None
