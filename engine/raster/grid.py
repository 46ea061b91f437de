"""The processing grid: which pixels a job works on, derived from its rasters, its cell size and its extent.

A grid without CRS lives in pixel space. An image that has no georeference at all gets the transform under which QGIS
shows it: x is the column, y is minus the row, so that features drawn over the image in QGIS fall on the right pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, Optional, Sequence, Tuple, TypeVar

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as warp_points

from ..errors import JobError, RasterError
from ..jobs import Extent
from .window import Window

Bounds = Tuple[float, float, float, float]
Array = npt.NDArray[np.float64]
Number = TypeVar("Number", float, "np.ndarray[Any, Any]")

IMAGE_TRANSFORM = Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
_MAX_SIDE = 2**31 - 1
# Pixels by which an edge may miss a whole number and still count as on it; rounding of coordinates stays far below.
_SNAP = 1e-3


@dataclass(frozen=True)
class Grid:
    """Pixels of equal size in one CRS.

    Attributes:
        crs: WKT of the coordinate reference system; empty if there is none.
        transform: (column, row) of outer pixel corners to map x, y; any invertible affine map.
        width: number of columns.
        height: number of rows.
    """

    crs: str
    transform: Affine
    width: int
    height: int

    @property
    def window(self) -> Window:
        """All pixels of the grid."""
        return Window(0, 0, self.width, self.height)

    @property
    def bounds(self) -> Bounds:
        """Smallest rectangle around the grid in map units: xmin, ymin, xmax, ymax."""
        return self.window_bounds(self.window)

    @property
    def cell_size(self) -> Tuple[float, float]:
        """Length of a step by one column and by one row, in map units."""
        return math.hypot(self.transform.a, self.transform.d), math.hypot(self.transform.b, self.transform.e)

    @property
    def is_north_up(self) -> bool:
        """Whether columns run along +x and rows along -y."""
        one = self.transform
        return bool(one.b == 0 and one.d == 0 and one.a > 0 and one.e < 0)

    def to_map(self, x: Number, y: Number) -> Tuple[Number, Number]:
        """Return map coordinates of pixel coordinates (columns, rows; floats or arrays)."""
        one = self.transform
        return one.a * x + one.b * y + one.c, one.d * x + one.e * y + one.f

    def to_pixel(self, x: Number, y: Number) -> Tuple[Number, Number]:
        """Return pixel coordinates (columns, rows) of map coordinates (floats or arrays)."""
        one = ~self.transform
        return one.a * x + one.b * y + one.c, one.d * x + one.e * y + one.f

    def window_transform(self, window: Window) -> Affine:
        """Return the transform of an array whose pixel (0, 0) is the window's upper left one."""
        return self.transform * Affine.translation(window.col, window.row)

    def window_bounds(self, window: Window) -> Bounds:
        """Return the smallest rectangle in map units around the window: xmin, ymin, xmax, ymax."""
        x, y = self.to_map(
            np.array([window.col, window.right, window.right, window.col], dtype=float),
            np.array([window.row, window.row, window.bottom, window.bottom], dtype=float),
        )
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def sub_grid(self, window: Window) -> Grid:
        """Return the grid of the window's pixels; the window may reach beyond this grid."""
        return Grid(self.crs, self.window_transform(window), window.width, window.height)

    def offset_in(self, other: Grid) -> Optional[Tuple[int, int]]:
        """Return the (column, row) of this grid's origin in ``other`` if both share their pixels, else None."""
        if not same_crs(self.crs, other.crs):
            return None
        steps = ~other.transform * self.transform
        span = max(self.width, self.height, other.width, other.height)
        if max(abs(steps.a - 1), abs(steps.b), abs(steps.d), abs(steps.e - 1)) * span > _SNAP * 100:
            return None
        col, row = round(steps.c), round(steps.f)
        aligned = abs(steps.c - col) < _SNAP * 10 and abs(steps.f - row) < _SNAP * 10
        return (col, row) if aligned else None

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members; :meth:`from_dict` is the inverse."""
        return {"crs": self.crs, "transform": list(self.transform)[:6], "width": self.width, "height": self.height}

    @classmethod
    def from_dict(cls, members: Dict[str, Any]) -> Grid:
        """Build a grid from the members that :meth:`to_dict` returns."""
        transform = Affine(*(float(one) for one in members["transform"]))
        return cls(str(members["crs"]), transform, int(members["width"]), int(members["height"]))


@lru_cache(maxsize=256)
def parse_crs(text: str) -> Optional[CRS]:
    """Return the CRS of WKT or an authority code; None for an empty text or a local one without place on Earth.

    Raises:
        RasterError: nobody knows a CRS of that name.
    """
    if not text.strip():
        return None
    if text.lstrip().upper().startswith(("LOCAL_CS", "ENGCRS", "ENGINEERINGCRS")):
        return None
    try:
        found = CRS.from_user_input(text)
    except (CRSError, ValueError) as error:
        raise RasterError(
            f"“{text[:80]}” is no coordinate reference system that can be used.",
            stage="reading",
            hint="Set the layer's CRS in its properties.",
        ) from error
    return found if found.is_projected or found.is_geographic or _is_earth(found) else None


def _is_earth(crs: CRS) -> bool:
    return not crs.to_wkt().upper().startswith(("LOCAL_CS", "ENGCRS", "ENGINEERINGCRS"))


@lru_cache(maxsize=256)
def same_crs(one: str, other: str) -> bool:
    """Return whether two CRS texts mean the same system (two empty ones do)."""
    return one == other or parse_crs(one) == parse_crs(other)


def transform_points(source: CRS, target: CRS, x: Array, y: Array) -> Tuple[Array, Array]:
    """Return coordinates in ``target``; NaN for those that it cannot represent."""
    outside = np.abs(y) > 90 if source.is_geographic else np.zeros(len(y), dtype=bool)
    if outside.any():
        x, y = np.where(outside, np.nan, x), np.where(outside, np.nan, y)
        result = np.full((2, len(x)), np.nan)
        result[:, ~outside] = transform_points(source, target, x[~outside], y[~outside])
        return result[0], result[1]
    try:
        xs, ys = (np.asarray(one, dtype=float) for one in warp_points(source, target, x, y))
    except CPLE_BaseError:  # PROJ gives up on the whole call for one bad point; halving finds it
        if len(x) == 1:
            return np.array([np.nan]), np.array([np.nan])
        half = len(x) // 2
        first = transform_points(source, target, x[:half], y[:half])
        second = transform_points(source, target, x[half:], y[half:])
        return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
    bad = ~(np.isfinite(xs) & np.isfinite(ys))
    xs[bad] = ys[bad] = np.nan
    return xs, ys


def transform_bounds(bounds: Bounds, source: str, target: str, points: int = 21) -> Bounds:
    """Return the rectangle in ``target`` around a rectangle in ``source``, edges and interior followed by points.

    Parts that the target system cannot represent are left out.

    Raises:
        JobError: nothing of the rectangle can be represented in the target system.
    """
    if same_crs(source, target):
        return bounds
    from_crs, to_crs = parse_crs(source), parse_crs(target)
    if from_crs is None or to_crs is None:
        raise JobError(
            "Coordinates cannot be brought onto the raster, because only one of the two has a CRS.",
            hint="Set the CRS of the layer that lacks it.",
        )
    x, y = np.meshgrid(np.linspace(bounds[0], bounds[2], points), np.linspace(bounds[1], bounds[3], points))
    xs, ys = transform_points(from_crs, to_crs, x.ravel(), y.ravel())
    good = np.isfinite(xs)
    if not good.any():
        raise JobError("The extent cannot be represented in the coordinate system of the raster.")
    xs, ys = xs[good], ys[good]
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def plan_grid(
    source_grids: Sequence[Grid], extent: Optional[Extent], cell_size: float, pixel_space: bool = False
) -> Grid:
    """Return the grid on which a job works.

    Without ``extent`` and ``cell_size`` it is the grid of the sources: exactly their pixels where they share them. The
    CRS is the first source's. In map space the grid is north-up; in pixel space it keeps the rows and columns of the
    first source, whatever its rotation. An extent is widened to whole cells and cut to the sources' bounds.

    Args:
        source_grids: at least one.
        extent: asked area, or None for all.
        cell_size: asked cell size in units of the grid's CRS (0: the first source's).
        pixel_space: whether rows and columns of the first source are kept.

    Raises:
        JobError: the extent misses the rasters, or the grid would be empty or too large.
    """
    if not source_grids:
        raise JobError("There is no input raster.")
    first = source_grids[0]
    if cell_size < 0 or not math.isfinite(cell_size):
        raise JobError(f"The cell size must be positive, found {cell_size}.")
    base = first if pixel_space or first.is_north_up else _north_up(first)
    if cell_size:
        base = _with_cell_size(base, cell_size)
    whole = _around([_footprint(one, base) for one in source_grids])
    if extent is not None:
        whole = _cut(whole, base, extent)
    width, height = whole[2] - whole[0], whole[3] - whole[1]
    if width < 1 or height < 1:
        raise JobError("The processing extent holds no pixel of the input raster.")
    if max(width, height) > _MAX_SIDE:
        raise JobError("The cell size is too small for the processing extent.", hint="Choose a larger cell size.")
    return base.sub_grid(Window(whole[0], whole[1], width, height))


def _north_up(grid: Grid) -> Grid:
    """Return the north-up grid around ``grid``; square cells of the same area if it is rotated or sheared."""
    xmin, ymin, xmax, ymax = grid.bounds
    x_size, y_size = abs(grid.transform.a), abs(grid.transform.e)
    if grid.transform.b or grid.transform.d:
        x_size = y_size = math.sqrt(abs(grid.transform.determinant))
    width = max(1, math.ceil((xmax - xmin) / x_size - _SNAP))
    height = max(1, math.ceil((ymax - ymin) / y_size - _SNAP))
    return Grid(grid.crs, Affine(x_size, 0, xmin, 0, -y_size, ymax), width, height)


def _with_cell_size(grid: Grid, cell_size: float) -> Grid:
    x_size, y_size = grid.cell_size
    if abs(cell_size - x_size) < 1e-9 * x_size and abs(cell_size - y_size) < 1e-9 * y_size:
        return grid
    scale_x, scale_y = cell_size / x_size, cell_size / y_size
    width = max(1, math.ceil(grid.width / scale_x - _SNAP))
    height = max(1, math.ceil(grid.height / scale_y - _SNAP))
    return Grid(grid.crs, grid.transform * Affine.scale(scale_x, scale_y), width, height)


def _footprint(grid: Grid, base: Grid) -> Tuple[int, int, int, int]:
    """Return the cells of ``base`` (left, top, right, bottom) that cover ``grid``."""
    if grid is base:
        return 0, 0, base.width, base.height
    offset = grid.offset_in(base)
    if offset is not None:
        return offset[0], offset[1], offset[0] + grid.width, offset[1] + grid.height
    if not same_crs(grid.crs, base.crs):
        return _pixel_box(transform_bounds(grid.bounds, grid.crs, base.crs), base)
    x = np.array([0, grid.width, grid.width, 0], dtype=float)
    y = np.array([0, 0, grid.height, grid.height], dtype=float)
    columns, rows = base.to_pixel(*grid.to_map(x, y))
    return _whole_cells(columns, rows)


def _pixel_box(bounds: Bounds, base: Grid) -> Tuple[int, int, int, int]:
    columns, rows = base.to_pixel(
        np.array([bounds[0], bounds[2], bounds[2], bounds[0]]), np.array([bounds[3], bounds[3], bounds[1], bounds[1]])
    )
    return _whole_cells(columns, rows)


def _whole_cells(columns: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> Tuple[int, int, int, int]:
    return (
        math.floor(columns.min() + _SNAP),
        math.floor(rows.min() + _SNAP),
        math.ceil(columns.max() - _SNAP),
        math.ceil(rows.max() - _SNAP),
    )


def _around(boxes: Sequence[Tuple[int, int, int, int]]) -> Tuple[int, int, int, int]:
    return (
        min(one[0] for one in boxes),
        min(one[1] for one in boxes),
        max(one[2] for one in boxes),
        max(one[3] for one in boxes),
    )


def _cut(whole: Tuple[int, int, int, int], base: Grid, extent: Extent) -> Tuple[int, int, int, int]:
    bounds = (extent.xmin, extent.ymin, extent.xmax, extent.ymax)
    if not all(math.isfinite(one) for one in bounds) or extent.xmin >= extent.xmax or extent.ymin >= extent.ymax:
        raise JobError("The processing extent is empty.", hint="Give xmin < xmax and ymin < ymax.")
    if extent.crs and not same_crs(extent.crs, base.crs):
        bounds = transform_bounds(bounds, extent.crs, base.crs)
    asked = _pixel_box(bounds, base)
    cut = max(whole[0], asked[0]), max(whole[1], asked[1]), min(whole[2], asked[2]), min(whole[3], asked[3])
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise JobError(
            "The processing extent does not touch the input raster.",
            hint="Check the extent and its coordinate system.",
        )
    return cut
