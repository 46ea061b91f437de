"""Masks of single objects as polygons, and the masks of networks that mix prototypes; numpy and rasterio's polygoniser.

Rings are (k, 2) x, y in pixels, closed, along the edges of pixels; the first ring of an object is its outline, the
others are holes.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
import numpy.typing as npt
from rasterio import features

Rings = list[npt.NDArray[np.float64]]


def mask_rings(mask: npt.NDArray[np.bool_], left: int = 0, top: int = 0) -> Optional[Rings]:
    """Return outline and holes of the largest connected part of a mask; None if the mask is empty.

    Args:
        mask: (rows, columns), True where the object is. Pixels that touch at a corner only are not connected.
        left: column of the mask's upper left corner.
        top: row of the mask's upper left corner.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    part = np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dtype=np.uint8)
    origin = np.array([left + columns[0], top + rows[0]], dtype=np.float64)
    shapes = [shape for shape, value in features.shapes(part, mask=part.astype(bool), connectivity=4) if value]
    largest = max(shapes, key=_area)
    return [np.asarray(ring, dtype=np.float64) + origin for ring in largest["coordinates"]]


def _area(shape: dict[str, list[list[tuple[float, float]]]]) -> float:
    outline, *holes = (_ring_area(ring) for ring in shape["coordinates"])
    return outline - sum(holes)


def _ring_area(ring: list[tuple[float, float]]) -> float:
    x, y = np.asarray(ring).T
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)


def prototype_rings(
    boxes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    prototypes: npt.NDArray[np.float32],
    width: int,
    height: int,
) -> list[Optional[Rings]]:
    """Return the polygon of each object of one image, as YOLO's and YOLACT's segmentation heads define it.

    The mask is the weighted sum of the prototypes, brought to the image's size bilinearly, above 0 (a probability
    above a half) and inside the box.

    Args:
        boxes: (n, 4) xmin, ymin, xmax, ymax in pixels of the image.
        coefficients: (n, k) weights.
        prototypes: (k, rows, columns), smaller than the image.
        width: columns of the image.
        height: rows of the image.
    """
    count, rows, columns = prototypes.shape
    mixed = (coefficients @ prototypes.reshape(count, -1)).reshape(-1, rows, columns)
    result: list[Optional[Rings]] = []
    for box, values in zip(boxes, mixed):
        # The pixel r is inside when xmin <= r < xmax, so the first is the ceiling of both ends.
        left, right = (int(np.clip(np.ceil(edge), 0, width)) for edge in box[[0, 2]])
        top, bottom = (int(np.clip(np.ceil(edge), 0, height)) for edge in box[[1, 3]])
        if right <= left or bottom <= top:
            result.append(None)
            continue
        down = bilinear_weights(rows, height, top, bottom)
        across = bilinear_weights(columns, width, left, right)
        result.append(mask_rings(down @ values @ across.T > 0, left, top))
    return result


def bilinear_weights(size: int, full: int, first: int, last: int) -> npt.NDArray[np.float32]:
    """Return the matrix that brings ``size`` samples to pixels ``first .. last - 1`` of ``full``, by pixel centres."""
    places = np.clip((np.arange(first, last) + 0.5) * size / full - 0.5, 0, size - 1)
    low = np.minimum(places.astype(np.int64), max(size - 2, 0))
    share = (places - low).astype(np.float32)
    matrix = np.zeros((last - first, size), np.float32)
    line = np.arange(last - first)
    matrix[line, low] = 1 - share
    matrix[line, np.minimum(low + 1, size - 1)] += share
    return matrix
