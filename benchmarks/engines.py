"""Engines that jobs are measured on: started for the measurement, with a cache of their own, and watched."""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import checkout  # noqa: F401
from deep_raster.engine import client, events, jobs
from deep_raster.engine.environment import Environment
from deep_raster.engine.inference.plan import Plan
from deep_raster.engine.workers.task import TASKS, TaskContext
from measure import Tree, temporary_environment

ENVIRONMENT = Environment(python=sys.executable, root=Path(sys.prefix), frameworks=(), versions={})


@dataclass
class Outcome:
    """What one job gave and cost.

    Attributes:
        values: its named outputs.
        cpu: CPU seconds of the engine and its workers.
        wall: seconds.
        told: the events, each with the seconds since the start.
    """

    values: dict[str, Any]
    cpu: float
    wall: float
    told: list[tuple[float, events.Event]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The lines of the job's log."""
        return [one.text for _, one in self.told if isinstance(one, events.Log)]

    @property
    def first_tile(self) -> float:
        """Seconds until the first group of tiles was done."""
        return next(
            when for when, one in self.told if isinstance(one, events.Progress) and one.text.startswith("Predicting")
        )


class WarmEngine:
    """An engine that stays for several jobs; use as a context manager.

    Args:
        scratch: folder for its cache.
        memory: whether memory is watched.
    """

    def __init__(self, scratch: Path, memory: bool = False) -> None:
        self._started = time.monotonic()
        with temporary_environment(DEEP_RASTER_CACHE=str(scratch / "cache")):
            self.engine = client.Engine(ENVIRONMENT)
        self.tree = Tree(self.engine.pid, memory=memory)

    def __enter__(self) -> WarmEngine:
        self.tree.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.tree.__exit__()
        self.engine.kill()

    def run(self, job: jobs.Job, is_cancelled: Callable[[], bool] = lambda: False, from_start: bool = False) -> Outcome:
        """Have a job done; with ``from_start`` time and CPU count from the start of the engine."""
        told: list[tuple[float, events.Event]] = []
        start = self._started if from_start else time.monotonic()
        before = 0.0 if from_start else self.tree.cpu
        values = self.engine.run(job, lambda event: told.append((time.monotonic() - start, event)), is_cancelled)
        wall = time.monotonic() - start
        return Outcome(values, self.tree.cpu - before, wall, told)


def classify(raster: Path, model: Path, output: Path, workers: int = 0, **members: Any) -> jobs.ClassifyPixels:
    """Return the job that classifies the pixels of a raster on the CPU."""
    options = jobs.RunOptions(processor=jobs.CPU, workers=workers)
    inputs = (jobs.RasterInput(str(raster)),)
    return jobs.ClassifyPixels(inputs, str(model), str(output), options=options, **members)


def plan_of(job: jobs.ClassifyPixels, scratch: Path) -> Plan:
    """Return how the engine cuts the raster of a job, made in this process."""
    work = scratch / "plan"
    work.mkdir(exist_ok=True)
    module, _, name = TASKS["plan_inference"].partition(":")
    task = getattr(importlib.import_module(f"deep_raster.engine.{module}"), name)
    context = TaskContext(scratch, "cpu", 1, lambda event: None)
    task({"job": jobs.to_dict(job), "work": str(work)}, context)
    return Plan.from_dict(json.loads((work / "plan.json").read_text(encoding="utf-8")))
