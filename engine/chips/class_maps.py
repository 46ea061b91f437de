"""Labels of chips as rasters: from features, painted once for all chips of a block if possible, or from a raster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from ..raster.window import Window, around
from .objects import ChipFrame, Objects, objects_in_chips
from .paint import paint

# A part of an object this small (pixels) counts as none, so that objects that only touch a chip are not on it.
_TOUCH = 1e-9


@dataclass(frozen=True)
class ClassMap:
    """The labels of a chip as a raster.

    Attributes:
        pixels: (rows, columns) class values; 0 where nothing is labelled.
        values: class value of each object with a part in the chip, of which no pixel need be left; of a class raster,
            the classes that occur.
    """

    pixels: npt.NDArray[Any]
    values: npt.NDArray[np.int64]


def of_raster(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], dtype: str) -> ClassMap:
    """Return a chip of a class raster; 0 where nothing is labelled, where values are negative or not whole."""
    labelled = valid & (values > 0)
    if values.dtype.kind == "f":
        labelled &= values == np.floor(values)
    pixels = np.where(labelled, values, 0).astype(dtype)
    found = np.unique(pixels)
    return ClassMap(pixels, found[found > 0].astype(np.int64))


def of_features(
    objects: Objects, frames: Sequence[ChipFrame], min_overlap: float, grid: Window, dtype: str
) -> List[ClassMap]:
    """Return the class raster of each chip; where objects overlap, the later one counts.

    Args:
        objects: in pixels of the grid.
        frames: the chips.
        min_overlap: share of an object's area that must lie in a chip.
        grid: the pixels that have an image; nothing is labelled beyond.
        dtype: of the rasters.
    """
    if not frames:
        return []
    if min_overlap > 0 or not all(one.is_shift for one in frames):
        found = objects_in_chips(objects, frames, min_overlap, grid)
        return [
            ClassMap(paint(part.geometries, part.values, (frame.height, frame.width), dtype), part.values)
            for frame, part in zip(frames, found)
        ]
    whole = around([one.window for one in frames])
    inside = whole.intersection(grid)
    canvas = np.zeros((whole.height, whole.width), dtype=dtype)
    rows, columns = inside.slices(whole)
    shape, origin = (inside.height, inside.width), (inside.col, inside.row)
    canvas[rows, columns] = paint(objects.shapes, objects.values, shape, dtype, origin)
    chip, which = _pairs(objects, [one.window.intersection(grid) for one in frames])
    starts = np.searchsorted(chip, np.arange(len(frames) + 1)).tolist()
    return [
        ClassMap(canvas[frame.window.slices(whole)], objects.values[which[begin:end]])
        for frame, begin, end in zip(frames, starts[:-1], starts[1:])
    ]


def _pairs(objects: Objects, windows: Sequence[Window]) -> Tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return positions of windows and objects that share an area, ordered by window, then object."""
    left, top, right, bottom = np.array([(one.col, one.row, one.right, one.bottom) for one in windows], dtype=float).T
    xmin, ymin, xmax, ymax = np.ascontiguousarray(objects.boxes().T)
    meet = (xmin < right[:, None]) & (xmax > left[:, None]) & (ymin < bottom[:, None]) & (ymax > top[:, None])
    chip, which = np.nonzero(meet)
    beyond_x = (xmin[which] < left[chip]) | (xmax[which] > right[chip])
    crossing = beyond_x | (ymin[which] < top[chip]) | (ymax[which] > bottom[chip])
    keep = objects.sizes()[which] > 0
    boxes = shapely.box(left + _TOUCH, top + _TOUCH, right - _TOUCH, bottom - _TOUCH)
    keep[crossing] &= shapely.intersects(objects.take(which[crossing]).geometries, boxes[chip[crossing]])
    return chip[keep], which[keep]
