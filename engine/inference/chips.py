"""Chips around features for object classifiers: which window, and how it becomes an image of the network's size."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize

from ..raster.window import Window

Array = npt.NDArray[Any]


def chip_window(bounds: Array, width: int, height: int, fixed: bool) -> Window:
    """Return the pixels around a feature.

    Args:
        bounds: xmin, ymin, xmax, ymax of the feature in pixels.
        width: columns of the network's image.
        height: rows of the network's image.
        fixed: whether the chip has the image's size, centred on the feature; otherwise it is the smallest window around
            the feature. A feature without extent always gets the image's size.
    """
    xmin, ymin, xmax, ymax = (float(one) for one in bounds)
    if fixed or (xmax - xmin < 1e-9 and ymax - ymin < 1e-9):
        col, row = round((xmin + xmax - width) / 2), round((ymin + ymax - height) / 2)
        return Window(col, row, width, height)
    left, top = int(np.floor(xmin + 1e-6)), int(np.floor(ymin + 1e-6))
    right, bottom = int(np.ceil(xmax - 1e-6)), int(np.ceil(ymax - 1e-6))
    return Window(left, top, max(1, right - left), max(1, bottom - top))


def blackened(pixels: Array, shape: shapely.Geometry, window: Window) -> Array:
    """Return pixels (bands, rows, columns) with 0 outside ``shape``, which is in pixels of the grid.

    Points and lines have no inside; their chips stay as they are.
    """
    if shapely.get_dimensions(shape) != 2:
        return pixels
    local = shapely.transform(shape, lambda points: points - np.array([window.col, window.row], dtype=float))
    inside = rasterize([local], out_shape=(window.height, window.width), dtype="uint8").astype(bool)
    result: Array = np.where(inside, pixels, pixels.dtype.type(0))
    return result


def resized(pixels: Array, valid: Array, width: int, height: int) -> Tuple[Array, Array]:
    """Return a chip as ``width`` x ``height`` pixels of its own type: bilinear up, averaged by area steps down.

    Args:
        pixels: (bands, rows, columns).
        valid: (rows, columns).
        width: columns wanted.
        height: rows wanted.
    """
    if pixels.shape[1:] == (height, width):
        return pixels, valid
    step = (max(1, pixels.shape[1] // (2 * height)), max(1, pixels.shape[2] // (2 * width)))
    values, data = _averaged(pixels.astype(np.float64), valid, step)
    rows, row_share = _positions(values.shape[1], height)
    columns, column_share = _positions(values.shape[2], width)
    upper = _mixed(values[:, rows[0]], columns, column_share)
    lower = _mixed(values[:, rows[1]], columns, column_share)
    mixed = upper + (lower - upper) * row_share[None, :, None]
    nearest = data[np.where(row_share < 0.5, rows[0], rows[1])][:, np.where(column_share < 0.5, *columns)]
    if pixels.dtype.kind in "iu":
        limits = np.iinfo(pixels.dtype)
        mixed = np.clip(np.rint(mixed), limits.min, limits.max)
    return mixed.astype(pixels.dtype), nearest


def _averaged(values: Array, valid: Array, step: Tuple[int, int]) -> Tuple[Array, Array]:
    """Return means of blocks of ``step`` rows and columns, over valid pixels."""
    if step == (1, 1):
        return np.where(valid, values, 0), valid
    rows, columns = values.shape[1] // step[0] * step[0], values.shape[2] // step[1] * step[1]
    shape = (rows // step[0], step[0], columns // step[1], step[1])
    weight = valid[:rows, :columns].reshape(shape).sum((1, 3))
    total = np.where(valid, values, 0)[:, :rows, :columns].reshape(len(values), *shape).sum((2, 4))
    return total / np.maximum(weight, 1), weight > 0


def _positions(length: int, wanted: int) -> Tuple[Tuple[Array, Array], Array]:
    """Return the two source positions of each target pixel, and the share of the second."""
    centre = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
    first = np.floor(centre).astype(int)
    return (first, np.minimum(first + 1, length - 1)), centre - first


def _mixed(rows: Array, columns: Tuple[Array, Array], share: Array) -> Array:
    left, right = rows[:, :, columns[0]], rows[:, :, columns[1]]
    result: Array = left + (right - left) * share
    return result
