"""What the engine's own modules log while a task runs, as events of its job: warnings and errors."""

from __future__ import annotations

import contextlib
import logging
from typing import Callable, Iterator

from ..events import ERROR, WARNING, Event, Log

ROOT = __package__.rpartition(".")[0] if __package__ else ""


class _Teller(logging.Handler):
    def __init__(self, emit: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = emit

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; the pipe's faults are the worker's business, not the logging module's."""
        self._tell(Log(ERROR if record.levelno >= logging.ERROR else WARNING, record.getMessage()))


@contextlib.contextmanager
def told(emit: Callable[[Event], None]) -> Iterator[None]:
    """Send what the engine's own modules log inside the block."""
    logger, handler = logging.getLogger(ROOT), _Teller(emit)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
