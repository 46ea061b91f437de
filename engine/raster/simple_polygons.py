"""Polygons without holes as runs of points: what is asked of all of them at once is answered in numpy.

A geometry library keeps each polygon somewhere else in memory, and of tens of thousands of small ones most of the time
goes into waiting for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt
import shapely

from .grid import Bounds

Geometries = npt.NDArray[np.object_]
# Byte order, kind, number of rings, number of points: what comes before the points of a polygon with one ring.
_HEAD, _LITTLE, _POLYGON = 13, 1, 3
# Beyond this share of its two products, the sign of their difference is certain (Shewchuk 1997, with room to spare).
_ROUNDING = 1e-15


@dataclass(frozen=True)
class Outlines:
    """Closed rings.

    Attributes:
        points: (n, 2) x, y of all rings, one ring after the other; the last point of each is its first.
        counts: number of points of each ring, at least 4.
    """

    points: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, geometries: Geometries) -> Outlines:
        """Return the outlines of polygons without holes, none of them empty."""
        counts = np.asarray(shapely.get_num_coordinates(geometries), dtype=np.int64)
        return cls(shapely.get_coordinates(geometries), counts)

    @classmethod
    def from_wkb(cls, wkb: npt.NDArray[Any]) -> Optional[Outlines]:
        """Return the outlines if all are valid polygons without holes; else None, and a closer look is needed."""
        if not len(wkb) or any(one is None for one in wkb):
            return None
        lengths = np.fromiter(map(len, wkb), np.int64, len(wkb))
        counts, rest = np.divmod(lengths - _HEAD, 16)
        if rest.any() or counts.min() < 4:
            return None
        heads = np.frombuffer(b"".join([one[:_HEAD] for one in wkb]), np.uint8).reshape(-1, _HEAD)
        kinds, rings, numbers = np.ascontiguousarray(heads[:, 1:]).view("<u4").T
        if (
            (heads[:, 0] != _LITTLE).any()
            or (kinds != _POLYGON).any()
            or (rings != 1).any()
            or (numbers != counts).any()
        ):
            return None
        points = np.frombuffer(b"".join([one[_HEAD:] for one in wkb]), "<f8").reshape(-1, 2)
        found = cls(points.astype(np.float64, copy=False), counts)
        if not np.isfinite(points).all() or (points[found._starts] != points[found._ends - 1]).any():
            return None
        doubtful = ~found.surely_valid()
        return found if shapely.is_valid(found[doubtful].polygons()).all() else None

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.asarray(np.cumsum(self.counts))

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.asarray(self._ends - self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> Outlines:
        """Return the outlines at ``index`` (positions, a boolean mask or a slice)."""
        if isinstance(index, np.ndarray) and index.dtype == bool and index.all():
            return self
        counts = self.counts[index]
        if isinstance(index, slice) and index.step in (None, 1):
            first = int(self.counts[: index.indices(len(self))[0]].sum())
            return Outlines(self.points[first : first + int(counts.sum())], counts)
        shifts = self._starts[index] - (np.cumsum(counts) - counts)
        return Outlines(self.points[np.arange(int(counts.sum())) + np.repeat(shifts, counts)], counts)

    def moved(self, points: npt.NDArray[np.float64]) -> Outlines:
        """Return the same outlines with other points."""
        return Outlines(points, self.counts)

    def owners(self) -> npt.NDArray[np.int64]:
        """Return the position of the outline that each point belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    def polygons(self) -> Geometries:
        """Return shapely polygons."""
        offsets = np.concatenate([[0], self._ends])
        rings = np.arange(len(offsets))
        return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, self.points, (offsets, rings)))

    def bounds(self) -> npt.NDArray[np.float64]:
        """Return (n, 4) xmin, ymin, xmax, ymax."""
        if not len(self):
            return np.empty((0, 4))
        x, y = np.ascontiguousarray(self.points.T)
        least, most = np.minimum.reduceat, np.maximum.reduceat
        return np.column_stack([one(axis, self._starts) for one in (least, most) for axis in (x, y)])

    def areas(self) -> npt.NDArray[np.float64]:
        """Return areas in square units of the points."""
        if not len(self):
            return np.empty(0)
        x, y = self._centred
        turns = x[:-1] * y[1:] - x[1:] * y[:-1]
        turns[self._ends[:-1] - 1] = 0  # from the last point of one ring to the first of the next
        return np.abs(np.add.reduceat(turns, self._starts)) / 2

    def meeting(self, bounds: Bounds) -> npt.NDArray[np.bool_]:
        """Return which outlines meet the rectangle; only those that reach beyond it need a closer look."""
        boxes, limits = self.bounds(), np.array(bounds)
        beyond = (boxes[:, :2] < limits[:2]).any(axis=1) | (boxes[:, 2:] > limits[2:]).any(axis=1)
        found = np.ones(len(self), dtype=bool)
        found[beyond] = shapely.intersects(self[beyond].polygons(), shapely.box(*bounds))
        return found

    def surely_valid(self) -> npt.NDArray[np.bool_]:
        """Return which are valid beyond doubt, because all of their outline is seen from the middle of their corners.

        Seen from there, each edge must turn the same way, by more than rounding could feign, and all edges together
        once around. Such a ring cannot meet itself. Others may be valid as well.
        """
        if not len(self):
            return np.empty(0, dtype=bool)
        x, y = self._centred
        one, other = x[:-1] * y[1:], x[1:] * y[:-1]
        turn, doubt = one - other, _ROUNDING * (np.abs(one) + np.abs(other))
        left, right = turn > doubt, turn < -doubt
        rising = (y[:-1] < 0) & (y[1:] >= 0)
        between = self._ends[:-1] - 1
        left[between] = right[between] = True
        rising[between] = False
        same_way = np.logical_and.reduceat(left, self._starts) | np.logical_and.reduceat(right, self._starts)
        return np.asarray(same_way & (np.add.reduceat(rising, self._starts, dtype=np.int64) == 1))

    @cached_property
    def _centred(self) -> npt.NDArray[np.float64]:
        """X and y of all points relative to the middle of their outline's."""
        axes = []
        for axis in np.ascontiguousarray(self.points.T):
            middle = np.add.reduceat(axis, self._starts) / self.counts
            axes.append(axis - np.repeat(middle, self.counts))
        return np.stack(axes)


Shapes = Union[Geometries, Outlines]


def polygons_of(shapes: Shapes) -> Geometries:
    """Return shapely geometries, whichever way the shapes are kept."""
    return shapes.polygons() if isinstance(shapes, Outlines) else shapes
