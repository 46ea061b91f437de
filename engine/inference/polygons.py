"""Outlines of objects from the rings that networks give, and simpler or right-angled ones."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

Array = npt.NDArray[Any]

# A regularised outline may change the area by this share; beyond it, the simplified outline is kept.
_AREA_CHANGE = 0.25
# A polygon that fills its smallest rectangle by this share becomes that rectangle.
_RECTANGULAR = 0.9


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


def simplified(polygons: Any, tolerance: float) -> Any:
    """Return polygons (one or an array) with fewer vertices, off by ``tolerance`` at most; they stay if that fails."""
    results = shapely.simplify(polygons, tolerance, preserve_topology=True)
    return np.where(shapely.is_empty(results) | ~shapely.is_valid(results), polygons, results)[()]


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
