"""The export as QGIS has it done: by a real engine process with real workers."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from chips_support import on_map, scene, some_polygons, write_raster, write_vector
from deep_raster.engine import client, events
from deep_raster.engine.chips import staging
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.environment import Environment
from deep_raster.engine.errors import JobCancelled, JobError
from deep_raster.engine.jobs import ExportTrainingData


@pytest.fixture(autouse=True)
def _no_engine_is_left():
    yield
    client.shutdown_engines()


def run(job, told=None, is_cancelled=lambda: False, keep_warm=False):
    environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
    sink = told.append if told is not None else (lambda event: None)
    return client.run_job(job, on_event=sink, is_cancelled=is_cancelled, environment=environment, keep_warm=keep_warm)


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


class Cancel:
    """Cancels a job once it tells of a step, and notes when it asked and what else was told."""

    def __init__(self, step):
        self.step = step
        self.told: list = []
        self.asked = 0.0

    def __call__(self):
        if not self.asked and any(self.step in one.text for one in self.told if isinstance(one, events.Progress)):
            self.asked = time.monotonic()
        return bool(self.asked)


def slack():
    """Return how much later than promised an answer may come on a machine as busy as this one is now.

    It is a multiple of what the same engine takes to refuse a job, for which it has nothing to do.
    """
    began = time.monotonic()
    with pytest.raises(JobError):
        run(ExportTrainingData((), "nowhere", "no format"), keep_warm=True)
    return 1.0 + 20 * (time.monotonic() - began)


def test_cancel_is_quick_and_the_same_comes_of_it_later(big, tmp_path):
    size = {"stride_x": 40, "stride_y": 40}
    calm = run(job_of(big, tmp_path / "calm", **size), keep_warm=True)
    expected = content(tmp_path / "calm")
    assert calm["CHIPS"] == len(open_chips(tmp_path / "calm"))
    # While chips are moved, the export may be done before it hears of the cancel; what comes of it then is the same.
    for step, existing, sure in (("chips", "CONTINUE", True), ("Moving", "REPLACE", False)):
        job = job_of(big, tmp_path / step, **size)
        cancel = Cancel(step)
        with pytest.raises(JobCancelled) if sure else contextlib.suppress(JobCancelled):
            run(job, cancel.told, cancel, keep_warm=True)
        took = time.monotonic() - cancel.asked
        assert cancel.asked
        assert took < 2 + slack()
        # If it was done, the folder may be there still, but nobody takes it up.
        begun = staging.Staging(tmp_path / step).job_file.exists()
        assert not sure or list((tmp_path / step / staging.NAME / "blocks").glob("*.json"))
        told: list = []
        again = run(dataclasses.replace(job, existing=existing), told, keep_warm=True)
        assert {**again, "OUTPUT": ""} == {**calm, "OUTPUT": ""}
        assert content(tmp_path / step) == expected
        lines = [one.text for one in told if isinstance(one, events.Log)]
        notes = {"CONTINUE": "Going on with the unfinished export.", "REPLACE": "An unfinished export in the output"}
        assert any(notes[existing] in one for one in lines) or not begun
