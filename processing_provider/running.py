"""One job in the engine, as Processing sees it: feedback in, cancel out, every failure one sentence."""

from __future__ import annotations

import os
from typing import Any, Dict, Tuple

from qgis.core import Qgis, QgsApplication, QgsMessageLog, QgsProcessingException, QgsProcessingFeedback

from ..engine import events, jobs
from ..engine.client import run_job
from ..engine.errors import DeepRasterError, JobCancelled
from . import environments, settings
from .text import tr

DEBUG = "DEEP_RASTER_DEBUG"  # set: details for developers appear among the messages of a run


def in_desktop() -> bool:
    """Whether this is QGIS's own window, where the next job is likely to come soon."""
    return QgsApplication.platform() == "desktop"


def environment_state() -> Tuple[bool, str]:
    """Return whether there is an environment at all, and if not, what to do; quick enough for the toolbox."""
    return environments.state()


def raise_without_environment() -> None:
    """Raise the same sentence: ``canExecute`` is not asked by ``processing.run`` and ``qgis_process``."""
    ready, reason = environments.state()
    if not ready:
        raise QgsProcessingException(reason)


def raise_if_cancelled(feedback: QgsProcessingFeedback) -> None:
    """Raise the exception that ends a run which the user has stopped."""
    if feedback.isCanceled():
        raise QgsProcessingException(tr("Cancelled."))


class Narrator:
    """Passes the engine's events on to a feedback."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._text = ""

    def __call__(self, event: events.Event) -> None:
        """Show one event."""
        if isinstance(event, events.Progress):
            self._feedback.setProgress(100.0 * event.fraction)
            if event.text and event.text != self._text:
                self._text = event.text
                self._feedback.setProgressText(event.text)
        elif isinstance(event, events.Log):
            self._log(event)
        elif isinstance(event, events.Metric):
            where = tr(" (epoch {})").format(event.step) if event.step else ""
            self._feedback.pushInfo(f"{event.name}: {event.value:.4g}{where}")

    def _log(self, event: events.Log) -> None:
        if event.level == events.WARNING:
            self._feedback.pushWarning(event.text)
        elif event.level == events.ERROR:
            self._feedback.reportError(event.text)
        elif event.level == events.DEBUG:
            self._keep(event.text)
        else:
            self._feedback.pushInfo(event.text)

    def _keep(self, text: str) -> None:
        """Put what helps developers only (tracebacks) where it does not drown the sentence for the user."""
        if os.environ.get(DEBUG):
            self._feedback.pushDebugInfo(text)
        elif in_desktop():
            QgsMessageLog.logMessage(text, "Deep Raster", Qgis.MessageLevel.Info)


def run(job: jobs.Job, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
    """Have the engine do a job and return its named outputs; blocks, so never in the thread of the window.

    Raises:
        QgsProcessingException: it failed or was cancelled; the message is the sentence for the user.
    """
    idle = 60.0 * settings.idle_minutes()
    try:
        return run_job(
            job,
            on_event=Narrator(feedback),
            is_cancelled=feedback.isCanceled,
            environment=environments.find(),
            keep_warm=in_desktop() and idle > 0,
            idle=idle or 1.0,
        )
    except JobCancelled as error:
        raise QgsProcessingException(tr("Cancelled.")) from error
    except DeepRasterError as error:
        raise QgsProcessingException(sentence(error)) from error


def sentence(error: DeepRasterError) -> str:
    """Return what a person should read: what failed, at which stage, what to do."""
    return f"{error} ({error.stage})" if error.stage else str(error)
