"""A feedback that remembers."""

from __future__ import annotations

import time

from qgis.core import QgsProcessingFeedback


class Feedback(QgsProcessingFeedback):
    """Keeps what it is told; may cancel after so many progress texts."""

    def __init__(self, cancel_after_steps: int = 0) -> None:
        super().__init__(False)
        self.steps, self.lines, self.warnings, self.errors, self.values = [], [], [], [], []
        self._limit, self.cancelled_at = cancel_after_steps, None
        self.progressChanged.connect(self.values.append)

    def setProgressText(self, text):
        self.steps.append(text)
        if self._limit and len(self.steps) >= self._limit and self.cancelled_at is None:
            self.cancelled_at = time.monotonic()
            self.cancel()

    def pushInfo(self, text):
        self.lines.append(text)

    def pushWarning(self, text):
        self.warnings.append(text)

    def reportError(self, text, fatalError=False):
        self.errors.append(text)
