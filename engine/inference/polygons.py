"""From pixels to polygons along pixel edges, with holes, and optional simpler outlines.

A boundary between pixels is a chain of corners, joined in turn by a horizontal and a vertical edge. All corners are
found at once, and each finds its two partners by sorting: corners of one class on one line, with the class on the same
side, pair up in order. Regions are 4-connected.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

Array = npt.NDArray[Any]

# A regularised outline may change the area by this share; beyond it, the simplified outline is kept.
_AREA_CHANGE = 0.25
# A polygon that fills its smallest rectangle by this share becomes that rectangle.
_RECTANGULAR = 0.9


def polygonize(classes: Array, skip: Sequence[float] = (0,)) -> Tuple[Array, Array]:
    """Return (values, polygons) of the 4-connected regions of equal value.

    Args:
        classes: (rows, columns) integers or booleans.
        skip: values that get no polygon.

    Returns:
        The value of each region and its shapely polygon in pixel coordinates (x right, y down, outer pixel corners),
        ordered by value, then by the first corner from the top.
    """
    values, codes = np.unique(classes, return_inverse=True)
    numbers = np.arange(1, len(values) + 1)
    numbers[np.isin(values, np.asarray(skip))] = 0
    padded = np.zeros((classes.shape[0] + 2, classes.shape[1] + 2), np.int32)
    padded[1:-1, 1:-1] = numbers[codes.reshape(classes.shape)]
    found, polygons = _polygons(padded)
    return values[found - 1], polygons


def rings_polygon(rings: Sequence[Array]) -> Optional[shapely.Geometry]:
    """Return the polygon of rings (outer first, closed or not), repaired if needed; None if it has no area."""
    usable = [np.asarray(one, float) for one in rings if len(one) >= 3]
    if not usable or len(rings[0]) < 3:
        return None
    polygon = shapely.polygons(usable[0], holes=[shapely.linearrings(one) for one in usable[1:]] or None)
    return repaired(polygon)


def rings_shape(rings: Sequence[Array], shape: int) -> Optional[shapely.Geometry]:
    """Return what rings stand for: 1 their first point, 2 all points, 3 lines, 4 a polygon; None if it is nothing."""
    if shape == 1:
        return shapely.points(rings[0][0])
    if shape == 2:
        return shapely.multipoints(np.concatenate(rings))
    if shape == 3:
        lines = [shapely.linestrings(one) for one in rings if len(one) >= 2]
        return shapely.multilinestrings(lines) if lines else None
    return rings_polygon(rings)


def repaired(polygon: shapely.Geometry) -> Optional[shapely.Geometry]:
    """Return the polygon, or a valid one of the same area (polygon or multipolygon); None if it has no area."""
    if not shapely.is_valid(polygon):
        polygon = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
        if shapely.get_type_id(polygon) not in (3, 6):
            parts = [one for one in shapely.get_parts(polygon) if shapely.get_type_id(one) in (3, 6)]
            polygon = shapely.union_all(parts) if parts else None
    return None if polygon is None or shapely.is_empty(polygon) or polygon.area <= 0 else polygon


def _polygons(padded: Array) -> Tuple[Array, Array]:
    """Return (class numbers, polygons) of an array of numbers with a frame of 0, which has none."""
    x, y, number, below, right = _corners(padded)
    if not len(x):
        return np.empty(0, np.int64), np.empty(0, dtype=object)
    across = _partners(number, below, y, x)
    along = _partners(number, right, x, y)
    # The class is kept to the right of the way: with it below one goes to the right, with it above to the left.
    begins = np.flatnonzero(np.where(below, x < x[across], x > x[across]))
    place = np.empty(len(x), np.int64)
    place[begins] = np.arange(len(begins))
    meeting = _meetings(x, y, number)
    order, ring = _cycles(place[along[across[begins]]], meeting[begins], meeting[across[begins]])
    start = begins[order]
    stop = across[start]
    points = np.stack([np.stack([x[start], y[start]], 1), np.stack([x[stop], y[stop]], 1)], 1).reshape(-1, 2) - 1.0
    rings = shapely.linearrings(points, indices=np.repeat(ring, 2))
    firsts = np.flatnonzero(np.append(True, ring[1:] != ring[:-1]))
    # The class is to the right, so outer rings turn clockwise on the screen: counter-clockwise where y points up.
    outer = shapely.is_ccw(rings)
    head = start[firsts]
    inside = np.stack([(x[head] + x[across[head]]) / 2 - 1.0, y[head] - 1.0 + np.where(below[head], 0.5, -0.5)], axis=1)
    return _with_holes(rings, number[head], outer, inside)


def _corners(padded: Array) -> Tuple[Array, Array, Array, Array, Array]:
    """Return x, y, class number, whether the class is below the horizontal and right of the vertical edge."""
    quadrants = {
        (True, True): padded[1:, 1:], (True, False): padded[1:, :-1],
        (False, True): padded[:-1, 1:], (False, False): padded[:-1, :-1],
    }  # fmt: skip
    found = []
    for (below, right), own in quadrants.items():
        beside, above = quadrants[(below, not right)], quadrants[(not below, right)]
        opposite = quadrants[(not below, not right)]
        convex = (own != beside) & (own != above)
        reflex = (own == beside) & (own == above) & (own != opposite)
        y, x = np.nonzero((convex | reflex) & (own > 0))
        found.append((x + 1, y + 1, own[y, x], np.full(len(x), below), np.full(len(x), right)))
    return tuple(np.concatenate(column) for column in zip(*found))  # type: ignore[return-value]


def _partners(number: Array, side: Array, line: Array, position: Array) -> Array:
    """Return each corner's partner on its line: in order of position, the first with the second, and so on."""
    lines, positions = int(line.max()) + 1, int(position.max()) + 1
    key = ((number.astype(np.int64) * 2 + side) * lines + line) * positions + position
    order = np.argsort(key)
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def _meetings(x: Array, y: Array, number: Array) -> Array:
    """Return for each corner the number (from 1) of its point if its region meets itself there, else 0."""
    width = int(x.max()) + 1
    key = (y * width + x) * (int(number.max()) + 1) + number
    order = np.argsort(key)
    twice = np.flatnonzero(key[order][1:] == key[order][:-1])
    point = np.zeros(len(x), np.int64)
    point[order[twice]] = point[order[twice + 1]] = twice + 1
    return point


