"""Objects from the top of a raster to its bottom: joined at seams and suppressed as soon as nothing can change them.

What tiles report comes in rows of tiles. From below a certain line anything may still come; whatever reaches that line,
and whatever depends on it, is held back. The rest is final, exactly as if all objects had been looked at together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from .nms import box_areas, comparable, judge, pair_iou, polygon_overlap, ranking
from .polygons import repaired
from .seams import Objects, Seams, best_sightings, collapse, may_go_on, same_objects

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Found:
    """Objects with what belongs to them.

    Attributes:
        objects: compact arrays.
        numbers: (n,) in the order of tiles, over the whole raster.
        outlines: (n,) shapes in pixels of the grid, None where the network gives a box only.
        attributes: (n,) further attributes by name, None where there are none.
    """

    objects: Objects
    numbers: Array
    outlines: Array
    attributes: Array

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, positions: Array) -> Found:
        """Return the objects at ``positions`` (or where that is true), in that order."""
        positions = np.flatnonzero(positions) if positions.dtype == bool else positions
        rest = (getattr(self, one.name)[positions] for one in fields(self)[1:])
        return Found(self.objects.take(positions), *rest)

    @classmethod
    def join(cls, parts: Sequence[Found]) -> Found:
        """Return all objects of the parts in order."""
        rest = ([getattr(part, one.name) for part in parts] for one in fields(cls)[1:])
        return cls(Objects.join([part.objects for part in parts]), *(np.concatenate(one) for one in rest))

    @classmethod
    def empty(cls) -> Found:
        """Return no objects."""
        none = np.empty(0, dtype=object)
        return cls(Objects.join([]), np.zeros(0, np.int64), none, none)

    def in_order(self) -> Found:
        """Return the objects by their numbers."""
        return self.take(np.argsort(self.numbers, kind="stable"))

    @property
    def top(self) -> float:
        """First line that an object reaches; infinite if there are none."""
        return float(
            min(self.objects.boxes[:, 1].min(initial=np.inf), _bounds(self.outlines)[:, 1].min(initial=np.inf))
        )


def _bounds(outlines: Array) -> Array:
    """Return the rectangles of those outlines that there are."""
    bounds: Array = shapely.bounds(outlines[~shapely.is_missing(outlines)])
    return bounds[~np.isnan(bounds).any(axis=1)]


class ObjectStream:
    """Takes what tiles report, row by row of tiles, and gives what stays.

    Args:
        seams: tells what other tiles may have seen too.
        shape: of outlines: 3 lines, 4 polygons; others are never united. None if objects are boxes.
        max_overlap: of suppression, or None for none.
    """

    def __init__(self, seams: Seams, shape: Optional[int] = None, max_overlap: Optional[float] = None) -> None:
        self._seams, self._shape, self._max_overlap = seams, shape, max_overlap
        self._parts = self._sightings = self._rivals = Found.empty()
        self._joined = np.zeros(0, np.int64)

    def add(self, found: Found, limit: float) -> Found:
        """Take the objects of further tiles, numbered on, and return those that are final.

        Args:
            found: in the order of tiles.
            limit: first line that an object yet to come may reach; infinite if none will come.
        """
        whole, single = self._whole(found, limit)
        limit = min(limit, self._parts.top)
        stays = Found.join([single, self._best(whole, limit)])
        limit = min(limit, self._sightings.top)
        return stays.in_order() if self._max_overlap is None else self._suppressed(stays, limit, self._max_overlap)

    def _whole(self, found: Found, limit: float) -> Tuple[Found, Found]:
        """Join parts; return the objects near seams of which all parts are here, and those far from any seam."""
        near = self._seams.near(found.objects)
        single = found.take(~near)
        found = Found.join([self._parts, found.take(near)])
        everywhere = np.ones(len(found), bool)
        group = same_objects(found.objects, self._seams.layout, everywhere)
        unfinished = np.isin(group, group[may_go_on(found.objects, everywhere, limit)])
        self._parts = found.take(unfinished)
        found, group = found.take(~unfinished), group[~unfinished]
        group = np.unique(group, return_inverse=True)[1]
        group = np.unique(group, return_index=True)[1][group] if len(group) else group
        objects, first, parts = collapse(found.objects, group)
        whole = found.take(first)
        outlines = whole.outlines.copy()
        for position, members in parts.items():
            outlines[position] = self._united(found.outlines[members])
        self._joined = np.append(self._joined, whole.numbers[list(parts)])
        return Found(objects, whole.numbers, outlines, whole.attributes), single

    def _united(self, outlines: Array) -> Optional[shapely.Geometry]:
        """Return one outline for the parts of an object."""
        shapes = [one for one in outlines if one is not None]
        if not shapes:
            return None
        if self._shape == 4:
            return repaired(shapely.union_all(shapes))
        return shapely.line_merge(shapely.union_all(shapes)) if self._shape == 3 else shapes[0]

    def _best(self, found: Found, limit: float) -> Found:
        """Keep one of several sightings of an object."""
        found = Found.join([self._sightings, found]).in_order()
        stays, waits = best_sightings(found.objects, np.isin(found.numbers, self._joined), limit)
        self._sightings = found.take(waits)
        self._joined = self._joined[np.isin(self._joined, self._sightings.numbers)]
        return found.take(stays)

    def _suppressed(self, found: Found, limit: float, max_overlap: float) -> Found:
        """Keep the best of objects that overlap."""
        found = Found.join([self._rivals, found]).in_order()
        boxes = found.objects.boxes
        if self._shape == 4:
            rectangles = shapely.box(*boxes.T) if len(boxes) else found.outlines
            shapes = comparable(np.where(shapely.is_missing(found.outlines), rectangles, found.outlines))
            areas, boxes = np.nan_to_num(shapely.area(shapes)), shapely.bounds(shapes)
            overlap = polygon_overlap(shapes, areas, max_overlap)
        else:
            areas = box_areas(boxes)

            def overlap(one: Array, other: Array) -> Array:
                return pair_iou(boxes[one], boxes[other])

        order = ranking(found.objects.scores, areas)
        classes = np.unique(found.objects.labels, return_inverse=True)[1]
        unsure = np.maximum(boxes[:, 3], found.objects.boxes[:, 3]) > limit
        stays, waits = judge(order, boxes, classes, max_overlap, overlap, unsure)
        self._rivals = found.take(waits)
        return found.take(stays)
