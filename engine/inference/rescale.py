"""Enlarged and reduced copies of tiles, for the scales of test-time augmentation; what is found comes back in place."""

from __future__ import annotations

import math
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import numpy.typing as npt

from ..models.base import Detections, TilePlan
from ..models.masks import bilinear_weights
from ..raster.window import Window
from .seams import cut_sides
from .tiles import ceil_to

Array = npt.NDArray[Any]
Detect = Callable[[Array, Array], List[Detections]]


def at_scale(detect: Detect, scale: float, plan: TilePlan) -> Detect:
    """Return a function that finds objects in copies of ``scale`` times the size, in pixels of the originals.

    A network of fixed size gets an enlarged copy in overlapping pieces, of which those that cut an object do not count,
    and a reduced one with an empty margin.

    Args:
        detect: of the network.
        scale: above 0; 1 gives ``detect`` itself.
        plan: what sizes the network takes.
    """
    if scale == 1:
        return detect

    def run(pixels: Array, valid: Array) -> List[Detections]:
        rows, columns = pixels.shape[-2:]
        height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
        copies, data = _resized(pixels, height, width), _nearest(valid, height, width)
        found: List[List[Detections]] = [[] for _ in range(len(pixels))]
        whole = Window(0, 0, width, height)
        for window in _windows(whole, plan):
            answers = detect(_cut(copies, window), _cut(data, window))
            for into, answer in zip(found, answers):
                into.append(_placed(answer, window, whole))
        return [_back(parts, columns / width, rows / height) for parts in found]

    return run


def _windows(whole: Window, plan: TilePlan) -> Iterator[Window]:
    """Yield the images that cover a copy."""
    if plan.fixed:
        for row in _starts(whole.height, plan.height):
            for col in _starts(whole.width, plan.width):
                yield Window(col, row, plan.width, plan.height)
    else:
        yield Window(0, 0, ceil_to(whole.width, plan.multiple), ceil_to(whole.height, plan.multiple))


def _starts(length: int, side: int) -> List[int]:
    """Return the beginnings of images that overlap by half or more."""
    count = max(1, math.ceil((length - side) / (side / 2)) + 1)
    return [round(place) for place in np.linspace(0, max(0, length - side), count)]


def _cut(images: Array, window: Window) -> Array:
    """Return a window of images; what lies outside is 0 (not valid)."""
    part = images[..., window.row : window.bottom, window.col : window.right]
    result = np.zeros((*images.shape[:-2], window.height, window.width), images.dtype)
    result[..., : part.shape[-2], : part.shape[-1]] = part
    return result


def _placed(found: Detections, window: Window, whole: Window) -> Detections:
    """Return what a piece has found in pixels of the copy, without what the piece cuts or what lies in its margin."""
    offset = np.array([window.col, window.row], np.float32)
    boxes = found.boxes + np.concatenate([offset, offset])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    keep = (cut_sides(boxes, window, whole) == 0) & (centres < [whole.width, whole.height]).all(axis=1)
    kept = np.flatnonzero(keep).tolist()
    rings: Optional[List[List[Array]]] = None
    if found.rings is not None:
        rings = [[np.asarray(ring, np.float64) + offset for ring in found.rings[i]] for i in kept]
    attributes = [found.attributes[i] for i in kept] if len(found.attributes) else ()
    return Detections(boxes[kept], found.scores[kept], found.labels[kept], rings, attributes)


def _back(parts: List[Detections], across: float, down: float) -> Detections:
    """Join the pieces of one image and bring them to its own pixels."""
    factor = np.array([across, down], np.float32)
    rings = None
    if all(one.rings is not None for one in parts):
        rings = [[ring * factor for ring in rings_of_one] for one in parts for rings_of_one in one.rings or ()]
    return Detections(
        np.concatenate([one.boxes for one in parts]) * np.concatenate([factor, factor]),
        np.concatenate([one.scores for one in parts]),
        np.concatenate([one.labels for one in parts]),
        rings,
        [values for one in parts for values in one.attributes],
    )


def _resized(pixels: Array, height: int, width: int) -> Array:
    """Return images brought to another size bilinearly, in their own type."""
    rows, columns = pixels.shape[-2:]
    down, across = bilinear_weights(rows, height, 0, height), bilinear_weights(columns, width, 0, width)
    values = down @ pixels.astype(np.float32) @ across.T
    if pixels.dtype.kind in "iu":
        limits = np.iinfo(pixels.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    result: Array = values.astype(pixels.dtype)
    return result


def _nearest(valid: Array, height: int, width: int) -> Array:
    rows, columns = valid.shape[-2:]
    row = np.minimum(((np.arange(height) + 0.5) * rows / height).astype(int), rows - 1)
    column = np.minimum(((np.arange(width) + 0.5) * columns / width).astype(int), columns - 1)
    result: Array = valid[:, row][:, :, column]
    return result
