"""Warnings of the engine's modules become events of the job; other libraries' chatter does not."""

from __future__ import annotations

import logging

from deep_raster.engine.events import Log
from deep_raster.engine.workers.logs import told


def test_own_warnings_are_told_while_the_task_runs():
    events = []
    own, foreign = logging.getLogger("deep_raster.engine.models.torch_runtime"), logging.getLogger("another.package")
    with told(events.append):
        own.warning("going on with %d images", 4)
        own.info("not worth telling")
        foreign.warning("deprecated")
        own.error("worse")
    own.warning("after the task")
    assert events == [Log("warning", "going on with 4 images"), Log("error", "worse")]
