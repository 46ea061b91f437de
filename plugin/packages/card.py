"""The card of a package in a window of its own, with the tools that can use it."""

from __future__ import annotations

from typing import Optional

from qgis.core import Qgis, QgsApplication
from qgis.gui import QgisInterface
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QPushButton, QTextBrowser, QVBoxLayout, QWidget

from ...engine.package.card import card_html
from ...processing_provider.base import ICONS
from ...processing_provider.text import tr
from ..algorithms import open_algorithm
from .consent import Answer, ask
from .tasks import OpenedPackage, open_later

CARD = "DeepRasterCardDialog"


class CardDialog(QDialog):
    """Shows what is inside a package; nothing of it runs."""

    def __init__(self, opened: OpenedPackage, iface: QgisInterface, parent: Optional[QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName(CARD)
        self.setWindowTitle(tr("{} – model package").format(opened.package.path.name))
        self.setWindowIcon(QIcon(str(ICONS / "packages.svg")))
        self.resize(680, 720)
        self._iface, self._opened = iface, opened
        layout = QVBoxLayout(self)
        self.page = QTextBrowser()
        self.page.setOpenLinks(False)
        layout.addWidget(self.page, 1)
        self._show()
        box = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        box.rejected.connect(self.close)
        registry = QgsApplication.processingRegistry()
        for tool in opened.package.definition.tools:
            algorithm = registry.algorithmById(f"deepraster:{tool}")
            if algorithm is None:
                continue
            button = QPushButton(algorithm.icon(), tr("{}…").format(algorithm.displayName()))
            button.clicked.connect(lambda _checked=False, tool=tool: self._use(tool))
            box.addButton(button, QDialogButtonBox.ButtonRole.ActionRole)
        if opened.needs:
            button = QPushButton(tr("Code and consent…"))
            button.clicked.connect(self._ask)
            box.addButton(button, QDialogButtonBox.ButtonRole.ResetRole)
        layout.addWidget(box)

    def _show(self) -> None:
        # Qt's rich text draws no empty boxes, so the colour patches of the page get something to stand on.
        html = card_html(self._opened.card).replace('"></span>', '">&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;</span>')
        self.page.setHtml(html)

    def _use(self, tool: str) -> None:
        open_algorithm(self._iface, f"deepraster:{tool}", {"MODEL": str(self._opened.package.path)})

    def _ask(self) -> None:
        if ask(self._opened, self, run=False) in (Answer.ALWAYS, Answer.NEVER):
            open_later(str(self._opened.package.path), self._opened_again)

    def _opened_again(self, opened: Optional[OpenedPackage], reason: str) -> None:
        if opened is not None:
            self._opened = opened
            self._show()


def show_card(iface: QgisInterface, path: str) -> None:
    """Open a package in the background and show its card, or say why it cannot be opened."""

    def then(opened: Optional[OpenedPackage], reason: str) -> None:
        if opened is None:
            iface.messageBar().pushMessage(tr("Deep Raster"), reason, Qgis.MessageLevel.Critical)
            return
        dialog = CardDialog(opened, iface, iface.mainWindow())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, True)
        dialog.show()

    open_later(path, then)
