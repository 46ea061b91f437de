"""Opens packages in a task of QGIS: hashing a large one takes seconds, and the window must stay free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from qgis.core import QgsApplication, QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ...engine.errors import DeepRasterError
from ...engine.package.card import build_card
from ...engine.package.opening import ModelPackage, open_package
from ...engine.package.trust import Verdict, needs_of, verdict
from ...processing_provider import environments
from ...processing_provider.text import tr


@dataclass(frozen=True)
class OpenedPackage:
    """A package with what the window needs to know about it.

    ``needs`` is what the package asks consent for, ``verdict`` whether it has it, ``protection`` a sentence on what
    confines its code on this computer, ``card`` its card.
    """

    package: ModelPackage
    needs: Tuple[str, ...]
    verdict: Verdict
    protection: str
    card: Dict[str, Any]


def open_completely(path: str, arguments: Optional[Mapping[str, str]] = None) -> OpenedPackage:
    """Open a package and look at everything.

    Args:
        path: of the package.
        arguments: model arguments of a run, which may ask for more than the package itself needs.

    Raises:
        DeepRasterError: it cannot be opened.
    """
    from ...engine.workers import sandbox

    package = open_package(path)
    needs = needs_of(package, arguments)
    protection = sandbox.available().sentence
    decision = verdict(package, needs)
    card = build_card(package, decision, protection if needs else "", here=False)
    card["framework"]["available"] = _has_framework(str(card["framework"].get("needs", "")))
    return OpenedPackage(package, needs, decision, protection, card)


def _has_framework(name: str) -> Optional[bool]:
    """Return whether the engine's environment has a framework, None without environment or if none is named."""
    words = {"PyTorch": "pytorch", "TensorFlow": "tensorflow", "ONNX": "onnx"}
    wanted = next((part for word, part in words.items() if name.startswith(word)), "")
    if not wanted:
        return None
    try:
        return wanted in environments.find().frameworks
    except DeepRasterError:
        return None


class OpenTask(QgsTask):
    """Opens one package; ``ended`` tells it, or the sentence of why not."""

    ended = pyqtSignal(object, str)

    def __init__(self, path: str, arguments: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(tr("Opening the model package"), QgsTask.Flag.CanCancel)
        self._path, self._arguments = path, arguments
        self._opened: Optional[OpenedPackage] = None
        self._reason = ""

    def run(self) -> bool:
        """Open it; in a thread of the task manager."""
        try:
            self._opened = open_completely(self._path, self._arguments)
        except DeepRasterError as error:
            self._reason = str(error)
        except Exception as error:
            # Whoever waits must hear of it, whatever it is.
            self._reason = tr("Unexpected fault: {}").format(f"{type(error).__name__}: {error}")
        return self._opened is not None

    def finished(self, result: bool) -> None:
        """Tell the outcome; in the main thread."""
        if self in _running:
            _running.remove(self)
        self.ended.emit(self._opened, self._reason or tr("Cancelled."))


# The task manager keeps the task, but not its Python half.
_running: List[OpenTask] = []


def open_later(
    path: str, then: Callable[[Optional[OpenedPackage], str], None], arguments: Optional[Mapping[str, str]] = None
) -> OpenTask:
    """Open a package in the background and call ``then`` with it, or with None and the sentence of why not."""
    task = OpenTask(path, arguments)
    _running.append(task)
    task.ended.connect(then)
    QgsApplication.taskManager().addTask(task)
    return task
