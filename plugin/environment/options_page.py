"""The page of Deep Raster in QGIS's options: interpreter, idle time, caches, remembered consents."""

from __future__ import annotations

import time
from typing import List, Optional

from qgis.gui import QgisInterface, QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import (
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...engine.errors import DeepRasterError
from ...engine.package.consents import ALLOWED, ConsentStore
from ...processing_provider import environments, settings
from ...processing_provider.base import ICONS
from ...processing_provider.text import tr
from .setup_dialog import open_setup_dialog

PAGE = "DeepRasterOptions"


class OptionsPage(QgsOptionsPageWidget):
    """The page; what is typed counts when the options are accepted, a consent is revoked at once."""

    def __init__(self, iface: QgisInterface, parent: Optional[QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName(PAGE)
        self._iface = iface
        layout = QVBoxLayout(self)
        layout.addWidget(self._environment_box())
        layout.addWidget(self._engine_box())
        layout.addWidget(self._consents_box(), 1)

    def _environment_box(self) -> QWidget:
        box = QGroupBox(tr("Environment of the engine"))
        form = QFormLayout(box)
        self.python = QgsFileWidget()
        self.python.setObjectName("python")
        self.python.setFilePath(settings.python())
        self.python.lineEdit().setPlaceholderText(tr("the environment made by the set-up"))
        form.addRow(tr("Python interpreter"), self.python)
        note = QLabel(
            tr("Any virtual or conda environment with the needed packages may be named here (3.10 or newer).")
        )
        note.setWordWrap(True)
        form.addRow("", note)
        row = QHBoxLayout()
        button = QPushButton(tr("Set up environment…"))
        button.clicked.connect(lambda: open_setup_dialog(self._iface))
        row.addWidget(button)
        row.addStretch(1)
        form.addRow("", row)
        return box

    def _engine_box(self) -> QWidget:
        box = QGroupBox(tr("Engine"))
        form = QFormLayout(box)
        self.idle = QSpinBox()
        self.idle.setObjectName("idle")
        self.idle.setRange(0, 24 * 60)
        self.idle.setSuffix(tr(" minutes"))
        self.idle.setSpecialValueText(tr("ends with each run"))
        self.idle.setValue(settings.idle_minutes())
        self.idle.setToolTip(tr("A waiting engine keeps its network loaded, so that the next run starts at once."))
        form.addRow(tr("Stay ready after a run"), self.idle)
        self.cache = QgsFileWidget()
        self.cache.setObjectName("cache")
        self.cache.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.cache.setFilePath(settings.cache_folder())
        self.cache.lineEdit().setPlaceholderText(tr("the usual place for caches"))
        form.addRow(tr("Folder of unpacked packages"), self.cache)
        return box

    def _consents_box(self) -> QWidget:
        box = QGroupBox(tr("Packages that were allowed or refused to run their code"))
        layout = QVBoxLayout(box)
        self.consents = QTableWidget(0, 4)
        self.consents.setObjectName("consents")
        self.consents.setHorizontalHeaderLabels([tr("Package"), tr("Decision"), tr("When"), tr("Hash")])
        self.consents.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.consents.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.consents.verticalHeader().setVisible(False)
        self.consents.horizontalHeader().setSectionResizeMode(3, QHeaderView.ResizeMode.Stretch)
        self.consents.itemSelectionChanged.connect(self._selection_changed)
        self.revoke = QPushButton(tr("Revoke"))
        self.revoke.setObjectName("revoke")
        self.revoke.clicked.connect(self._revoke)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.revoke)
        layout.addWidget(self.consents)
        layout.addLayout(row)
        self._list_consents()
        return box

    def _list_consents(self) -> None:
        entries = ConsentStore().entries()
        self.consents.setRowCount(len(entries))
        for row, one in enumerate(entries):
            decision = tr("allowed") if one.decision == ALLOWED else tr("refused")
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.time))
            for column, text in enumerate((one.name, decision, when, one.digest)):
                item = QTableWidgetItem(text)
                item.setData(Qt.ItemDataRole.UserRole, one.digest)
                self.consents.setItem(row, column, item)
        self._selection_changed()

    def _selected(self) -> List[str]:
        rows = sorted({index.row() for index in self.consents.selectedIndexes()})
        return [self.consents.item(row, 0).data(Qt.ItemDataRole.UserRole) for row in rows]

    def _selection_changed(self) -> None:
        self.revoke.setEnabled(bool(self._selected()))

    def _revoke(self) -> None:
        store = ConsentStore()
        try:
            for digest in self._selected():
                store.revoke(digest)
        except DeepRasterError as error:
            self.revoke.setToolTip(str(error))
        self._list_consents()

    def apply(self) -> None:
        """Keep what was typed; called when the options are accepted."""
        settings.set_python(self.python.filePath().strip())
        settings.set_idle_minutes(self.idle.value())
        settings.set_cache_folder(self.cache.filePath().strip())
        environments.forget()


class OptionsFactory(QgsOptionsWidgetFactory):
    """Makes the page each time the options are shown."""

    def __init__(self, iface: QgisInterface) -> None:
        super().__init__(tr("Deep Raster"), QIcon(str(ICONS / "deepraster.svg")))
        self._iface = iface
        self._page: Optional[OptionsPage] = None

    def createWidget(self, parent: Optional[QWidget] = None) -> QgsOptionsPageWidget:
        self._page = OptionsPage(self._iface, parent)  # kept: QGIS holds the widget, not its Python half
        return self._page


class OptionsPages:
    """Registers the page and takes it away again."""

    def __init__(self, iface: QgisInterface) -> None:
        self._iface = iface
        settings.apply_cache_folder()
        self._factory = OptionsFactory(iface)
        iface.registerOptionsWidgetFactory(self._factory)

    def unload(self) -> None:
        """Take the page away."""
        self._iface.unregisterOptionsWidgetFactory(self._factory)
