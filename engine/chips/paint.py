"""Polygons to pixels, for all polygons of a chip at once; pure numpy.

A pixel belongs to a polygon if its centre lies inside by the even-odd rule, as in GDAL. Coordinates are pixels of the
chip: x to the right, y down, origin at the outer corner of the upper left pixel. Nothing loops over vertices or rows:
every crossing of an edge with a line of pixel centres becomes one integer that orders by polygon, row and column, so
that sorting the integers puts the two ends of each run of pixels side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from ..raster.simple_polygons import Shapes, polygons_of
from .objects import outlines_if_simple

# Pixels of one portion of runs; an index of eight bytes is made for each.
_PORTION = 2**20
# Polygons painted at a time: what is made of them then stays in the processor's cache, which saves a third.
_GROUP = 1000
Shape = Tuple[int, int]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Runs of pixels, ordered by polygon, then row: ``owner`` position of the polygon, ``start`` flat pixel index."""

    owner: Ints
    start: Ints
    length: Ints

    def pixels(self) -> Ints:
        """Return the flat index of every pixel of every run, in the order of the runs."""
        before = np.cumsum(self.length) - self.length
        return np.asarray(np.arange(int(self.length.sum())) + np.repeat(self.start - before, self.length))

    def portions(self) -> Iterator[Runs]:
        """Yield the runs in portions of bounded size, however many objects lie on top of each other."""
        ends = np.cumsum(self.length)
        portion = (ends - 1) // _PORTION
        borders = [0, *(np.flatnonzero(np.diff(portion)) + 1), len(ends)]
        for begin, end in zip(borders[:-1], borders[1:]):
            yield Runs(self.owner[begin:end], self.start[begin:end], self.length[begin:end])


def runs_of(geometries: Shapes, shape: Shape, origin: Tuple[float, float] = (0.0, 0.0)) -> Runs:
    """Return the runs of pixels that polygons and multi-polygons cover; other geometries cover none.

    Args:
        geometries: in pixels.
        shape: rows and columns of the raster.
        origin: x, y of the raster's upper left corner.
    """
    outlines = outlines_if_simple(geometries)
    if outlines is not None:
        return _runs(outlines.points - origin, outlines.owners(), np.arange(len(outlines)), shape)
    geometries = polygons_of(geometries)
    parts, owners = shapely.get_parts(geometries, return_index=True)
    flat = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings, ring_owner = shapely.get_rings(parts[flat], return_index=True)
    points, point_ring = shapely.get_coordinates(rings, return_index=True)
    return _runs(points - origin, point_ring, owners[flat][ring_owner], shape)


def _runs(points: Floats, point_ring: Ints, ring_owner: Ints, shape: Shape) -> Runs:
    """Return runs of closed rings: ``point_ring`` is each point's ring, ``ring_owner`` each ring's polygon."""
    rows, columns = shape
    empty = np.empty(0, dtype=np.int64)
    if len(points) < 2:
        return Runs(empty, empty, empty)
    edge = point_ring[1:] == point_ring[:-1]
    x1, y1 = points[:-1][edge].T
    x2, y2 = points[1:][edge].T
    owner = ring_owner[point_ring[:-1][edge]]
    below = np.clip(np.ceil(points[:, 1] - 0.5), 0, rows).astype(np.int64)
    one, other = below[:-1][edge], below[1:][edge]
    first = np.minimum(one, other)
    count = np.maximum(one, other) - first
    crossing = count > 0
    first, count, owner = first[crossing], count[crossing], owner[crossing]
    if not len(count):
        return Runs(empty, empty, empty)
    x1, y1, slope = x1[crossing], y1[crossing], (x2 - x1)[crossing] / (y2 - y1)[crossing]
    which = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(which)) + np.repeat(first - (np.cumsum(count) - count), count)
    x = x1[which] + (row + 0.5 - y1[which]) * slope[which]
    column = np.clip(np.ceil(x - 0.5), 0, columns).astype(np.int64)
    keys = np.sort((owner[which] * rows + row) * (columns + 1) + column)
    left, right = keys[0::2], keys[1::2]
    length = right - left
    left, length = left[length > 0], length[length > 0]
    line, column = np.divmod(left, columns + 1)
    return Runs(line // rows, (line % rows) * columns + column, length)


def paint(
    geometries: Shapes,
    values: Sequence[int] | Ints,
    shape: Shape,
    dtype: Any,
    origin: Tuple[float, float] = (0.0, 0.0),
) -> npt.NDArray[Any]:
    """Return (rows, columns) of ``dtype`` with each polygon's value inside it and 0 elsewhere; later ones win."""
    result = np.zeros(shape, dtype=dtype)
    colours = np.asarray(values).astype(dtype)
    for begin in range(0, len(geometries), _GROUP):
        group = slice(begin, begin + _GROUP)
        for runs in runs_of(geometries[group], shape, origin).portions():
            # numpy assigns in order, so the last of several values for one pixel stays
            result.reshape(-1)[runs.pixels()] = np.repeat(colours[group][runs.owner], runs.length)
    return result


def paint_rings(rings: Sequence[Floats], shape: Shape) -> npt.NDArray[np.bool_]:
    """Return the mask of one object made of rings of (n, 2) x, y points, closed or not."""
    result = np.zeros(shape, dtype=bool)
    if not rings:
        return result
    closed = [np.concatenate([one, one[:1]]) for one in rings]
    owner = np.repeat(np.arange(len(closed)), [len(one) for one in closed])
    runs = _runs(np.concatenate(closed), owner, np.zeros(len(closed), dtype=np.int64), shape)
    result.reshape(-1)[runs.pixels()] = True
    return result


def paint_instances(geometries: npt.NDArray[Any], shape: Shape) -> Tuple[npt.NDArray[Any], int]:
    """Return (bands, rows, columns) with objects numbered from 1, and their number.

    An object goes into the first band in which all its pixels are free, so overlapping objects are kept whole. Objects
    without a pixel get no number.
    """
    runs = runs_of(geometries, shape)
    bands: List[npt.NDArray[np.uint32]] = []
    number = 0
    ends = np.flatnonzero(np.diff(runs.owner)) + 1
    pixels = runs.pixels()
    at = np.concatenate([[0], np.cumsum(runs.length)])
    for begin, end in zip([0, *ends], [*ends, len(runs.owner)]):
        own = pixels[at[begin] : at[end]]
        if not len(own):
            continue
        number += 1
        band = next((one for one in bands if not one[own].any()), None)
        if band is None:
            band = np.zeros(shape[0] * shape[1], dtype=np.uint32)
            bands.append(band)
        band[own] = number
    if not bands:
        return np.zeros((1, *shape), dtype=np.uint8), 0
    smallest = np.uint8 if number < 2**8 else np.uint16 if number < 2**16 else np.uint32
    return np.stack(bands).reshape(len(bands), *shape).astype(smallest), number
