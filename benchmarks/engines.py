"""Engines that jobs are measured on: started for the measurement, with a cache of their own, and watched."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
from deep_raster.engine import client, events, jobs
from deep_raster.engine.environment import Environment
from measure import Tree, temporary_environment

_TILES = re.compile(r"in ([\d,]+) tiles?")
_STATISTICS = "Statistics of predicting: "
ENVIRONMENT = Environment(python=sys.executable, root=Path(sys.prefix), frameworks=(), versions={})


@dataclass
class Outcome:
    """What one job gave and cost.

    Attributes:
        values: its named outputs.
        cpu: CPU seconds of the engine and its workers.
        wall: seconds.
        told: the events.
    """

    values: dict[str, Any]
    cpu: float
    wall: float
    told: list[events.Event] = field(default_factory=list)

    @property
    def statistics(self) -> dict[str, float]:
        """What predicting cost by stage, in CPU seconds, and the pixels of raster and network, as the log tells."""
        lines = (one.text for one in self.told if isinstance(one, events.Log))
        text = next(one for one in lines if one.startswith(_STATISTICS))
        return json.loads(text.removeprefix(_STATISTICS))

    @property
    def tiles(self) -> int:
        """Number of tiles, as the log tells."""
        lines = (one.text for one in self.told if isinstance(one, events.Log))
        return next(int(found[1].replace(",", "")) for text in lines if (found := _TILES.search(text)))


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

    def run(self, job: jobs.Job, from_start: bool = False) -> Outcome:
        """Have a job done; with ``from_start`` time and CPU count from the start of the engine."""
        told: list[events.Event] = []
        start = self._started if from_start else time.monotonic()
        before = 0.0 if from_start else self.tree.cpu
        values = self.engine.run(job, told.append, lambda: False)
        return Outcome(values, self.tree.cpu - before, time.monotonic() - start, told)


def classify(raster: Path, model: Path, output: Path, workers: int = 0, **members: Any) -> jobs.ClassifyPixels:
    """Return the job that classifies the pixels of a raster on the CPU."""
    options = jobs.RunOptions(processor=jobs.CPU, workers=workers)
    inputs = (jobs.RasterInput(str(raster)),)
    return jobs.ClassifyPixels(inputs, str(model), str(output), options=options, **members)
