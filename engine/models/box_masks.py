"""Masks that lie in their boxes, as TensorFlow's Object Detection API gives them, as outlines in the image.

A mask's corner samples lie on its box's corners, and the image's corner pixels on the image's corners: the geometry of
``reframe_box_masks_to_image_masks`` of that library (Apache-2.0).
"""

from __future__ import annotations

from typing import List, Optional

import numpy as np
import numpy.typing as npt

from .masks import Rings, mask_rings

Floats = npt.NDArray[np.float32]


def box_mask_rings(masks: Floats, boxes: Floats, width: int, height: int) -> List[Optional[Rings]]:
    """Return the outlines of objects; None for an object whose mask is empty.

    Args:
        masks: (n, rows, columns) of probabilities inside the box, or of the whole image if they have its size.
        boxes: (n, 4) xmin, ymin, xmax, ymax in pixels.
        width: of the image.
        height: of the image.
    """
    if masks.shape[1:] == (height, width):
        return [mask_rings(mask > 0.5) for mask in masks]
    rings: List[Optional[Rings]] = []
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist()):
        rows, down = _samples(top, bottom, height, mask.shape[0])
        columns, across = _samples(left, right, width, mask.shape[1])
        inside = len(rows) and len(columns)
        rings.append(mask_rings(down @ mask @ across.T > 0.5, int(columns[0]), int(rows[0])) if inside else None)
    return rings


def _samples(low: float, high: float, size: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the pixels that lie in a box along one axis, and the matrix from the mask's samples to them."""
    if high <= low:
        return np.zeros(0, np.int64), np.zeros((0, count))
    pixels = np.arange(size)
    places = (pixels * size / max(1, size - 1) - low) / (high - low) * (count - 1)
    inside = np.flatnonzero((places >= 0) & (places <= count - 1))
    places = places[inside]
    first = np.minimum(np.floor(places).astype(np.int64), max(0, count - 2))
    matrix = np.zeros((len(inside), count))
    line = np.arange(len(inside))
    matrix[line, first] = 1 - (places - first)
    matrix[line, np.minimum(first + 1, count - 1)] += places - first
    return inside, matrix
