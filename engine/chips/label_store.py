"""Labels on their way from a layer to the blocks: read once, in pixels of the grid, one small file per block.

So no worker ever holds more labels than those of its block, whatever the layer's size and whether it has an index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from ..errors import JobError
from ..jobs import VectorInput
from ..raster.grid import Grid
from ..raster.simple_polygons import Outlines
from ..raster.vector import Features, layer_facts, read_features
from ..raster.window import Window, around
from .classes import ClassRule
from .objects import Objects, no_objects, outlines_if_simple, polygonal, with_points

# Features read at a time, where a layer is large.
_AT_ONCE = 100_000


@dataclass
class LabelCounts:
    """What was met while labels were read; a feature that meets several rows of blocks counts in each."""

    read: int = 0
    stored: int = 0
    without_class: int = 0
    dropped: int = 0
    repaired: int = 0
    values: Dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelLayer:
    """A label layer and how its features become objects.

    Attributes:
        vector: the layer.
        rule: how class values are found.
        buffer_radius: map units around points and lines.
        points_allowed: whether points and lines may stay as they are.
    """

    vector: VectorInput
    rule: ClassRule
    buffer_radius: float = 0.0
    points_allowed: bool = False


def label_grid(vector: VectorInput, grid: Grid) -> Grid:
    """Return the grid by which the layer's coordinates become pixels.

    It is the grid itself, but for features drawn on an image without georeference: QGIS shows such an image with y
    going down to minus its height, while other programs count rows downwards. Labels with only positive y are of the
    latter kind.
    """
    one = grid.transform
    if grid.crs or one.b or one.d or one.c < 0 or one.f > 0 or one.e > 0:
        return grid
    bounds = layer_facts(vector, with_bounds=True).bounds
    if bounds is None or bounds[3] <= 0 or bounds[1] < 0:
        return grid
    return Grid("", Affine(one.a, 0, one.c, 0, -one.e, -one.f), grid.width, grid.height)


def store_labels(layer: LabelLayer, grid: Grid, blocks: Sequence[Tuple[int, Window]], folder: Path) -> LabelCounts:
    """Write the objects of each block to :func:`block_file`; blocks without objects get no file.

    Args:
        layer: the labels.
        grid: processing grid.
        blocks: number and pixels of each block, row by row; an object goes to every block that it meets.
        folder: where the files go.

    Raises:
        JobError: features are points or lines and there is no buffer radius.
        VectorError: the layer cannot be read.
    """
    counts = LabelCounts()
    folder.mkdir(parents=True, exist_ok=True)
    own_grid = label_grid(layer.vector, grid)
    facts = layer_facts(layer.vector)
    for part in _portions(blocks, facts.count):
        bounds = own_grid.window_bounds(around([window for _, window in part]))
        if layer.buffer_radius:
            radius = layer.buffer_radius
            bounds = (bounds[0] - radius, bounds[1] - radius, bounds[2] + radius, bounds[3] + radius)
        features = read_features(layer.vector, crs=grid.crs, columns=layer.rule.columns, bounds=bounds, facts=facts)
        objects = _objects(layer, features, own_grid, counts)
        _store(objects, part, folder, counts)
    return counts


def _portions(blocks: Sequence[Tuple[int, Window]], features: int) -> List[List[Tuple[int, Window]]]:
    """Return whole rows of blocks, so many at a time that they hold a bounded number of features, evenly spread.

    If it is not known how many features the layer has (-1), each row is read by itself.
    """
    rows: Dict[int, List[Tuple[int, Window]]] = {}
    for number, window in blocks:
        rows.setdefault(window.row, []).append((number, window))
    at_once = max(1, len(rows) * _AT_ONCE // max(1, features)) if features >= 0 else 1
    ordered = [rows[one] for one in sorted(rows)]
    parts = [ordered[begin : begin + at_once] for begin in range(0, len(ordered), at_once)]
    return [[block for row in part for block in row] for part in parts]


def _objects(layer: LabelLayer, features: Features, grid: Grid, counts: LabelCounts) -> Objects:
    counts.read += len(features)
    counts.dropped = max(counts.dropped, features.dropped)
    counts.repaired += features.repaired
    values = layer.rule.values(features)
    counts.without_class += int((values < 0).sum())
    keep = values >= 0
    features, values = features.take(keep), values[keep]
    if not len(features):
        return no_objects()
    if (np.diff(features.fids) < 0).any():
        order = np.argsort(features.fids, kind="stable")
        features, values = features.take(order), values[order]
    if isinstance(features.shapes, Outlines):
        outlines = features.shapes.moved(np.column_stack(grid.to_pixel(*features.shapes.points.T)))
        return Objects(outlines, values, features.areas, features.fids)
    geometries, areas = _with_area(layer, features)
    points = shapely.get_coordinates(geometries)
    geometries = with_points(geometries, np.column_stack(grid.to_pixel(*points.T)))
    objects = Objects(geometries, values, areas, features.fids)
    return objects.take(~shapely.is_empty(objects.geometries))


def _with_area(layer: LabelLayer, features: Features) -> Tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return geometries that cover an area, with points and lines buffered, and their areas in the layer's units."""
    geometries, areas = features.geometries.copy(), features.areas.copy()
    thin = shapely.get_dimensions(geometries) < 2
    if thin.any() and layer.buffer_radius:
        geometries[thin] = shapely.buffer(geometries[thin], layer.buffer_radius)
        areas[thin] = shapely.area(geometries[thin])
    elif thin.any() and not layer.points_allowed:
        raise JobError(
            "The labels hold points or lines, which cover no pixels.",
            stage="reading the labels",
            hint="Give a buffer radius in map units, or choose a polygon layer.",
        )
    if not layer.points_allowed:
        geometries = polygonal(geometries)
    return geometries, areas


