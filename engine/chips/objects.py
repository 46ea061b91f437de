"""Which objects lie in which chip, and their part of it: all chips of a block at once, in numpy and shapely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from ..raster.simple_polygons import Geometries, Outlines, Shapes, polygons_of
from ..raster.window import Window


@dataclass(frozen=True)
class Objects:
    """Labelled objects, one entry each.

    Attributes:
        shapes: polygons in pixels, of the grid or of a chip; as outlines where none has holes.
        values: class values.
        areas: areas in units of the label layer.
        fids: feature ids in the label layer.
    """

    shapes: Shapes
    values: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    fids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def geometries(self) -> Geometries:
        """The shapes as shapely geometries."""
        return polygons_of(self.shapes)

    def take(self, index: npt.NDArray[Any]) -> Objects:
        """Return the objects at ``index`` (positions or a boolean mask)."""
        return Objects(self.shapes[index], self.values[index], self.areas[index], self.fids[index])

    def boxes(self) -> npt.NDArray[np.float64]:
        """Return (n, 4) xmin, ymin, xmax, ymax."""
        if isinstance(self.shapes, Outlines):
            return self.shapes.bounds()
        return np.asarray(shapely.bounds(self.shapes)).reshape(-1, 4)

    def sizes(self) -> npt.NDArray[np.float64]:
        """Return areas in square pixels."""
        return self.shapes.areas() if isinstance(self.shapes, Outlines) else np.asarray(shapely.area(self.shapes))


def no_objects() -> Objects:
    """Return no objects at all."""
    ints = np.empty(0, dtype=np.int64)
    return Objects(np.empty(0, dtype=object), ints, np.empty(0), ints)


@dataclass(frozen=True)
class ChipFrame:
    """Where a chip lies: ``placement`` maps its pixels to pixels of the grid; ``turn`` counts rotations."""

    candidate: int
    width: int
    height: int
    placement: Affine
    turn: int = 0

    def to_grid(self, x: float, y: float) -> Tuple[float, float]:
        """Return grid pixels of chip pixels."""
        one = self.placement
        return one.a * x + one.b * y + one.c, one.d * x + one.e * y + one.f

    @cached_property
    def window(self) -> Window:
        """The smallest window of the grid that holds the chip."""
        xs, ys = zip(*(self.to_grid(*one) for one in self.corners))
        col, row = math.floor(min(xs) + 1e-6), math.floor(min(ys) + 1e-6)
        return Window(col, row, math.ceil(max(xs) - 1e-6) - col, math.ceil(max(ys) - 1e-6) - row)

    @property
    def corners(self) -> Tuple[Tuple[float, float], ...]:
        """Corners in chip pixels."""
        return (0.0, 0.0), (float(self.width), 0.0), (float(self.width), float(self.height)), (0.0, float(self.height))

    @property
    def footprint(self) -> shapely.Polygon:
        """The chip as a polygon in grid pixels."""
        return shapely.Polygon([self.to_grid(*one) for one in self.corners])

    @property
    def is_shift(self) -> bool:
        """Whether the chip's pixels are pixels of the grid, unturned."""
        return self.turn == 0

    def placed_on(self, grid: Affine) -> Affine:
        """Return the map from chip pixels to the map, given that from grid pixels to the map."""
        a, b, c, d, e, f = tuple(grid)[:6]
        p = self.placement
        return Affine(
            a * p.a + b * p.d,
            a * p.b + b * p.e,
            a * p.c + b * p.f + c,
            d * p.a + e * p.d,
            d * p.b + e * p.e,
            d * p.c + e * p.f + f,
        )


def turned(window: Window, degrees: float) -> Affine:
    """Return the placement of a chip that is ``window`` turned about its centre, clockwise as seen on the image."""
    x, y = window.width / 2, window.height / 2
    if degrees == 0:
        return Affine.translation(window.col, window.row)
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    if degrees % 90 == 0:  # exact, so that pixels fall on pixels
        cosine, sine = float(round(cosine)), float(round(sine))
    return Affine(
        cosine, -sine, window.col + x - cosine * x + sine * y, sine, cosine, window.row + y - sine * x - cosine * y
    )


