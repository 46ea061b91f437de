"""Set-up and check of the engine's environment as tasks of QGIS, in its task list and never in the window's way."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

from qgis.core import QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ...engine.environment import Environment, check_environment, create_environment
from ...engine.errors import DeepRasterError, JobCancelled
from ...engine.setup.removal import remove_outdated
from ...processing_provider import environments
from ...processing_provider.text import tr


class EnvironmentTask(QgsTask):
    """Runs one function that returns an environment; ``ended`` tells the environment or the sentence of what failed."""

    told = pyqtSignal(float, str)
    ended = pyqtSignal(object, str)

    def __init__(self, title: str, work: Callable[[EnvironmentTask], Environment]) -> None:
        super().__init__(title, QgsTask.Flag.CanCancel)
        self._work = work
        self._environment: Optional[Environment] = None
        self._reason = ""

    def run(self) -> bool:
        """Do the work; in a thread of the task manager."""
        try:
            self._environment = self._work(self)
        except JobCancelled:
            return False
        except DeepRasterError as error:
            self._reason = str(error)
        except Exception as error:
            # A task that raises would leave the dialog waiting for ever; the fault is shown instead.
            self._reason = tr("Unexpected fault: {}").format(f"{type(error).__name__}: {error}")
        return self._environment is not None

    def finished(self, result: bool) -> None:
        """Tell the outcome; in the main thread."""
        reason = self._reason or tr("Cancelled. The same set-up goes on where it stopped.")
        self.ended.emit(self._environment, reason)

    def progress_told(self, fraction: float, text: str) -> None:
        """Pass progress on to whoever listens."""
        self.setProgress(100.0 * fraction)
        self.told.emit(fraction, text)


def creation(
    frameworks: Tuple[str, ...], python: str, location: str, wheels: str, tidy: bool = False
) -> EnvironmentTask:
    """Return the task that makes an environment and imports every part of it once.

    With ``tidy`` the environments that earlier versions made are removed afterwards.
    """

    def work(task: EnvironmentTask) -> Environment:
        made = create_environment(
            frameworks,
            python=python,
            location=location,
            wheels=wheels,
            on_progress=task.progress_told,
            is_cancelled=task.isCanceled,
        )
        task.progress_told(1.0, tr("Trying the environment"))
        checked = check_environment(made.python, made.frameworks, imports=True)
        if tidy:
            task.progress_told(1.0, tr("Removing environments of earlier versions"))
            remove_outdated(location, task.isCanceled)
        return checked

    return EnvironmentTask(tr("Setting up the environment of Deep Raster"), work)


def examination(python: str) -> EnvironmentTask:
    """Return the task that looks at an interpreter (empty: at the environment in use)."""

    def work(task: EnvironmentTask) -> Environment:
        task.progress_told(0.0, tr("Looking at the environment"))
        return check_environment(python, imports=True) if python else environments.find()

    return EnvironmentTask(tr("Checking the environment of Deep Raster"), work)
