"""Images brought to the size that older Keras models were trained at: scaled bilinearly, centred, padded with zeros.

This is the resizing of the published classifier and Mask R-CNN functions (scikit-image's ``resize`` of order 1 with
constant edges and no anti-aliasing), done with one small matrix per axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Placement:
    """Where a scaled image lies in the square it was put into, in pixels of the square."""

    top: int
    left: int
    height: int
    width: int
    side_y: int
    side_x: int


def plan_square(height: int, width: int, least: int, most: int, least_scale: float = 0) -> Placement:
    """Return the placement of an image in a square of ``most`` pixels, its shorter side at least ``least``."""
    scale = max(1.0, least / min(height, width)) if least else 1.0
    scale = max(scale, least_scale)
    if round(max(height, width) * scale) > most:
        scale = most / max(height, width)
    rows, columns = round(height * scale), round(width * scale)
    return Placement((most - rows) // 2, (most - columns) // 2, rows, columns, most, most)


def plan_multiple(height: int, width: int, least: int, least_scale: float = 0, multiple: int = 64) -> Placement:
    """Return the placement of an image in a rectangle whose sides are multiples of ``multiple``."""
    scale = max(1.0, least / min(height, width)) if least else 1.0
    scale = max(scale, least_scale)
    rows, columns = round(height * scale), round(width * scale)
    side_y, side_x = (-(-side // multiple) * multiple for side in (rows, columns))
    return Placement((side_y - rows) // 2, (side_x - columns) // 2, rows, columns, side_y, side_x)


def place(images: npt.NDArray[np.generic], placement: Placement) -> npt.NDArray[np.generic]:
    """Scale and pad images (N, rows, columns, bands); whole-number types stay and lose fractions, as published."""
    scaled = scale_images(images, placement.height, placement.width)
    shape = (len(images), placement.side_y, placement.side_x, images.shape[3])
    result = np.zeros(shape, dtype=images.dtype)
    rows = slice(placement.top, placement.top + placement.height)
    columns = slice(placement.left, placement.left + placement.width)
    result[:, rows, columns] = scaled.astype(images.dtype)
    return result


def scale_images(images: npt.NDArray[np.generic], height: int, width: int) -> npt.NDArray[Any]:
    """Scale images (N, rows, columns, bands) bilinearly; outside of an image is 0, but no value leaves its range."""
    rows, columns = images.shape[1:3]
    if (rows, columns) == (height, width):
        return images
    down, across = _weights(rows, height), _weights(columns, width)
    tall = np.tensordot(down, images.astype(np.float64, copy=False), axes=(1, 1))  # (height, N, columns, bands)
    wide = np.tensordot(across, tall, axes=(1, 2))  # (width, height, N, bands)
    limits = [reach(images, axis=(1, 2, 3), keepdims=True) for reach in (np.min, np.max)]
    return np.asarray(np.clip(wide.transpose(2, 1, 0, 3), *limits), dtype=np.float64)


def _weights(size: int, wanted: int) -> npt.NDArray[np.float64]:
    """Return the matrix from ``size`` samples to ``wanted``; samples beyond the edges count as 0."""
    places = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    low = np.floor(places).astype(np.int64)
    share = places - low
    matrix = np.zeros((wanted, size))
    line = np.arange(wanted)
    for sample, weight in ((low, 1 - share), (low + 1, share)):
        inside = (sample >= 0) & (sample < size)
        matrix[line[inside], sample[inside]] += weight[inside]
    return matrix
