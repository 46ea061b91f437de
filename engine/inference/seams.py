"""Objects at the borders of tiles: parts of one are joined, and of two sightings the whole one stays.

Each tile reports the objects whose centre is its own, and those that its image cuts. Two neighbouring images share the
strip of their halos; parts of one object agree there, which is how they are recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from ..raster.window import Window
from .nms import box_areas, judge, pair_iou
from .tiles import TileLayout

Array = npt.NDArray[Any]

LEFT, TOP, RIGHT, BOTTOM = 1, 2, 4, 8
# A box this close (pixels) to the border of an image is taken to go on beyond it.
_REACH = 2.0
# Share of common area (or of common length along a seam without halo) from which two sightings are one object.
_SAME = 0.5
# A shared strip thinner than this (pixels) says little about areas; lengths along the seam decide then.
_THIN = 4


@dataclass(frozen=True)
class Objects:
    """Compact arrays of objects in pixel coordinates of the grid.

    Attributes:
        boxes: (n, 4) float64 xmin, ymin, xmax, ymax.
        scores: (n,) float32.
        labels: (n,) int64.
        tiles: (n,) int64, index of the tile that reported it.
        cut: (n,) uint8, sides (LEFT, TOP, RIGHT, BOTTOM) where the tile's image cuts it.
        home: (n,) bool, whether its centre lies in the inner window of the tile.
    """

    boxes: Array
    scores: Array
    labels: Array
    tiles: Array
    cut: Array
    home: Array

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, positions: Array) -> Objects:
        """Return the objects at ``positions``, in that order."""
        return Objects(*(getattr(self, name)[positions] for name in self.__dataclass_fields__))

    @classmethod
    def join(cls, parts: List[Objects]) -> Objects:
        """Return all objects of the parts in order."""
        if not parts:
            return cls(
                np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64),
                np.zeros(0, np.uint8), np.zeros(0, bool),
            )  # fmt: skip
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__dataclass_fields__))


def cut_sides(boxes: Array, window: Window, whole: Window) -> npt.NDArray[np.uint8]:
    """Return at which sides the image ``window`` cuts boxes (grid pixels); the edges of the grid cut nothing."""
    sides = np.zeros(len(boxes), np.uint8)
    if window.col > whole.col:
        sides[boxes[:, 0] <= window.col + _REACH] |= LEFT
    if window.row > whole.row:
        sides[boxes[:, 1] <= window.row + _REACH] |= TOP
    if window.right < whole.right:
        sides[boxes[:, 2] >= window.right - _REACH] |= RIGHT
    if window.bottom < whole.bottom:
        sides[boxes[:, 3] >= window.bottom - _REACH] |= BOTTOM
    return sides


def owned(boxes: Array, cut: Array, inner: Window, halo: int) -> npt.NDArray[np.bool_]:
    """Return which objects a tile reports: whole ones centred in its inner window, and cut ones that reach into it.

    A margin around the inner window keeps an object that two tiles place a little differently from being lost between
    them; :func:`best_sightings` removes the double.
    """
    margin = np.minimum(halo, np.maximum(4.0, 0.25 * np.sqrt(box_areas(boxes))))
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    centred = (x >= inner.col - margin) & (x < inner.right + margin)
    centred &= (y >= inner.row - margin) & (y < inner.bottom + margin)
    reaching = (boxes[:, 0] < inner.right) & (boxes[:, 2] > inner.col)
    reaching &= (boxes[:, 1] < inner.bottom) & (boxes[:, 3] > inner.row)
    return np.where(cut > 0, reaching, centred)


def at_home(boxes: Array, inner: Window) -> npt.NDArray[np.bool_]:
    """Return which boxes have their centre in the inner window of their tile."""
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    home: npt.NDArray[np.bool_] = (x >= inner.col) & (x < inner.right) & (y >= inner.row) & (y < inner.bottom)
    return home


def tile_windows(layout: TileLayout, tiles: Array) -> Array:
    """Return (n, 4) left, top, right, bottom pixels of the images of tiles."""
    columns = np.array([(one.start, one.stop) for one in layout.columns])
    rows = np.array([(one.start, one.stop) for one in layout.rows])
    row, column = np.divmod(tiles, len(columns))
    return np.stack([columns[column, 0], rows[row, 0], columns[column, 1], rows[row, 1]], axis=1)


class Seams:
    """Tells which objects another tile may have seen too: those that meet the image of another tile with objects.

    Args:
        layout: of the tiles.
        seen: (tile rows, tile columns) bool, which tiles reported an object.
    """

    def __init__(self, layout: TileLayout, seen: Array) -> None:
        self.layout, self._seen = layout, seen
        self._sums = np.zeros((seen.shape[0] + 1, seen.shape[1] + 1), np.int32)
        self._sums[1:, 1:] = seen.cumsum(0).cumsum(1)
        self._columns = np.array([(one.start, one.stop) for one in layout.columns])
        self._rows = np.array([(one.start, one.stop) for one in layout.rows])

    def near(self, objects: Objects) -> npt.NDArray[np.bool_]:
        """Return which of the objects do."""
        boxes = _grown(objects.boxes)
        left, right = _met(self._columns, boxes[:, 0], boxes[:, 2])
        top, bottom = _met(self._rows, boxes[:, 1], boxes[:, 3])
        sums = self._sums
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        row, column = np.divmod(objects.tiles, len(self._columns))
        own = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        met: npt.NDArray[np.bool_] = count > (own & self._seen[row, column])
        return met


def _met(spans: Array, low: Array, high: Array) -> Tuple[Array, Array]:
    """Return the range (first, after the last) of spans (start, stop) that ``low .. high`` meets."""
    first = np.searchsorted(spans[:, 1], low, side="left")
    return first, np.maximum(np.searchsorted(spans[:, 0], high, side="right"), first)


def _grown(boxes: Array) -> Array:
    grown: Array = boxes + np.array([-_REACH, -_REACH, _REACH, _REACH])
    return grown


def same_objects(objects: Objects, layout: TileLayout, near: Array) -> Array:
    """Return for each object the position of the first part of the object that it is part of.

    Args:
        objects: in the order of tiles.
        layout: of the tiles.
        near: which objects may go on in another tile; see :class:`Seams`.
    """
    one, other = _neighbours(objects, np.flatnonzero(near))
    return _join(objects, tile_windows(layout, objects.tiles), one, other)


def may_go_on(objects: Objects, near: Array, limit: float) -> npt.NDArray[np.bool_]:
    """Return which objects may have a part among objects that begin at the line ``limit`` or below."""
    answer: npt.NDArray[np.bool_] = near & (objects.cut > 0) & (objects.boxes[:, 3] + 2 * _REACH >= limit)
    return answer


def _neighbours(objects: Objects, near: Array) -> Tuple[Array, Array]:
    """Return pairs (earlier, later) of cut objects of one class and different tiles that meet."""
    cut = near[objects.cut[near] > 0]
    if len(cut) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    shapes = shapely.box(*_grown(objects.boxes[cut]).T)
    one, other = shapely.STRtree(shapes).query(shapes)
    wanted = one < other
    one, other = cut[one[wanted]], cut[other[wanted]]
    wanted = (objects.labels[one] == objects.labels[other]) & (objects.tiles[one] != objects.tiles[other])
    return one[wanted], other[wanted]


def _join(objects: Objects, windows: Array, one: Array, other: Array) -> Array:
    """Return the group of each object: the smallest position among the parts it belongs to."""
    shared = np.concatenate(
        [np.maximum(windows[one, :2], windows[other, :2]), np.minimum(windows[one, 2:], windows[other, 2:])], axis=1
    ).astype(float)
    clip_one, clip_other = _clipped(objects.boxes[one], shared), _clipped(objects.boxes[other], shared)
    thin = np.minimum(shared[:, 2] - shared[:, 0], shared[:, 3] - shared[:, 1]) < _THIN
    same = (pair_iou(clip_one, clip_other) >= _SAME) & ~thin
    same |= thin & _abutting(objects, one, other)
    group = np.arange(len(objects))
    for a, b in zip(one[same], other[same]):
        low, high = sorted((_root(group, int(a)), _root(group, int(b))))
        group[high] = low
    return np.array([_root(group, int(i)) if group[i] != i else i for i in range(len(group))], dtype=np.int64)


def _root(group: Array, position: int) -> int:
    while group[position] != position:
        group[position] = group[group[position]]
        position = int(group[position])
    return position


def _clipped(boxes: Array, limits: Array) -> Array:
    clipped = np.concatenate([np.maximum(boxes[:, :2], limits[:, :2]), np.minimum(boxes[:, 2:], limits[:, 2:])], axis=1)
    clipped[:, 2:] = np.maximum(clipped[:, 2:], clipped[:, :2])
    return clipped


def _abutting(objects: Objects, one: Array, other: Array) -> Array:
    """Return which pairs meet at a seam without halo: cut on facing sides, with most of their length in common."""
    a, b, cut_a, cut_b = objects.boxes[one], objects.boxes[other], objects.cut[one], objects.cut[other]
    answer = np.zeros(len(one), bool)
    for side_a, side_b, low, high in (
        (RIGHT, LEFT, 1, 3), (LEFT, RIGHT, 1, 3), (BOTTOM, TOP, 0, 2), (TOP, BOTTOM, 0, 2),
    ):  # fmt: skip
        facing = ((cut_a & side_a) > 0) & ((cut_b & side_b) > 0)
        common = np.minimum(a[:, high], b[:, high]) - np.maximum(a[:, low], b[:, low])
        union = np.maximum(a[:, high], b[:, high]) - np.minimum(a[:, low], b[:, low])
        answer |= facing & (common >= _SAME * union)
    return answer


def collapse(objects: Objects, group: Array) -> Tuple[Objects, Array, Dict[int, Array]]:
    """Return one entry a group: the box around its parts, the best score, the first part's tile, nothing cut."""
    first = np.unique(group)
    joined = objects.take(first)
    boxes, scores, cut = joined.boxes.copy(), joined.scores.copy(), joined.cut.copy()
    parts: Dict[int, Array] = {}
    lonely = np.bincount(group, minlength=len(group))[first] == 1
    order = np.argsort(group, kind="stable")
    begins = np.searchsorted(group[order], first)
    ends = np.append(begins[1:], len(order))
    for position in np.flatnonzero(~lonely):
        members = order[begins[position] : ends[position]]
        parts[int(position)] = members
        boxes[position, :2] = objects.boxes[members, :2].min(0)
        boxes[position, 2:] = objects.boxes[members, 2:].max(0)
        scores[position] = objects.scores[members].max()
        cut[position] = 0
    return Objects(boxes, scores, joined.labels, joined.tiles, cut, joined.home), first, parts


