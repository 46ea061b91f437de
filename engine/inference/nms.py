"""Non-maximum suppression: of objects that overlap too much, the best stays. Pure arrays, with a spatial index.

The greedy rule is that of the field: objects are visited from the best to the worst, and an object goes if it overlaps
a *kept* one of its class by more than ``max_overlap`` (intersection over union). Of equals, the larger comes first,
then the earlier, so that the answer never depends on the order in which a search finds neighbours.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
import shapely

Array = npt.NDArray[Any]
Overlap = Callable[[Array, Array], Array]

# The best objects are settled first and clear the field, so that crowded scenes never hold all pairs at once.
_FIRST_ROUND = 4096
# Objects that ask the index at a time: bounds the pairs that one question brings.
_QUERIES = 4096


def box_areas(boxes: Array) -> Array:
    """Return the areas of (n, 4) boxes xmin, ymin, xmax, ymax."""
    areas: Array = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return areas


def pair_iou(one: Array, other: Array) -> Array:
    """Return the intersection over union of boxes paired row by row, both (n, 4); 0 for boxes without area."""
    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = box_areas(one) + box_areas(other) - common
    shares: Array = np.divide(common, union, out=np.zeros_like(common, dtype=float), where=union > 0)
    return shares


def suppress_boxes(
    boxes: npt.ArrayLike, scores: npt.ArrayLike, labels: Optional[npt.ArrayLike] = None, max_overlap: float = 0.1
) -> npt.NDArray[np.int64]:
    """Return the positions of the boxes that stay, the best first.

    Args:
        boxes: (n, 4) xmin, ymin, xmax, ymax.
        scores: (n,); NaN counts as the worst.
        labels: (n,) classes that compete among themselves only; None: all compete.
        max_overlap: intersection over union above which the weaker goes; 0: any common area.
    """
    all_boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)

    def overlap(one: Array, other: Array) -> Array:
        return pair_iou(all_boxes[one], all_boxes[other])

    return _suppress(all_boxes, box_areas(all_boxes), np.asarray(scores, float), labels, max_overlap, overlap)


def suppress_polygons(
    polygons: npt.ArrayLike, scores: npt.ArrayLike, labels: Optional[npt.ArrayLike] = None, max_overlap: float = 0.1
) -> npt.NDArray[np.int64]:
    """Return the positions of the polygons that stay, the best first; see :func:`suppress_boxes`.

    Args:
        polygons: (n,) shapely geometries; invalid ones are repaired for the comparison; missing or empty ones stay.
        scores: (n,).
        labels: (n,) or None.
        max_overlap: intersection over union above which the weaker goes.
    """
    shapes = comparable(polygons)
    areas = np.nan_to_num(shapely.area(shapes))
    overlap = polygon_overlap(shapes, areas, max_overlap)
    return _suppress(shapely.bounds(shapes), areas, np.asarray(scores, float), labels, max_overlap, overlap)


def comparable(polygons: npt.ArrayLike) -> Array:
    """Return the polygons with invalid ones repaired."""
    shapes = np.asarray(polygons, dtype=object)
    broken = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)
    if broken.any():
        shapes = shapes.copy()
        shapes[broken] = shapely.make_valid(shapes[broken])
    return shapes


def polygon_overlap(shapes: Array, areas: Array, max_overlap: float) -> Overlap:
    """Return a function of positions that tells how much polygons overlap, exactly where it may exceed the limit.

    Polygons have no more in common than their rectangles, which settles most pairs at little cost.
    """
    boxes = shapely.bounds(shapes)

    def overlap(one: Array, other: Array) -> Array:
        width = np.minimum(boxes[one, 2], boxes[other, 2]) - np.maximum(boxes[one, 0], boxes[other, 0])
        height = np.minimum(boxes[one, 3], boxes[other, 3]) - np.maximum(boxes[one, 1], boxes[other, 1])
        common = np.minimum(np.maximum(width, 0) * np.maximum(height, 0), np.minimum(areas[one], areas[other]))
        union = areas[one] + areas[other] - common
        shares: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        # Rounding must not settle what is on the edge.
        open_pairs = np.flatnonzero(shares >= max_overlap * (1 - 1e-9))
        shares[open_pairs] = polygon_iou(shapes[one[open_pairs]], shapes[other[open_pairs]])
        return shares

    return overlap


def polygon_iou(one: Array, other: Array) -> Array:
    """Return the intersection over union of polygons paired row by row."""
    common = np.nan_to_num(shapely.area(shapely.intersection(one, other)))
    union = np.nan_to_num(shapely.area(one)) + np.nan_to_num(shapely.area(other)) - common
    shares: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def ranking(scores: Array, areas: Array) -> npt.NDArray[np.int64]:
    """Return positions from the best to the worst: higher score, larger area, earlier."""
    order: npt.NDArray[np.int64] = np.lexsort(
        (np.arange(len(scores)), -np.nan_to_num(areas), -np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf))
    )
    return order


def _suppress(
    boxes: Array,
    areas: Array,
    scores: Array,
    labels: Optional[npt.ArrayLike],
    max_overlap: float,
    overlap: Overlap,
) -> npt.NDArray[np.int64]:
    order = ranking(scores, areas)
    classes = (
        np.zeros(len(order), np.int64) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    )
    stays, _ = judge(order, boxes, classes, max_overlap, overlap)
    kept: npt.NDArray[np.int64] = order[stays[order]]
    return kept


def judge(
    ranked: Array,
    boxes: Array,
    classes: Array,
    max_overlap: float,
    overlap: Overlap,
    unsure: Optional[Array] = None,
) -> Tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return (which objects stay, which cannot be judged yet); the others go.

    Args:
        ranked: positions of all objects, from the best to the worst.
        boxes: (n, 4) rectangles around the objects, NaN for those without, which find the pairs that may overlap.
        classes: (n,) numbers of the classes, which compete among themselves only.
        max_overlap: overlap above which the weaker goes.
        overlap: function of positions (weaker, better) that returns how much they overlap.
        unsure: (n,) which objects may have better neighbours that are not among these; such an object can go, but not
            stay, and whoever it might put an end to cannot be judged either.
    """
    count = len(boxes)
    rank = np.empty(count, np.int64)
    rank[ranked] = np.arange(count)
    rectangles = _apart(boxes, classes)
    tree = shapely.STRtree(rectangles)
    alive, stays = np.ones(count, bool), np.zeros(count, bool)
    waits = np.zeros(count, bool) if unsure is None else unsure.copy()
    begin, size = 0, _FIRST_ROUND
    while begin < count:
        batch = ranked[begin : begin + size]
        batch = batch[alive[batch]]
        better, weaker = _conflicts(tree, rectangles, batch, rank, alive, max_overlap, overlap)
        won = _winners(batch, better, weaker, waits)
        stays |= won
        alive[weaker[won[better]]] = False
        waits[weaker[alive[better] & ~won[better]]] = True
        begin, size = begin + size, size * 2
    return stays, alive & ~stays


