"""Opens algorithms from the window: their dialog, or first the set-up if there is no environment yet."""

from __future__ import annotations

from typing import Any, Dict, Optional

from qgis.core import Qgis, QgsApplication
from qgis.gui import QgisInterface
from qgis.PyQt.QtWidgets import QPushButton

from ..processing_provider.text import tr


def open_algorithm(iface: QgisInterface, algorithm: str, values: Optional[Dict[str, Any]] = None) -> None:
    """Show the dialog of an algorithm with some values filled in; the window stays usable beside it."""
    import processing

    found = QgsApplication.processingRegistry().algorithmById(algorithm)
    if found is None:
        iface.messageBar().pushMessage(
            tr("Deep Raster"),
            tr("The toolbox “Processing” does not know {}.").format(algorithm),
            Qgis.MessageLevel.Warning,
        )
        return
    ready, reason = found.canExecute()
    if not ready:
        _offer_setup(iface, reason)
        return
    dialog = processing.createAlgorithmDialog(algorithm, values or {})
    if dialog is not None:
        dialog.show()


def _offer_setup(iface: QgisInterface, reason: str) -> None:
    from .environment.setup_dialog import open_setup_dialog

    item = iface.messageBar().createMessage(tr("Deep Raster"), reason)
    button = QPushButton(tr("Set up…"), item)
    button.clicked.connect(lambda: open_setup_dialog(iface))
    item.layout().addWidget(button)
    iface.messageBar().pushWidget(item, Qgis.MessageLevel.Info)
