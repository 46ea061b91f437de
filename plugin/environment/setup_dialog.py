"""The set-up dialog: which frameworks, how far it is, what failed and what to do."""

from __future__ import annotations

from html import escape
from typing import List, Optional

from qgis.core import QgsApplication
from qgis.gui import QgisInterface, QgsCollapsibleGroupBox, QgsFileWidget
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from ...engine.environment import Environment
from ...processing_provider import environments, settings
from ...processing_provider.base import ICONS
from ...processing_provider.text import tr
from .tasks import EnvironmentTask, creation, examination


def choices() -> List[tuple]:
    """Return the sets of frameworks to choose from: names, title, what it is for."""
    return [
        (("pytorch",), tr("PyTorch"), tr("train networks, run most models; 1 to 5 GB")),
        (("onnx",), tr("ONNX Runtime only"), tr("run ONNX models, no training; 0.5 GB")),
        (("tensorflow",), tr("TensorFlow"), tr("run TensorFlow and Keras models; 2 GB")),
        (("onnx", "pytorch", "tensorflow"), tr("All of these"), tr("any model; 4 to 8 GB")),
    ]


class SetupDialog(QDialog):
    """Stays usable while a set-up runs, and may be closed meanwhile: the task goes on in QGIS's task list."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName("DeepRasterSetupDialog")
        self.setWindowTitle(tr("Set up the environment of Deep Raster"))
        self.setWindowIcon(QIcon(str(ICONS / "management.svg")))
        self.resize(640, 560)
        self._task: Optional[EnvironmentTask] = None
        layout = QVBoxLayout(self)
        layout.setSpacing(10)
        layout.addLayout(self._headline())
        layout.addWidget(self._frameworks_box())
        layout.addWidget(self._options_box())
        self.report = QTextBrowser()
        self.report.setOpenExternalLinks(True)
        layout.addWidget(self.report, 1)
        self.step = QLabel()
        self.step.setWordWrap(True)
        layout.addWidget(self.step)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setTextVisible(False)
        layout.addWidget(self.progress)
        layout.addWidget(self._button_row())
        self._show_running(False)
        self.examine()

    def _headline(self) -> QHBoxLayout:
        row = QHBoxLayout()
        picture = QLabel()
        picture.setPixmap(QIcon(str(ICONS / "deepraster.svg")).pixmap(QSize(40, 40)))
        row.addWidget(picture)
        text = QLabel(
            tr(
                "The engine of Deep Raster works in a Python environment of its own. Nothing of QGIS is changed, "
                "and no administrator rights are needed."
            )
        )
        text.setWordWrap(True)
        row.addWidget(text, 1)
        return row

    def _frameworks_box(self) -> QWidget:
        box = QgsCollapsibleGroupBox(tr("Frameworks"))
        form = QVBoxLayout(box)
        self._group = QButtonGroup(box)
        for number, (_names, title, what) in enumerate(choices()):
            button = QRadioButton(f"{title} – {what}")
            button.setChecked(number == 0)
            self._group.addButton(button, number)
            form.addWidget(button)
        return box

    def _options_box(self) -> QWidget:
        box = QgsCollapsibleGroupBox(tr("Options"))
        box.setObjectName("options")
        form = QFormLayout(box)
        self.base = QgsFileWidget()
        self.base.setToolTip(tr("A Python 3.10 or newer to build on; empty looks for one on this computer."))
        self.location = QgsFileWidget()
        self.location.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.location.setFilePath(settings.location())
        self.location.setToolTip(tr("Empty takes the usual place for data of this user."))
        self.wheels = QgsFileWidget()
        self.wheels.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.wheels.setToolTip(tr("Install from these files alone, without a network."))
        form.addRow(tr("Python to build on"), self.base)
        form.addRow(tr("Folder of environments"), self.location)
        form.addRow(tr("Folder of wheels"), self.wheels)
        self.tidy = QCheckBox(tr("Afterwards, remove environments of earlier versions"))
        self.tidy.setToolTip(tr("Another QGIS that still has such a version would have to set up its own again."))
        form.addRow(self.tidy)
        box.setCollapsed(True)
        return box

    def _button_row(self) -> QWidget:
        box = QDialogButtonBox()
        self.start_button = QPushButton(tr("Set up"))
        self.start_button.setDefault(True)
        self.start_button.clicked.connect(self.start)
        self.cancel_button = QPushButton(tr("Cancel set-up"))
        self.cancel_button.clicked.connect(self.cancel)
        box.addButton(self.start_button, QDialogButtonBox.ButtonRole.ActionRole)
        box.addButton(self.cancel_button, QDialogButtonBox.ButtonRole.ActionRole)
        box.addButton(QDialogButtonBox.StandardButton.Close).clicked.connect(self.close)
        return box

    def frameworks(self) -> tuple:
        """Return the chosen frameworks."""
        return tuple(choices()[self._group.checkedId()][0])

    def examine(self) -> None:
        """Show what is there."""
        ready, reason = environments.state()
        if not ready:
            self._say(tr("No environment yet"), reason)
            return
        self._run(examination(""), tr("Looking at the environment…"))

    def start(self) -> None:
        """Make the environment."""
        location = self.location.filePath()
        settings.set_location(location)
        wheels = self.wheels.filePath()
        task = creation(self.frameworks(), self.base.filePath(), location, wheels, self.tidy.isChecked())
        self._run(task, tr("Starting…"))

    def cancel(self) -> None:
        """Stop; what was loaded stays for the next try."""
        if self._task is not None:
            self._task.cancel()
            self.step.setText(tr("Stopping…"))

    def _run(self, task: EnvironmentTask, text: str) -> None:
        self._task = task
        task.told.connect(self._show_progress)
        task.ended.connect(self._ended)
        self.step.setText(text)
        self._show_running(True)
        QgsApplication.taskManager().addTask(task)

    def _show_progress(self, fraction: float, text: str) -> None:
        self.progress.setValue(round(1000 * fraction))
        self.step.setText(text)

    def _ended(self, environment: Optional[Environment], reason: str) -> None:
        self._task = None
        self._show_running(False)
        if environment is None:
            self._say(tr("The environment is not ready"), reason)
            return
        environments.forget()
        self.report.setHtml(describe(environment))

    def _show_running(self, running: bool) -> None:
        self.start_button.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.progress.setVisible(running)
        self.step.setVisible(running)
        if not running:
            self.progress.setValue(0)

    def _say(self, title: str, text: str) -> None:
        self.report.setHtml(f"<p><b>{escape(title)}</b></p><p>{escape(text)}</p>")


def describe(environment: Environment) -> str:
    """Return HTML that tells what an environment holds."""
    complete = ", ".join(environment.frameworks) or tr("no framework")
    rows = "".join(
        f"<tr><td>{escape(name)}&nbsp;&nbsp;</td><td>{escape(version)}</td></tr>"
        for name, version in sorted(environment.versions.items(), key=lambda item: (item[0] != "python", item[0]))
    )
    return (
        f"<p><b>{escape(tr('The environment is ready'))}</b> ({escape(complete)})</p>"
        f"<p><code>{escape(environment.python)}</code></p><table>{rows}</table>"
    )


_open: List[SetupDialog] = []


def open_setup_dialog(iface: QgisInterface) -> SetupDialog:
    """Show the dialog; a second call brings the same one to the front."""
    if not _open:
        _open.append(SetupDialog(iface.mainWindow()))
    dialog = _open[0]
    dialog.show()
    dialog.raise_()
    dialog.activateWindow()
    return dialog


def close_setup_dialog() -> None:
    """Close and forget the dialog; a set-up that runs is cancelled."""
    while _open:
        dialog = _open.pop()
        dialog.cancel()
        dialog.close()
        dialog.deleteLater()