def objects_in_chips(objects: Objects, frames: Sequence[ChipFrame], min_overlap: float, grid: Window) -> List[Objects]:
    """Return the objects of each chip, clipped to it, in its own pixels and in the order of ``objects``.

    An object belongs to a chip if a part of it with an area lies inside, and at least ``min_overlap`` (0..1) of it.
    What lies beyond ``grid``, where a chip has no image, does not count as inside.

    Args:
        objects: in pixels of the grid.
        frames: the chips.
        min_overlap: share of an object's area.
        grid: the pixels that have an image.
    """
    if not len(objects) or not frames:
        return [no_objects() for _ in frames]
    tree = shapely.STRtree(objects.geometries)
    footprints = np.array([one.footprint for one in frames], dtype=object)
    chip, which = tree.query(footprints, predicate="intersects")
    order = np.lexsort((which, chip))
    chip, which = chip[order], which[order]
    geometries = _in_chip_pixels(objects.geometries[which], chip, frames)
    shapes = np.array([_image_part(one, grid) for one in frames], dtype=object)
    clipped, kept_share = _clipped(geometries, shapes[chip])
    keep = (kept_share > 0) & (kept_share >= min_overlap - 1e-9)
    areas = objects.areas[which] * kept_share
    result = []
    starts = np.searchsorted(chip, np.arange(len(frames) + 1))
    for begin, end in zip(starts[:-1], starts[1:]):
        here = np.arange(begin, end)[keep[begin:end]]
        found = which[here]
        result.append(Objects(clipped[here], objects.values[found], areas[here], objects.fids[found]))
    return result


def _in_chip_pixels(geometries: Geometries, chip: npt.NDArray[np.int64], frames: Sequence[ChipFrame]) -> Geometries:
    inverse = np.array([tuple(~one.placement)[:6] for one in frames]).reshape(-1, 6)[chip]
    points, owner = shapely.get_coordinates(geometries, return_index=True)
    if all(one.is_shift for one in frames):
        return with_points(geometries, points + inverse[owner][:, [2, 5]])
    a, b, c, d, e, f = inverse[owner].T
    x, y = points.T
    return with_points(geometries, np.column_stack([a * x + b * y + c, d * x + e * y + f]))


def are_simple(geometries: Geometries) -> bool:
    """Return whether all are polygons without holes and none is empty; then much is faster."""
    kinds = shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON
    return bool(
        kinds.all() and not shapely.get_num_interior_rings(geometries).any() and not shapely.is_empty(geometries).any()
    )


def outlines_if_simple(shapes: Shapes) -> Optional[Outlines]:
    """Return the outlines of polygons, or None if any has holes, has parts, is empty or is no polygon."""
    if isinstance(shapes, Outlines):
        return shapes
    return Outlines.of(shapes) if are_simple(shapes) else None


def with_points(geometries: Geometries, points: npt.NDArray[np.float64]) -> Geometries:
    """Return geometries with other coordinates (n, 2)."""
    if are_simple(geometries):  # making them anew takes half the time
        return Outlines.of(geometries).moved(points).polygons()
    return np.asarray(shapely.set_coordinates(geometries.copy(), points))


def _image_part(frame: ChipFrame, grid: Window) -> shapely.Polygon:
    """Return the part of the chip, in its pixels, in which there is an image."""
    whole = shapely.box(0, 0, frame.width, frame.height)
    if frame.window.intersection(grid) == frame.window:
        return whole
    inverse = ~frame.placement
    corners = [(grid.col, grid.row), (grid.right, grid.row), (grid.right, grid.bottom), (grid.col, grid.bottom)]
    return whole.intersection(shapely.Polygon([inverse * one for one in corners]))


def _clipped(geometries: Geometries, shapes: Geometries) -> Tuple[Geometries, npt.NDArray[np.float64]]:
    """Return the polygonal part of each geometry inside the shape beside it, and its share of the area (0..1)."""
    bounds, limits = shapely.bounds(geometries).reshape(-1, 4), shapely.bounds(shapes).reshape(-1, 4)
    outside = (bounds[:, :2] < limits[:, :2]).any(axis=1) | (bounds[:, 2:] > limits[:, 2:]).any(axis=1)
    # Inside the bounds is inside the shape for rectangles; turned chips at the grid's edge need a closer look.
    crossing = outside | ~_is_box(shapes)
    share = np.ones(len(geometries))
    if crossing.any():
        parts = shapely.intersection(geometries[crossing], shapes[crossing])
        whole = shapely.area(geometries[crossing])
        share[crossing] = np.divide(shapely.area(parts), whole, out=np.zeros(len(parts)), where=whole > 0)
        geometries = geometries.copy()
        geometries[crossing] = polygonal(parts)
    share[shapely.area(geometries) <= 0] = 0
    return geometries, share


def _is_box(shapes: Geometries) -> npt.NDArray[np.bool_]:
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    full = (bounds[:, 2] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 1])
    return np.asarray(shapely.area(shapes) >= full * (1 - 1e-9))


def polygonal(geometries: Geometries) -> Geometries:
    """Return geometries without their points and lines; an empty polygon where nothing is left."""
    result = geometries.copy()
    mixed = shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION
    for index in np.flatnonzero(mixed):
        parts = shapely.get_parts(geometries[index])
        result[index] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    flat = shapely.get_dimensions(result) < 2
    result[flat] = shapely.Polygon()
    return result
