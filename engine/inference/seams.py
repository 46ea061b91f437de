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
from .nms import box_areas, pair_iou, settle

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
    them; :func:`resolve` removes the double.
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


@dataclass(frozen=True)
class Resolved:
    """What is left after :func:`resolve`.

    Attributes:
        objects: one entry an object, in the order of their first parts.
        first: (n,) position of the entry's (first) part among what was given.
        parts: for joined entries, position in ``objects`` -> positions of all parts among what was given.
    """

    objects: Objects
    first: Array
    parts: Dict[int, Array]


def resolve(objects: Objects, windows: Array) -> Resolved:
    """Join parts of objects cut by tiles and drop repeated sightings.

    Args:
        objects: of all tiles of one grid, in the order of tiles.
        windows: (n, 4) left, top, right, bottom pixels of the image in which each object was seen.
    """
    count = len(objects)
    near = _near_seam(objects, windows)
    group = np.arange(count)
    if len(near):
        one, other = _neighbours(objects, near)
        group = _join(objects, windows, one, other)
    joined, first, parts = _collapse(objects, group)
    near_joined = np.isin(first, near) if len(near) else np.zeros(len(first), bool)
    keep = np.ones(len(first), bool)
    positions = np.flatnonzero(near_joined)
    if len(positions):
        keep[positions] = _whole_ones(joined, positions, parts)
    kept = np.flatnonzero(keep)
    place = {int(old): new for new, old in enumerate(kept)}
    return Resolved(joined.take(kept), first[kept], {place[k]: v for k, v in parts.items() if k in place})


def _near_seam(objects: Objects, windows: Array) -> Array:
    """Return the objects that another tile may have seen too: those of tiles whose boxes meet another tile's image."""
    if len(np.unique(objects.tiles)) < 2:
        return np.empty(0, np.int64)
    tiles, index = np.unique(objects.tiles, return_index=True)
    images = shapely.box(*windows[index].T.astype(float))
    tree = shapely.STRtree(images)
    found, image = tree.query(shapely.box(*_grown(objects.boxes).T), predicate="intersects")
    foreign = tiles[image] != objects.tiles[found]
    return np.unique(found[foreign])


def _grown(boxes: Array) -> Array:
    grown: Array = boxes + np.array([-_REACH, -_REACH, _REACH, _REACH])
    return grown


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


def _collapse(objects: Objects, group: Array) -> Tuple[Objects, Array, Dict[int, Array]]:
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


def _whole_ones(objects: Objects, positions: Array, parts: Dict[int, Array]) -> npt.NDArray[np.bool_]:
    """Return which of the objects at ``positions`` stay when tiles saw some of them twice."""
    some = objects.take(positions)
    areas = box_areas(some.boxes)
    joined = np.isin(positions, np.fromiter(parts, np.int64, len(parts)))
    # Whole objects come before cut ones, then those of the tile that owns the place, the more certain, the larger.
    order = np.lexsort((np.arange(len(some)), -areas, -some.scores, ~some.home, some.cut > 0))

    def overlap(weaker: Array, better: Array) -> Array:
        iou = pair_iou(some.boxes[weaker], some.boxes[better])
        inside = _clipped(some.boxes[weaker], some.boxes[better])
        share = np.divide(box_areas(inside), areas[weaker], out=np.zeros(len(weaker)), where=areas[weaker] > 0)
        partial = (some.cut[weaker] > 0) | joined[better]
        foreign = (some.tiles[weaker] != some.tiles[better]) | joined[better] | joined[weaker]
        return np.where(foreign, np.where(partial, np.maximum(iou, share), iou), 0.0)

    keep = np.zeros(len(some), bool)
    stays = settle(order, shapely.box(*some.boxes.T), some.labels, _SAME - 1e-9, overlap)
    keep[order[stays]] = True
    return keep