def _store(objects: Objects, blocks: Sequence[Tuple[int, Window]], folder: Path, counts: LabelCounts) -> None:
    """Write the objects that meet each block."""
    if not len(objects):
        return
    xmin, ymin, xmax, ymax = np.ascontiguousarray(objects.boxes().T)
    met = np.zeros(len(objects), dtype=bool)
    for number, one in blocks:
        near = np.flatnonzero((xmin <= one.right) & (xmax >= one.col) & (ymin <= one.bottom) & (ymax >= one.row))
        beyond_x = (xmin[near] < one.col) | (xmax[near] > one.right)
        crossing = near[beyond_x | (ymin[near] < one.row) | (ymax[near] > one.bottom)]
        meets = np.ones(len(objects), dtype=bool)
        box = shapely.box(one.col, one.row, one.right, one.bottom)
        meets[crossing] = shapely.intersects(objects.take(crossing).geometries, box)
        mine = near[meets[near]]
        if len(mine):
            save(block_file(folder, number), objects.take(mine))
        met[mine] = True
    counts.stored += int(met.sum())
    for value, number in zip(*np.unique(objects.values[met], return_counts=True)):
        counts.values[int(value)] = counts.values.get(int(value), 0) + int(number)


def block_file(folder: Path, block: int) -> Path:
    """Return the file of a block's objects, which exists if there are any."""
    return folder / f"{block}.npys"


def save(path: Path, objects: Objects) -> None:
    """Write objects as one .npy after the other, without pickling.

    First their points and how many each has, if all are polygons without holes; else their WKB, and how long each is.
    """
    outlines = outlines_if_simple(objects.shapes)
    if outlines is not None:
        shapes: List[npt.NDArray[Any]] = [outlines.points, outlines.counts]
    else:
        wkb = shapely.to_wkb(objects.geometries)
        shapes = [np.frombuffer(b"".join(wkb), dtype=np.uint8), np.array([len(one) for one in wkb], dtype=np.int64)]
    with open(path, "wb") as file:
        for one in (*shapes, objects.values, objects.areas, objects.fids):
            np.save(file, one, allow_pickle=False)


def load(path: Path) -> Objects:
    """Read what :func:`save` wrote; no objects if there is no file."""
    if not path.is_file():
        return no_objects()
    with open(path, "rb") as file:
        data, lengths, *rest = (np.load(file, allow_pickle=False) for _ in range(5))
    if data.ndim == 2:
        return Objects(Outlines(data, lengths), *rest)
    ends = np.cumsum(lengths)
    run = data.tobytes()
    wkb = [run[end - length : end] for length, end in zip(lengths.tolist(), ends.tolist())]
    return Objects(np.asarray(shapely.from_wkb(np.array(wkb, dtype=object))), *rest)