def _cycles(following: Array, begin: Array, end: Array) -> Tuple[Array, Array]:
    """Return the edges of a permutation in the order of its rings, and the number of each one's ring.

    A ring that comes to a point (numbers ``begin`` and ``end`` of each edge, 0: none) a second time is split there, so
    that no ring touches itself.
    """
    after, begins, ends = following.tolist(), begin.tolist(), end.tolist()
    seen = bytearray(len(after))
    order: List[int] = []
    lengths: List[int] = []

    def close(ring: List[int], start: int) -> None:
        if start < len(ring):
            order.extend(ring[start:])
            lengths.append(len(ring) - start)
            del ring[start:]

    for first in range(len(after)):
        if seen[first]:
            continue
        ring: List[int] = []
        visits: Dict[int, int] = {}
        one = first
        while not seen[one]:
            seen[one] = 1
            if begins[one]:
                close(ring, visits.get(begins[one], len(ring)))
                visits[begins[one]] = len(ring)
            ring.append(one)
            if ends[one]:
                close(ring, visits.get(ends[one], len(ring)))
                visits[ends[one]] = len(ring)
            one = after[one]
        close(ring, 0)
    return np.array(order, np.int64), np.repeat(np.arange(len(lengths)), lengths)


def _with_holes(rings: Array, number: Array, outer: Array, inside: Array) -> Tuple[Array, Array]:
    """Return (class numbers, polygons): each hole goes to the smallest outer ring of its class around it."""
    shells, holes = np.flatnonzero(outer), np.flatnonzero(~outer)
    owner = np.empty(len(rings), np.int64)
    owner[shells] = np.arange(len(shells))
    if len(holes):
        solid = shapely.polygons(rings[shells])
        areas = shapely.area(solid)
        # Polygons ask for points, not the other way round: the one that asks is prepared once.
        shell, hole = shapely.STRtree(shapely.points(inside[holes])).query(solid, predicate="contains")
        same = number[holes[hole]] == number[shells[shell]]
        hole, shell = hole[same], shell[same]
        order = np.lexsort((areas[shell], hole))
        firsts = np.append(True, hole[order][1:] != hole[order][:-1])
        owner[holes[hole[order][firsts]]] = shell[order][firsts]
    order = np.lexsort((~outer, owner))
    polygons = shapely.polygons(rings[order], indices=owner[order])
    numbers = number[shells]
    order = np.argsort(numbers, kind="stable")
    return numbers[order], polygons[order]


