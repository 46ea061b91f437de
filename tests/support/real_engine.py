"""Jobs through a real engine process, run by the interpreter that runs the tests or by another."""

from __future__ import annotations

import sys

from deep_raster.engine import client
from deep_raster.engine.environment import Environment


def run(job, told=None, is_cancelled=lambda: False, *, python=sys.executable, **more):
    """Have a job done and return its outputs; ``told`` is a list that takes its events, or a function of each."""
    hear = told if callable(told) else told.append if told is not None else lambda _: None
    environment = Environment(python=str(python), root="", frameworks=(), versions={})
    return client.run_job(job, on_event=hear, is_cancelled=is_cancelled, environment=environment, **more)
