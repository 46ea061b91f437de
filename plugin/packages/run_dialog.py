"""The dialog of the inference tools: asks for consent before a run that would need it.

Only this dialog asks. The modeler, batches and ``qgis_process`` never do: there the engine refuses with the hash and
the way to allow it.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from processing.gui.AlgorithmDialog import AlgorithmDialog
from qgis.core import Qgis, QgsProcessingAlgorithm
from qgis.PyQt.QtWidgets import QDialogButtonBox, QWidget

from ...engine.errors import DeepRasterError
from ...engine.package.parameters import parse_arguments
from ...engine.package.peek import may_ask
from ...processing_provider.text import tr
from .consent import Answer, ask
from .tasks import OpenedPackage, open_later

MODEL, ARGUMENTS, TRUST = "MODEL", "ARGUMENTS", "TRUST"


class AskingDialog(AlgorithmDialog):
    """Processing's own dialog with one question before the start."""

    def __init__(self, algorithm: QgsProcessingAlgorithm, parent: Optional[QWidget] = None) -> None:
        super().__init__(algorithm, False, parent)
        self._trusted_once = ""

    def runAlgorithm(self) -> None:
        model = self._text(MODEL)
        try:
            asks = bool(model) and may_ask(model)
            arguments = parse_arguments(self._text(ARGUMENTS))
        except DeepRasterError:
            asks, arguments = False, {}  # the run itself says what is wrong with the package or the arguments
        if not asks:
            super().runAlgorithm()
            return
        self._run_button().setEnabled(False)
        self.messageBar().clearWidgets()
        self.messageBar().pushMessage("", tr("Looking at the package…"), Qgis.MessageLevel.Info)
        open_later(model, self._opened, arguments)

    def _opened(self, opened: Optional[OpenedPackage], reason: str) -> None:
        self._run_button().setEnabled(True)
        self.messageBar().clearWidgets()
        if opened is not None and not opened.verdict.allowed and opened.package.digest not in self._given_trust():
            if opened.verdict.source == "denied":
                self.messageBar().pushMessage("", opened.verdict.hint, Qgis.MessageLevel.Warning)
                return
            answer = ask(opened, self)
            if answer not in (Answer.ONCE, Answer.ALWAYS):
                return
            self._trusted_once = opened.package.digest if answer is Answer.ONCE else ""
        try:
            super().runAlgorithm()
        finally:
            self._trusted_once = ""

    def createProcessingParameters(self, *arguments: Any, **named: Any) -> Dict[str, Any]:
        """Return the parameters with the consent for this run, so that the history shows what was run."""
        parameters = super().createProcessingParameters(*arguments, **named)
        if self._trusted_once:
            given = str(parameters.get(TRUST) or "").strip()
            parameters[TRUST] = f"{given},{self._trusted_once}".strip(",")
        return parameters

    def _given_trust(self) -> str:
        return self._text(TRUST).casefold()

    def _text(self, name: str) -> str:
        wrapper = self.mainWidget().wrappers.get(name)
        return str(wrapper.parameterValue() or "").strip() if wrapper is not None else ""

    def _run_button(self) -> QWidget:
        return self.buttonBox().button(QDialogButtonBox.StandardButton.Ok) or self.runButton()


def make_dialog(algorithm: QgsProcessingAlgorithm, parent: Optional[QWidget]) -> AskingDialog:
    """Return the dialog for a fresh algorithm."""
    return AskingDialog(algorithm, parent)
