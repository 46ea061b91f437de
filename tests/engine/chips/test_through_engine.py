"""The export as QGIS has it done: by a real engine process with real workers."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from chips_support import on_map, scene, some_polygons, write_raster, write_vector
from deep_raster.engine import client, events
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.environment import Environment
from deep_raster.engine.errors import JobCancelled
from deep_raster.engine.jobs import ExportTrainingData


@pytest.fixture(autouse=True)
def _no_engine_is_left():
    yield
    client.shutdown_engines()


def run(job, told=None, is_cancelled=lambda: False):
    environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
    sink = told.append if told is not None else (lambda event: None)
    return client.run_job(job, on_event=sink, is_cancelled=is_cancelled, environment=environment)


def content(folder):
    files = [one for one in sorted(Path(folder).rglob("*")) if one.is_file()]
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


@pytest.fixture
def big(tmp_path):
    raster = write_raster(tmp_path / "big.tif", scene(3, 1500, 3000), tiled=True)
    shapes = some_polygons(400, 1500, 3000)
    layer = write_vector(tmp_path / "l.gpkg", on_map(shapes), classvalue=np.arange(400) % 3 + 1)
    return raster, layer


def job_of(big, folder, **parameters):
    size = {"tile_size_x": 64, "tile_size_y": 64}
    return ExportTrainingData((big[0],), str(folder), "PASCAL_VOC_rectangles", labels=big[1], **size, **parameters)


def test_same_bytes_with_one_worker_and_with_two(big, tmp_path):
    told: list = []
    one = run(job_of(big, tmp_path / "one", workers=1), told)
    two = run(job_of(big, tmp_path / "two", workers=2))
    assert {**one, "OUTPUT": ""} == {**two, "OUTPUT": ""}
    assert one["CHIPS"] == len(open_chips(tmp_path / "one")) > 300
    assert content(tmp_path / "one") == content(tmp_path / "two")
    fractions = [event.fraction for event in told if isinstance(event, events.Progress)]
    assert fractions == sorted(fractions)


def test_cancel_is_quick_and_can_be_continued(big, tmp_path):
    job = job_of(big, tmp_path / "o", stride_x=28, stride_y=28)
    told: list = []
    asked: list = []

    def is_cancelled():
        started = any(isinstance(one, events.Progress) and one.fraction > 0.1 for one in told)
        if started and not asked:
            asked.append(time.monotonic())
        return started

    with pytest.raises(JobCancelled):
        run(job, told, is_cancelled)
    assert time.monotonic() - asked[0] < 2.5
    again = run(ExportTrainingData(**{**job.__dict__, "existing": "CONTINUE"}))
    assert again["CHIPS"] == len(open_chips(tmp_path / "o"))