def simplified(polygon: shapely.Geometry, tolerance: float) -> shapely.Geometry:
    """Return the polygon with fewer vertices, off by ``tolerance`` at most; itself if it would vanish."""
    result = shapely.simplify(polygon, tolerance, preserve_topology=True)
    return polygon if shapely.is_empty(result) or not shapely.is_valid(result) else result


def regularised(polygon: shapely.Geometry, tolerance: float) -> shapely.Geometry:
    """Return a right-angled outline, as buildings have; the simplified polygon where that would change it too much.

    Args:
        polygon: a polygon in coordinates of equal scale.
        tolerance: edges shorter than this are absorbed.
    """
    simple = simplified(polygon, tolerance)
    if shapely.get_type_id(simple) != 3:
        return simple
    rectangle = shapely.minimum_rotated_rectangle(simple)
    if rectangle.area <= 0:
        return simple
    if simple.area / rectangle.area >= _RECTANGULAR:
        return rectangle
    corners = shapely.get_coordinates(rectangle)
    edge = corners[1] - corners[0]
    length = float(np.hypot(*edge))
    turn = np.array([[edge[0], edge[1]], [-edge[1], edge[0]]]) / length
    rings = [_right_angled(shapely.get_coordinates(one)[:-1] @ turn.T, tolerance) for one in _rings(simple)]
    if rings[0] is None:
        return simple
    result = rings_polygon([one @ turn for one in rings if one is not None])
    if result is None or shapely.get_type_id(result) != 3 or abs(result.area / simple.area - 1) > _AREA_CHANGE:
        return simple
    return result


def _rings(polygon: shapely.Geometry) -> List[shapely.Geometry]:
    return [polygon.exterior, *polygon.interiors]


def _right_angled(points: Array, tolerance: float) -> Optional[Array]:
    """Return the ring (k, 2) with horizontal and vertical edges only; None if it collapses."""
    steps = np.roll(points, -1, axis=0) - points
    flat = np.abs(steps[:, 0]) >= np.abs(steps[:, 1])
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    changes = np.flatnonzero(flat != np.roll(flat, 1))
    if len(changes) < 4:
        return None
    lines: List[Tuple[bool, float]] = []
    for i, begin in enumerate(changes):
        end = changes[(i + 1) % len(changes)]
        run = np.arange(begin, end if end > begin else end + len(points)) % len(points)
        if lengths[run].sum() < tolerance:
            continue
        axis = 1 if flat[begin] else 0
        middle = (points[run, axis] + points[(run + 1) % len(points), axis]) / 2
        value = float(np.average(middle, weights=np.maximum(lengths[run], 1e-12)))
        if lines and lines[-1][0] == bool(flat[begin]):
            continue
        lines.append((bool(flat[begin]), value))
    if len(lines) % 2 or len(lines) < 4:
        return None
    ring = []
    for (is_flat, value), (_, following) in zip(lines, lines[1:] + lines[:1]):
        ring.append((following, value) if is_flat else (value, following))
    return np.array(ring)
