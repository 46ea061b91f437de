"""Rotated boxes: their corners, and suppression by the overlap of their areas; numpy and shapely."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float32]


def corners(boxes: Floats, angles: Floats) -> npt.NDArray[np.float64]:
    """Return (n, 4, 2) corners of boxes (n, 4) centre x, centre y, width, height, turned by ``angles`` in radians.

    Angles turn the x axis towards the y axis, which points down.
    """
    values = boxes.astype(np.float64)
    cosine, sine = np.cos(angles.astype(np.float64)), np.sin(angles.astype(np.float64))
    along = values[:, 2:3] / 2 * np.stack([cosine, sine], axis=1)
    across = values[:, 3:4] / 2 * np.stack([-sine, cosine], axis=1)
    centre = values[:, :2]
    around = [centre + along + across, centre + along - across, centre - along - across, centre - along + across]
    return np.stack(around, axis=1)


def keep_best(rings: npt.NDArray[np.float64], overlap: float) -> npt.NDArray[np.int64]:
    """Return the places of the boxes (n, 4, 2), best first, that no better one overlaps by more than ``overlap``."""
    polygons = shapely.polygons(rings)
    areas = shapely.area(polygons)
    tree = shapely.STRtree(polygons)
    alive = np.ones(len(polygons), bool)
    for place, polygon in enumerate(polygons):
        if alive[place]:
            others = tree.query(polygon)
            others = others[(others > place) & alive[others]]
            common = shapely.area(shapely.intersection(polygon, polygons[others]))
            alive[others[common > overlap * (areas[place] + areas[others] - common)]] = False
    return np.flatnonzero(alive).astype(np.int64)
