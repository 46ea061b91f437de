"""A session that runs tasks in this process, and small scenes whose every pixel is known."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from deep_raster.engine.errors import JobCancelled
from deep_raster.engine.jobs import RasterInput, VectorInput
from deep_raster.engine.workers.task import TASKS, TaskContext
from rasterio.transform import from_origin

UTM = "EPSG:32633"
LEFT, TOP, CELL = 500000.0, 5000000.0, 0.5


@dataclass
class LocalSession:
    """Runs tasks in this process, in an order that a test may change, with everything through JSON."""

    scratch: Path
    reverse: bool = False
    cancel_after: int = -1
    logs: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._context = TaskContext(self.scratch, "cpu", 1, lambda event: None)

    def emit(self, event: Any) -> None:
        pass

    def progress(self, fraction: float, text: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, text: str, level: str = "info") -> None:
        self.logs.append(text)

    def check_cancelled(self) -> None:
        if self.cancel_after == 0:
            raise JobCancelled("The job was cancelled.")

    def call(self, task: str, payload: dict, placement: Any = None, span: Any = None) -> dict:
        self.check_cancelled()
        self.cancel_after -= 1
        self.calls.append(task)
        module, _, name = TASKS[task].partition(":")
        function = getattr(importlib.import_module(f"deep_raster.engine.{module}"), name)
        return json.loads(json.dumps(function(json.loads(json.dumps(payload)), self._context)))

    def each(self, task: str, payloads: Any, on_receipt: Any, placement: Any = None) -> list:
        listed = list(enumerate(payloads))
        for index, payload in reversed(listed) if self.reverse else listed:
            on_receipt(index, payload, self.call(task, payload))
        return []


def scene(bands=3, height=200, width=300, dtype="uint8") -> np.ndarray:
    """Pixels that differ from their neighbours everywhere."""
    values = np.arange(bands * height * width, dtype=np.uint64).reshape(bands, height, width)
    limit = 250 if dtype in ("uint8", "int8") else 30000
    return (values * 2654435761 % limit + 1).astype(dtype)


def write_raster(path, pixels, crs=UTM, transform=None, **options) -> RasterInput:
    profile = {"driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    profile.update(dtype=pixels.dtype, crs=crs, transform=transform or from_origin(LEFT, TOP, CELL, CELL), **options)
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels)
    return RasterInput(str(path))


def write_vector(path, geometries, crs=UTM, **fields) -> VectorInput:
    wkb = shapely.to_wkb(np.array(geometries, dtype=object))
    data = [np.array(one) for one in fields.values()]
    pyogrio.raw.write(str(path), wkb, data, list(fields), geometry_type="Unknown", crs=crs)
    return VectorInput(str(path))


def on_map(geometry):
    """Move a geometry from pixels of the scene to its map."""
    return shapely.transform(geometry, lambda p: np.column_stack([LEFT + CELL * p[:, 0], TOP - CELL * p[:, 1]]))


def some_polygons(count=60, height=200, width=300, seed=3):
    """Stars and rings across the scene and its edges, in pixels of the scene."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        x, y, size = random.uniform(-5, width + 5), random.uniform(-5, height + 5), random.uniform(2, 22)
        angles = np.arange(9) * 2 * np.pi / 9
        radii = size * random.uniform(0.5, 1, 9)
        shape = shapely.Polygon(np.column_stack([x + radii * np.cos(angles), y + radii * np.sin(angles)]))
        if index % 5 == 0:
            shape = shape.difference(shapely.Point(x, y).buffer(size * 0.25))
        found.append(shape)
    return np.array(found, dtype=object)
