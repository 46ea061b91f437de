"""Rasters to measure on: made on the fly, deterministic, compressible like an orthophoto, with a known content.

Three bands of waves, a third of a turn apart, so that their mean is the same everywhere; noise; and white squares that
a detector can find. Everything repeats every 2048 pixels but the noise of the files that say so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

Pixels = npt.NDArray[np.uint8]
ORIGIN, CELL = (5e5, 5e6), 0.5
SQUARE = 16
_PERIOD = 2048
_NOISE = 11.0
_STEP = 512


def clean(rows: npt.NDArray, columns: npt.NDArray) -> npt.NDArray[np.float32]:
    """Return (3, rows, columns) values without noise of the pixels at these rows and columns."""
    x, y = 2 * np.pi * columns / _PERIOD, 2 * np.pi * rows[:, None] / _PERIOD
    phases = (2 * np.pi * band / 3 for band in range(3))
    bands = [128 + 45 * np.sin(8 * x + phase) + 40 * np.cos(13 * y - 5 * x + phase) for phase in phases]
    return np.stack(np.broadcast_arrays(*bands)).astype(np.float32)


def classes(rows: npt.NDArray, columns: npt.NDArray) -> npt.NDArray[np.int64]:
    """Return the true class (position of the brightest band) of pixels."""
    return clean(rows, columns).argmax(0)


def squares(width: int, height: int, count: int) -> npt.NDArray[np.int64]:
    """Return (n, 2) column and row of the upper left corners of white squares, each apart from all others."""
    across, down = width // (2 * SQUARE), height // (2 * SQUARE)
    chosen = np.random.default_rng(width * height).choice(across * down, min(count, across * down), replace=False)
    return np.stack([chosen % across, chosen // across], 1) * 2 * SQUARE


def rows_of(width: int, first: int, count: int) -> Pixels:
    """Return (3, count, width) pixels of some rows; the noise does not repeat within a width of 2048 pixels."""
    random = np.random.default_rng(first)
    noise = random.standard_normal((3, count, _PERIOD), np.float32) * np.float32(_NOISE)
    pattern = clean(np.arange(first, first + count), np.arange(_PERIOD)) + noise
    image = np.clip(pattern, 0, 255).astype(np.uint8)
    return np.tile(image, (1, 1, -(-width // _PERIOD)))[:, :, :width]


def make(
    path: Path, width: int, height: int, *, block: int = 512, strips: bool = False, marks: int = 0, repeat: bool = False
) -> Path:
    """Write 3 x uint8, DEFLATE, unless it is there.

    Args:
        path: of the GeoTIFF.
        width: columns.
        height: rows.
        block: side of its tiles.
        strips: blocks of one row instead of tiles.
        marks: number of white squares.
        repeat: rows repeat as well, which makes a large file cheap to write.
    """
    if path.exists():
        return path
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    profile.update(compress="deflate", predictor=2, zlevel=1 if repeat else 6, bigtiff="if_safer", interleave="pixel")
    profile.update({"blockysize": 1} if strips else {"tiled": True, "blockxsize": block, "blockysize": block})
    corners = squares(width, height, marks) if marks else np.zeros((0, 2), int)
    part = path.with_suffix(".part.tif")
    kept: dict[int, Pixels] = {}
    with rasterio.open(part, "w", **profile, transform=from_origin(*ORIGIN, CELL, CELL), NUM_THREADS=2) as out:
        for first in range(0, height, _STEP):
            count, key = min(_STEP, height - first), first % _PERIOD if repeat else first
            image = kept[key][:, :count] if key in kept else rows_of(width, key, count)
            if repeat:
                kept[key] = image
            for column, row in corners[(corners[:, 1] >= first) & (corners[:, 1] < first + count)]:
                image[:, row - first : row - first + SQUARE, column : column + SQUARE] = 255
            out.write(image, window=Window(0, first, width, count))
    part.rename(path)
    return path


def share(path: Path) -> float:
    """Return the size of a file over that of its pixels."""
    with rasterio.open(path) as data:
        return path.stat().st_size / (data.width * data.height * data.count)
