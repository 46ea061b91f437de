"""A session that runs tasks in this process, networks whose right answer is known, and rasters to give them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from deep_raster.engine.errors import JobCancelled
from deep_raster.engine.models.base import Detections, TilePlan
from deep_raster.engine.session import Quarantined
from deep_raster.engine.workers.task import TASKS, TaskContext
from scipy import ndimage


class InProcessSession:
    """Runs tasks at once, in payload order or another; JSON crosses as it does between processes."""

    def __init__(self, scratch: Path, workers: int = 1, order=None) -> None:
        self.scratch, self.events, self.fractions = scratch, [], []
        self.contexts = [TaskContext(scratch, "cpu", 1, self.events.append) for _ in range(workers)]
        self.order, self.done, self.stop_after, self.poison = order, 0, None, set()

    def emit(self, event):
        self.events.append(event)

    def progress(self, fraction, text=""):
        self.fractions.append(fraction)

    def log(self, text, level="info"):
        self.events.append((level, text))

    def check_cancelled(self):
        pass

    def _run(self, task, payload, context):
        module, _, name = TASKS[task].partition(":")
        function = getattr(importlib.import_module(f"deep_raster.engine.{module}"), name)
        return json.loads(json.dumps(function(json.loads(json.dumps(payload)), context), allow_nan=False))

    def call(self, task, payload, placement=None, span=(0.0, 1.0), beside=None):
        if beside is not None:
            for context in self.contexts[1:]:
                self._run(task, beside, context)
        return self._run(task, payload, self.contexts[0])

    def each(self, task, payloads, on_receipt, placement=None):
        todo = list(enumerate(payloads))
        failed = []
        for position, (index, payload) in enumerate(self.order(todo) if self.order else todo):
            if self.stop_after is not None and self.done >= self.stop_after:
                raise JobCancelled("The job was cancelled.")
            if payload.get("group") in self.poison:
                failed.append(Quarantined(index, payload, "the worker died"))
                continue
            on_receipt(index, payload, self._run(task, payload, self.contexts[position % len(self.contexts)]))
            self.done += 1
        return failed


class BlobDetector:
    """Finds bright squares (value above 100): one box around each connected group of pixels; class by brightness."""

    def __init__(self, plan, rings=False):
        self.plan, self.rings, self.calls = plan, rings, 0

    def detect(self, pixels, valid):
        answers = []
        for image, data in zip(pixels, valid):
            self.calls += 1
            labels, _count = ndimage.label((image[0] > 100) & data)
            boxes, scores, classes, rings = [], [], [], []
            for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
                boxes.append((columns.start, rows.start, columns.stop, rows.stop))
                value = image[0][labels == number].max()
                scores.append(value / 255)
                classes.append(int(value > 200))
                x0, y0, x1, y1 = boxes[-1]
                rings.append([np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)])
            answers.append(
                Detections(
                    np.array(boxes, np.float32).reshape(-1, 4),
                    np.array(scores, np.float32),
                    np.array(classes, np.int64),
                    rings if self.rings else None,
                )
            )
        return answers


class SmoothClassifier:
    """Two classes by the sign of a 7 x 7 mean of the first band minus 100: a convolution that reaches 3 pixels."""

    def __init__(self, plan, values=(1, 2)):
        self.plan, self.values, self.calls, self.sizes = plan, values, 0, []

    def scores(self, pixels, valid):
        answers = []
        for image, data in zip(pixels, valid):
            self.calls += 1
            self.sizes.append(image.shape[1:])
            clean = np.where(data, image[0], 0).astype(np.float64)
            mean = ndimage.convolve(clean, np.ones((7, 7)), mode="constant") / 49
            second = 1 / (1 + np.exp(-(mean - 100) / 20))
            answers.append(np.stack([1 - second, second]))
        return np.stack(answers).astype(np.float32)


def write_raster(path, pixels, transform=None, crs="EPSG:32632", nodata=None, **options):
    pixels = np.asarray(pixels)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    where = {} if transform is None else {"transform": transform, "crs": crs}
    with rasterio.open(
        path, "w", driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=pixels.shape[0],
        dtype=pixels.dtype, nodata=nodata, **where, **options,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return str(path)


NORTH_UP = Affine(0.5, 0, 600000, 0, -0.5, 5000000)


def plan(size=64, halo=8, **options):
    return TilePlan(size, size, halo, **options)