def best_sightings(
    objects: Objects, joined: Array, limit: float
) -> Tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which of the objects stay where tiles saw some of them twice, and which cannot be judged yet.

    Args:
        objects: those near seams, in the order of tiles.
        joined: which of them were made of parts.
        limit: line at which objects that are not among these may begin.
    """
    areas = box_areas(objects.boxes)
    # Whole objects come before cut ones, then those of the tile that owns the place, the more certain, the larger.
    order = np.lexsort((np.arange(len(objects)), -areas, -objects.scores, ~objects.home, objects.cut > 0))

    def overlap(weaker: Array, better: Array) -> Array:
        iou = pair_iou(objects.boxes[weaker], objects.boxes[better])
        inside = _clipped(objects.boxes[weaker], objects.boxes[better])
        share = np.divide(box_areas(inside), areas[weaker], out=np.zeros(len(weaker)), where=areas[weaker] > 0)
        partial = (objects.cut[weaker] > 0) | joined[better]
        foreign = (objects.tiles[weaker] != objects.tiles[better]) | joined[better] | joined[weaker]
        return np.where(foreign, np.where(partial, np.maximum(iou, share), iou), 0.0)

    classes = np.unique(objects.labels, return_inverse=True)[1]
    return judge(order, objects.boxes, classes, _SAME - 1e-9, overlap, objects.boxes[:, 3] > limit)
