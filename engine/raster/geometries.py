"""Geometries as read from a layer: decoded, repaired where they are invalid, brought to another CRS."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from shapely.io import DecodingErrorOptions

from ..errors import VectorError
from .grid import parse_crs, transform_points
from .simple_polygons import Geometries

# Rings that do not end where they begin are closed, which shapely 2.0 cannot do yet.
_ON_INVALID: Any = "fix" if hasattr(DecodingErrorOptions, "fix") else "ignore"


def from_wkb(wkb: npt.NDArray[Any]) -> Tuple[Geometries, npt.NDArray[np.bool_]]:
    """Return valid geometries (None or empty where there is nothing) and which of them had to be repaired."""
    geometries = np.asarray(shapely.from_wkb(wkb, on_invalid=_ON_INVALID))
    return geometries, _repair(geometries)


def _repair(geometries: Geometries) -> npt.NDArray[np.bool_]:
    """Make invalid geometries valid in place and return which they were."""
    invalid = ~(shapely.is_valid(geometries) | shapely.is_missing(geometries))
    if invalid.any():
        geometries[invalid] = shapely.make_valid(geometries[invalid])
    return np.asarray(invalid)


def reprojected(geometries: Geometries, source: str, target: str) -> Geometries:
    """Return geometries in ``target``, valid; None in place of what it cannot represent.

    Raises:
        VectorError: only one of the two has a place on Earth.
    """
    from_crs, to_crs = parse_crs(source), parse_crs(target)
    if from_crs is None or to_crs is None:
        raise without_crs()
    points = shapely.get_coordinates(geometries)
    if not len(points):
        return geometries
    moved = np.column_stack(transform_points(from_crs, to_crs, points[:, 0], points[:, 1]))
    counts = shapely.get_num_coordinates(geometries)
    bad_points = ~np.isfinite(moved).all(axis=1)
    owners = np.repeat(np.arange(len(geometries)), counts)
    bad = np.zeros(len(geometries), dtype=bool)
    bad[owners[bad_points]] = True
    moved[bad_points] = 0.0
    result = np.asarray(shapely.set_coordinates(geometries.copy(), moved))
    result[bad] = None
    _repair(result)
    return result


def without_crs() -> VectorError:
    """Return the error for labels that have a CRS while the raster has none."""
    return VectorError(
        "The labels have a coordinate reference system but the raster has none.",
        stage="reading labels",
        hint="Set the raster's CRS, or remove the CRS of the labels if they are drawn in pixels.",
    )
