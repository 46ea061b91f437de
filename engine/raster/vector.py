"""Reading vector layers onto a grid: repaired, reprojected, in numpy and shapely; and areas made of polygons."""

from __future__ import annotations

import contextlib
import re
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import pyogrio.raw
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from rasterio.features import rasterize

from ..errors import VectorError
from ..jobs import VectorInput
from .gdal import prepare_gdal, shown
from .geometries import from_wkb, reprojected, without_crs
from .grid import Bounds, Grid, parse_crs, same_crs, transform_bounds
from .simple_polygons import Geometries, Outlines, Shapes, polygons_of
from .window import Window

# Layers of up to so many features may be read whole for a part of them, if it is at least this share of their area.
_AT_ONCE, _LARGE_SHARE = 100_000, 0.3
_OGR_ERRORS = (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Features:
    """Features of a layer, valid and without empty geometries.

    Attributes:
        shapes: geometries in ``crs``, two-dimensional; :class:`.Outlines` if all are polygons without holes.
        fields: one array per attribute, as long as ``shapes``.
        crs: WKT; empty if the layer has none.
        fids: feature ids in the layer.
        areas: areas in square units of the layer's own CRS.
        dropped: features left out because they have no geometry or cannot be represented in ``crs``.
        repaired: features whose geometry was invalid and has been repaired.
    """

    shapes: Shapes
    fields: Dict[str, npt.NDArray[Any]]
    crs: str
    fids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    areas: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    dropped: int = 0
    repaired: int = 0

    def __len__(self) -> int:
        return len(self.shapes)

    @cached_property
    def geometries(self) -> Geometries:
        """The shapes as shapely geometries."""
        return polygons_of(self.shapes)

    def take(self, index: npt.NDArray[Any]) -> Features:
        """Return the features at ``index`` (positions or a boolean mask)."""
        fields = {name: values[index] for name, values in self.fields.items()}
        return Features(
            self.shapes[index], fields, self.crs, self.fids[index], self.areas[index], self.dropped, self.repaired
        )

    def column(self, name: str) -> Optional[npt.NDArray[Any]]:
        """Return the attribute called ``name``, whatever its case; None if there is none."""
        for one, values in self.fields.items():
            if one.lower() == name.lower():
                return values
        return None


@dataclass(frozen=True)
class LayerFacts:
    """What a layer holds, found without reading its features.

    Attributes:
        fields: names of the attributes in order.
        geometry_type: OGR's name of it.
        crs: WKT, or empty.
        count: number of features without any filter.
        name: of the layer in its file.
        driver: OGR's name of the file's format.
        bounds: xmin, ymin, xmax, ymax of all features; None if the layer is empty or they are not known.
    """

    fields: Tuple[str, ...]
    geometry_type: str
    crs: str
    count: int
    name: str = ""
    driver: str = ""
    bounds: Optional[Bounds] = None


def layer_facts(vector: VectorInput, with_bounds: bool = False) -> LayerFacts:
    """Return what the layer holds; ``with_bounds`` makes sure of its bounds, for which all features may be read.

    Raises:
        VectorError: it cannot be opened.
    """
    try:
        found = pyogrio.read_info(vector.path, layer=vector.layer or None, force_total_bounds=with_bounds)
    except _OGR_ERRORS as error:
        raise _cannot(vector, "opened", error) from error
    crs = _layer_crs(vector, found["crs"])
    bounds: Optional[Bounds] = None
    if found["total_bounds"] is not None and np.isfinite(found["total_bounds"]).all():
        xmin, ymin, xmax, ymax = (float(one) for one in found["total_bounds"])
        bounds = (xmin, ymin, xmax, ymax)
    name, driver = str(found["layer_name"]), str(found["driver"])
    fields, kind = tuple(found["fields"]), str(found["geometry_type"])
    return LayerFacts(fields, kind, crs, int(found["features"]), name, driver, bounds)


def read_attributes(vector: VectorInput, columns: Sequence[str], distinct: bool = False) -> Dict[str, npt.NDArray[Any]]:
    """Return attributes of all features that the layer's subset and selection leave, without their geometries.

    Args:
        vector: the layer.
        columns: attributes to read.
        distinct: whether equal rows may come once, in any order; a database tells them without reading all others.

    Raises:
        VectorError: the layer cannot be read or lacks a column.
    """
    facts = layer_facts(vector)
    wanted = _columns(vector, facts, columns) or []
    if distinct and wanted and facts.driver == "GPKG" and vector.fids is None:
        names = ", ".join(_quoted(one) for one in wanted)
        subset = f" WHERE ({vector.where})" if vector.where else ""
        query = f"SELECT DISTINCT {names} FROM {_quoted(facts.name)}{subset}"  # noqa: S608  # nosec B608 - the user's own filter, read-only
        with contextlib.suppress(VectorError):
            return _attributes(vector, sql=query)
    return _attributes(vector, layer=vector.layer or None, columns=wanted, where=vector.where or None)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _attributes(vector: VectorInput, **options: Any) -> Dict[str, npt.NDArray[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta, fids, _, data = pyogrio.raw.read(vector.path, read_geometry=False, return_fids=True, **options)
    except _OGR_ERRORS as error:
        raise _cannot(vector, "read", error) from error
    chosen = np.isin(fids, np.asarray(vector.fids, dtype=np.int64)) if vector.fids is not None else slice(None)
    return {str(name): values[chosen] for name, values in zip(meta["fields"], data)}


def read_features(
    vector: VectorInput,
    *,
    crs: Optional[str] = None,
    columns: Optional[Sequence[str]] = None,
    bounds: Optional[Bounds] = None,
    keep_empty: bool = False,
    facts: Optional[LayerFacts] = None,
) -> Features:
    """Read a layer, or the part of it that meets ``bounds``.

    Invalid geometries are repaired, Z and M are left away. In a geographic ``crs`` with ``bounds`` that cross the
    antimeridian, features are moved by 360 degrees to where the bounds are.

    Args:
        vector: the layer; its subset filter and its selection hold.
        crs: WKT or authority code to bring the features to; None for the layer's own. A layer without CRS is taken to
            be in ``crs`` already.
        columns: attributes to read (None: all); unknown ones are an error.
        bounds: xmin, ymin, xmax, ymax in ``crs``.
        keep_empty: whether features without a geometry stay; for all of a layer in its own CRS.
        facts: of the layer, where they are known already.

    Raises:
        VectorError: the layer cannot be read, lacks a column, or only one of layer and ``crs`` has a place on Earth.
    """
    facts = facts or layer_facts(vector)
    wanted = _columns(vector, facts, columns)
    target = facts.crs if crs is None else crs
    shifts = _shifts(target, bounds)
    parts = [_read_part(vector, facts, wanted, target, bounds, shift, keep_empty) for shift in shifts]
    kept = [one for one in parts if len(one)] or parts[:1]
    if len(kept) == 1:
        return kept[0]
    return Features(
        np.concatenate([one.geometries for one in kept]),
        {name: np.concatenate([one.fields[name] for one in kept]) for name in kept[0].fields},
        kept[0].crs,
        np.concatenate([one.fids for one in kept]),
        np.concatenate([one.areas for one in kept]),
        max(one.dropped for one in kept),
        sum(one.repaired for one in kept),
    )


def _columns(vector: VectorInput, facts: LayerFacts, columns: Optional[Sequence[str]]) -> Optional[list[str]]:
    if columns is None:
        return None
    by_name = {one.lower(): one for one in facts.fields}
    missing = [one for one in columns if one.lower() not in by_name]
    if missing:
        raise VectorError(
            f"The layer “{shown(vector.path)}” has no field “{missing[0]}”.",
            stage="reading labels",
            file=shown(vector.path),
            hint=f"It has {', '.join(facts.fields) or 'no fields'}.",
        )
    return [by_name[one.lower()] for one in columns]


def _shifts(crs: str, bounds: Optional[Bounds]) -> Tuple[float, ...]:
    """Return the moves in x under which features can meet ``bounds``: only 0, but for bounds beyond ±180 degrees."""
    found = parse_crs(crs)
    if bounds is None or found is None or not found.is_geographic or (bounds[0] >= -180 and bounds[2] <= 180):
        return (0.0,)
    return (0.0, 360.0) if bounds[2] > 180 else (0.0, -360.0)


def _read_part(
    vector: VectorInput,
    facts: LayerFacts,
    columns: Optional[list[str]],
    target: str,
    bounds: Optional[Bounds],
    shift: float,
    keep_empty: bool,
) -> Features:
    moved = None if bounds is None else (bounds[0] - shift, bounds[1], bounds[2] - shift, bounds[3])
    fids, wkb, fields = _read_raw(vector, facts, columns, _filter_bounds(facts, _layer_bounds(facts, target, moved)))
    in_place = not shift and (not facts.crs or same_crs(facts.crs, target))
    outlines = Outlines.from_wkb(wkb) if in_place and not keep_empty else None
    if outlines is not None:
        found = Features(outlines, fields, target, fids, outlines.areas())
        return found if bounds is None else found.take(outlines.meeting(bounds))
    geometries, invalid = from_wkb(wkb)
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    areas = shapely.area(geometries)
    if facts.crs and not same_crs(facts.crs, target):
        geometries = reprojected(geometries, facts.crs, target)
        there &= ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if shift:
        geometries = shapely.transform(geometries, lambda points: points + np.array([shift, 0.0]))
    keep = np.ones_like(there) if keep_empty else there
    if bounds is not None:
        keep = there & shapely.intersects(geometries, shapely.box(*bounds))
    result = Features(geometries, fields, target, fids, areas, int((~there).sum()), int((invalid & keep).sum()))
    return result.take(keep)


def _read_raw(
    vector: VectorInput, facts: LayerFacts, columns: Optional[list[str]], bbox: Optional[Bounds]
) -> Tuple[npt.NDArray[np.int64], npt.NDArray[Any], Dict[str, npt.NDArray[Any]]]:
    """Return fids, WKB and fields. OGR takes either feature ids or filters, so a selection is applied here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta, fids, wkb, data = pyogrio.raw.read(
                vector.path,
                layer=vector.layer or None,
                columns=columns,
                where=vector.where or None,
                bbox=bbox,
                force_2d=True,
                return_fids=True,
            )
    except _OGR_ERRORS as error:
        raise _cannot(vector, "read", error) from error
    if wkb is None:
        raise VectorError(
            f"The layer “{shown(vector.path)}” has no geometry.", stage="reading labels", file=shown(vector.path)
        )
    fields = {str(name): values for name, values in zip(meta["fields"], data)}
    if vector.fids is not None:
        chosen = np.isin(fids, np.asarray(vector.fids, dtype=np.int64))
        fids, wkb, fields = fids[chosen], wkb[chosen], {name: one[chosen] for name, one in fields.items()}
    return fids, wkb, fields


def _layer_bounds(facts: LayerFacts, target: str, bounds: Optional[Bounds]) -> Optional[Bounds]:
    """Return ``bounds`` in the layer's CRS, a little wider; None where they cannot be told (then all is read)."""
    if bounds is None or not facts.crs or same_crs(facts.crs, target):
        return bounds
    if parse_crs(target) is None:
        raise without_crs()
    try:
        xmin, ymin, xmax, ymax = transform_bounds(bounds, target, facts.crs)
    except ValueError:
        return None
    found = parse_crs(facts.crs)
    if found is not None and found.is_geographic and xmax - xmin > 180:
        return None  # crosses the antimeridian: the rectangle between its longitudes is the wrong one
    margin_x, margin_y = 0.05 * (xmax - xmin), 0.05 * (ymax - ymin)
    return xmin - margin_x, ymin - margin_y, xmax + margin_x, ymax + margin_y


def _filter_bounds(facts: LayerFacts, bounds: Optional[Bounds]) -> Optional[Bounds]:
    """Return the bounds to filter by while reading; None where reading all and filtering afterwards is cheaper.

    A spatial index is read at random, which costs about four times as much per feature as reading in order.
    """
    if bounds is None or facts.bounds is None or not 0 <= facts.count <= _AT_ONCE:
        return bounds
    sides = [
        (min(bounds[axis + 2], facts.bounds[axis + 2]) - max(bounds[axis], facts.bounds[axis]))
        / max(facts.bounds[axis + 2] - facts.bounds[axis], 1e-12)
        for axis in (0, 1)
    ]
    return None if min(sides) > 0 and sides[0] * sides[1] > _LARGE_SHARE else bounds


def _layer_crs(vector: VectorInput, own: Optional[str]) -> str:
    found = parse_crs(vector.crs or own or "")
    return found.to_wkt() if found else ""


def _cannot(vector: VectorInput, doing: str, error: Exception) -> VectorError:
    said = re.sub(r"\s+", " ", str(error).replace(vector.path, shown(vector.path))).strip().rstrip(".")
    layer = f", layer “{vector.layer}”," if vector.layer else ""
    return VectorError(
        f"The vector file “{shown(vector.path)}”{layer} cannot be {doing}: {said}.",
        stage="reading labels",
        file=shown(vector.path),
        hint="Check that the file exists and holds the layer, and that the subset filter fits its fields.",
    )


def window_polygon(window: Window, grid: Grid) -> shapely.Polygon:
    """Return the window as a polygon in map coordinates, rotated as the grid is."""
    columns = np.array([window.col, window.right, window.right, window.col], dtype=float)
    rows = np.array([window.row, window.row, window.bottom, window.bottom], dtype=float)
    return shapely.Polygon(np.column_stack(grid.to_map(columns, rows)))


class MaskArea:
    """An area made of polygons, fast to ask; coordinates are those of the polygons."""

    def __init__(self, polygons: Geometries) -> None:
        parts = shapely.get_parts(polygons[~shapely.is_missing(polygons)])
        self._polygons = parts[shapely.get_dimensions(parts) == 2]
        shapely.prepare(self._polygons)
        self._tree = shapely.STRtree(self._polygons)

    @classmethod
    def read(cls, vector: VectorInput, grid: Grid) -> MaskArea:
        """Read the polygons that meet the grid, in its CRS.

        Raises:
            VectorError: the layer cannot be read.
        """
        shapes = read_features(vector, crs=grid.crs, columns=(), bounds=grid.bounds).geometries
        found = cls(shapes)
        if len(shapes) and not len(found):
            raise VectorError(
                f"The mask “{shown(vector.path)}” holds no polygons, only points or lines.",
                stage="reading the mask",
                file=shown(vector.path),
                hint="Choose a polygon layer, or make polygons with a buffer.",
            )
        return found

    def __len__(self) -> int:
        return len(self._polygons)

    def covers_shape(self, shape: shapely.Geometry) -> bool:
        """Return whether no part of ``shape`` lies outside; several touching polygons may cover it together."""
        if len(self._tree.query(shape, predicate="covered_by")):
            return True
        near = self._polygons[self._tree.query(shape, predicate="intersects")]
        return len(near) > 1 and bool(shapely.covers(shapely.union_all(near), shape))

    def covers(self, bounds: Bounds) -> bool:
        """Return whether no part of the rectangle (xmin, ymin, xmax, ymax) lies outside."""
        return self.covers_shape(shapely.box(*bounds))

    def intersects(self, bounds: Bounds) -> bool:
        """Return whether the rectangle (xmin, ymin, xmax, ymax) touches the area."""
        return len(self._tree.query(shapely.box(*bounds), predicate="intersects")) > 0

    def rasterize(self, window: Window, grid: Grid) -> npt.NDArray[np.bool_]:
        """Return (rows, columns), True where a pixel's centre lies inside the area."""
        near = self._polygons[self._tree.query(window_polygon(window, grid), predicate="intersects")]
        shape = (window.height, window.width)
        if not len(near):
            return np.zeros(shape, dtype=bool)
        prepare_gdal()
        burnt = rasterize(near, out_shape=shape, transform=grid.window_transform(window), dtype="uint8")
        return np.asarray(burnt, dtype=bool)
