"""From rings of pixel edges to polygons."""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from .edges import BEGINS_TOUCHING, ENDS_TOUCHING
from .tracing import Rings, ring_areas, walk_rings

Array = npt.NDArray[Any]


def region_polygons(rings: Rings, transform: Affine) -> Array:
    """Return the polygon of each region, its outer ring first, in map coordinates of ``transform``."""
    edges, lengths, regions = _untouching(rings)
    starts = np.cumsum(lengths) - lengths
    order = np.lexsort((ring_areas(edges, starts) < 0, regions))
    lengths, regions = lengths[order], regions[order]
    begins = np.cumsum(lengths) - lengths
    edges = edges[np.arange(len(edges)) + np.repeat(starts[order] - begins, lengths)]
    # Two corners an edge, and the first one again at the end of each ring.
    ends = np.cumsum(2 * lengths + 1)
    columns, lines = np.empty(ends[-1]), np.empty(ends[-1])
    place = 2 * np.arange(len(edges)) + np.repeat(np.arange(len(lengths)), lengths)
    columns[place], columns[place + 1] = edges[:, 0], edges[:, 1]
    lines[place] = lines[place + 1] = edges[:, 2]
    columns[ends - 1], lines[ends - 1] = edges[begins, 0], edges[begins, 2]
    points = np.empty((len(columns), 2))
    points[:, 0] = transform.a * columns + transform.b * lines + transform.c
    points[:, 1] = transform.d * columns + transform.e * lines + transform.f
    counts = np.bincount(regions, minlength=len(rings.values))
    polygons: Array = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (np.append(0, ends), np.append(0, np.cumsum(counts)))
    )
    return polygons


def _untouching(rings: Rings) -> Tuple[Array, Array, Array]:
    """Return (edges, lengths, regions) with each ring split where it comes to a corner for a second time."""
    ring = np.repeat(np.arange(len(rings.lengths)), rings.lengths)
    ends = _twins(rings.edges, ring, ENDS_TOUCHING, 1)
    begins = _twins(rings.edges, ring, BEGINS_TOUCHING, 0)
    if not ends.size and not begins.size:
        return rings.edges, rings.lengths, rings.regions
    # At the end of one the way goes on as it did at the end of the other, and the same where two begin.
    count = len(ring)
    ending, beginning = np.arange(count), np.arange(count)
    ending[ends[0]], ending[ends[1]] = ends[1], ends[0]
    beginning[begins[0]], beginning[begins[1]] = begins[1], begins[0]
    following = np.arange(1, count + 1)
    stops = np.cumsum(rings.lengths)
    following[stops - 1] = stops - rings.lengths
    following = beginning[following[ending]]
    touched = np.zeros(len(rings.lengths), bool)
    touched[ring[ends[0]]] = touched[ring[begins[0]]] = True
    members = np.flatnonzero(touched[ring])
    order, lengths = _cycles(following, members)
    same = ~touched[ring]
    owner = ring[order[np.cumsum(lengths) - lengths]]
    return (
        np.concatenate([rings.edges[same], rings.edges[order]]),
        np.concatenate([rings.lengths[~touched], lengths]),
        np.concatenate([rings.regions[~touched], rings.regions[owner]]),
    )


def _twins(edges: Array, ring: Array, flag: int, member: int) -> Array:
    """Return (2, pairs) edges of one ring that have a flagged corner in common: the same begin (0), or end (1)."""
    flagged = np.flatnonzero(edges[:, 3] & flag)
    x, y, owner = edges[flagged, member], edges[flagged, 2], ring[flagged]
    order = np.lexsort((x, y, owner))
    x, y, owner = x[order], y[order], owner[order]
    first = np.flatnonzero((x[1:] == x[:-1]) & (y[1:] == y[:-1]) & (owner[1:] == owner[:-1]))
    return np.stack([flagged[order[first]], flagged[order[first + 1]]])


def _cycles(following: Array, members: Array) -> Tuple[Array, Array]:
    """Return the members of a permutation in the order of its cycles, and the lengths of those."""
    order: List[int] = []
    lengths: List[int] = []
    after = np.searchsorted(members, following[members]).tolist()
    walk_rings(after, bytearray(len(after)), order, lengths)
    return members[order], np.array(lengths, np.int64)
