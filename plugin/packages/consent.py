"""The question whether a package may run what it brings: all is shown, and the harmless answer is the default."""

from __future__ import annotations

from enum import Enum
from html import escape
from typing import Optional

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QFontDatabase
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ...engine.errors import DeepRasterError
from ...engine.package.consents import ConsentStore
from ...engine.package.trust import CODE, GRAPH, TORCHSCRIPT
from ...processing_provider.text import tr
from .tasks import OpenedPackage

LARGEST_SOURCE = 2_000_000


class Answer(Enum):
    """What a person may say."""

    NOT_NOW = "not now"
    ONCE = "this run only"
    ALWAYS = "always"
    NEVER = "never"


def wants(opened: OpenedPackage) -> str:
    """Return what the package asks for."""
    words = {
        CODE: tr("run its own Python code"),
        TORCHSCRIPT: tr("load TorchScript, which can write files while it loads"),
        GRAPH: tr("run operations of its network that may touch files"),
    }
    return tr(" and ").join(words[need] for need in opened.needs)


class ConsentDialog(QDialog):
    """Shows name, maker, hash, files, code and protection of a package; Esc and closing mean “not now”."""

    def __init__(self, opened: OpenedPackage, parent: Optional[QWidget] = None, *, run: bool = True) -> None:
        super().__init__(parent)
        self.setObjectName("DeepRasterConsentDialog")
        self.setWindowTitle(tr("May this package run its code?"))
        self.resize(760, 600)
        self.answer = Answer.NOT_NOW
        self._opened = opened
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        layout.addWidget(self._question())
        digest = QLineEdit(opened.package.digest)
        digest.setReadOnly(True)
        digest.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        digest.setToolTip(tr("One changed byte anywhere in the package makes another hash, and you are asked again."))
        layout.addWidget(digest)
        tabs = QTabWidget()
        if opened.package.code:
            tabs.addTab(self._code(), tr("Code"))
        tabs.addTab(self._files(), tr("Files"))
        layout.addWidget(tabs, 1)
        protection = QLabel(f"<b>{escape(tr('Protection here:'))}</b> {escape(opened.protection)}")
        protection.setWordWrap(True)
        layout.addWidget(protection)
        layout.addWidget(self._answers(run))

    def _question(self) -> QLabel:
        package, definition = self._opened.package, self._opened.package.definition
        maker = str(definition.get("Author", definition.get("Publisher", "")) or tr("not stated"))
        text = tr("The package <b>{name}</b> wants to {wants}.").format(
            name=escape(package.path.name), wants=escape(wants(self._opened))
        )
        rows = ((tr("From"), str(package.path)), (tr("Made by"), f"{maker} ({tr('as the package says itself')})"))
        table = "".join(f"<tr><td>{escape(name)}:&nbsp;</td><td>{escape(value)}</td></tr>" for name, value in rows)
        advice = tr("Code can do whatever you can do on this computer, within the protection named below. ")
        advice += tr("Allow it only if you know where the package comes from.")
        label = QLabel(f"<p style='font-size:large'>{text}</p><table>{table}</table><p>{escape(advice)}</p>")
        label.setTextFormat(Qt.TextFormat.RichText)
        label.setWordWrap(True)
        return label

    def _code(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        self.chooser = QComboBox()
        self.chooser.addItems(self._opened.package.code)
        self.source = QPlainTextEdit()
        self.source.setReadOnly(True)
        self.source.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.source.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.chooser.currentTextChanged.connect(self._show_source)
        layout.addWidget(self.chooser)
        layout.addWidget(self.source)
        self._show_source(self.chooser.currentText())
        return page

    def _show_source(self, name: str) -> None:
        try:
            data = self._opened.package.read(name)
        except (DeepRasterError, OSError) as error:
            self.source.setPlainText(str(error))
            return
        text = data[:LARGEST_SOURCE].decode("utf-8", errors="replace")
        cut = tr("\n… {} bytes more …").format(len(data) - LARGEST_SOURCE) if len(data) > LARGEST_SOURCE else ""
        self.source.setPlainText(text + cut)

    def _files(self) -> QWidget:
        files = self._opened.package.files
        table = QTableWidget(len(files), 3)
        table.setHorizontalHeaderLabels([tr("File"), tr("Bytes"), tr("SHA-256")])
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        table.verticalHeader().setVisible(False)
        for row, one in enumerate(files):
            size = QTableWidgetItem(f"{one.size:,}")
            size.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            table.setItem(row, 0, QTableWidgetItem(one.name))
            table.setItem(row, 1, size)
            table.setItem(row, 2, QTableWidgetItem(one.sha256))
        table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        return table

    def _answers(self, run: bool) -> QWidget:
        box = QDialogButtonBox()
        choices = [
            (Answer.NOT_NOW, tr("Not now"), tr("Nothing is run; you are asked again next time.")),
            (Answer.ONCE, tr("This run only"), tr("The package may run its code in the run that starts now.")),
            (
                Answer.ALWAYS,
                tr("Always, exactly this package"),
                tr("Remembered for this hash until you revoke it in the options."),
            ),
            (Answer.NEVER, tr("Never"), tr("Refused for this hash until you revoke that in the options.")),
        ]
        for answer, title, tip in choices:
            if answer is Answer.ONCE and not run:
                continue
            button = QPushButton(title)
            button.setObjectName(answer.name)
            button.setToolTip(tip)
            button.clicked.connect(lambda _checked=False, answer=answer: self._take(answer))
            left = answer is Answer.NEVER
            role = QDialogButtonBox.ButtonRole.ResetRole if left else QDialogButtonBox.ButtonRole.ActionRole
            box.addButton(button, role)
            button.setAutoDefault(answer is Answer.NOT_NOW)
            button.setDefault(answer is Answer.NOT_NOW)
            if answer is Answer.NOT_NOW:
                button.setFocus()
        return box

    def _take(self, answer: Answer) -> None:
        self.answer = answer
        self.accept() if answer is not Answer.NOT_NOW else self.reject()


def ask(opened: OpenedPackage, parent: Optional[QWidget] = None, *, run: bool = True) -> Answer:
    """Ask, remember “always” and “never”, and return the answer."""
    dialog = ConsentDialog(opened, parent, run=run)
    dialog.exec()
    package = opened.package
    if dialog.answer is Answer.ALWAYS:
        ConsentStore().allow(package.digest, package.path.name, opened.needs)
    elif dialog.answer is Answer.NEVER:
        ConsentStore().deny(package.digest, package.path.name, opened.needs)
    dialog.deleteLater()
    return dialog.answer