def _apart(boxes: Array, classes: Array) -> Array:
    """Return rectangles for the search, those of each class moved to a place of their own."""
    if not len(boxes):
        return np.empty(0, dtype=object)
    step = np.nanmax(boxes[:, 2], initial=0) - np.nanmin(boxes[:, 0], initial=0) + 1
    aside = classes * step
    rectangles: Array = shapely.box(boxes[:, 0] + aside, boxes[:, 1], boxes[:, 2] + aside, boxes[:, 3])
    rectangles[np.isnan(boxes).any(axis=1)] = None
    return rectangles


def _winners(batch: Array, better: Array, weaker: Array, waits: Array) -> npt.NDArray[np.bool_]:
    """Return (for all objects) who of the batch stays, given its conflicts with all weaker objects."""
    undecided, kept = np.zeros(len(waits), bool), np.zeros(len(waits), bool)
    undecided[batch] = True
    inside = undecided[weaker]
    better, weaker = better[inside], weaker[inside]
    while True:
        # Whoever has no better neighbour that is still in the race stays; its neighbours go.
        waiting, lost = waits.copy(), np.zeros(len(waits), bool)
        waiting[weaker] = True
        won = undecided & ~waiting
        if not won.any():
            return kept
        kept |= won
        lost[weaker[won[better]]] = True
        undecided &= ~won & ~lost
        open_pairs = undecided[weaker] & undecided[better]
        better, weaker = better[open_pairs], weaker[open_pairs]


def _conflicts(
    tree: shapely.STRtree,
    rectangles: Array,
    batch: Array,
    rank: Array,
    alive: Array,
    max_overlap: float,
    overlap: Overlap,
) -> Tuple[Array, Array]:
    """Return pairs (better of the batch, weaker and alive) that overlap too much."""
    found: List[Tuple[Array, Array]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for start in range(0, len(batch), _QUERIES):
        part = batch[start : start + _QUERIES]
        asking, weaker = tree.query(rectangles[part])
        better = part[asking]
        wanted = (rank[weaker] > rank[better]) & alive[weaker]
        better, weaker = better[wanted], weaker[wanted]
        too_much = overlap(weaker, better) > max_overlap
        found.append((better[too_much], weaker[too_much]))
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])
