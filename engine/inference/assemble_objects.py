"""The task ``assemble_objects``: the parts of all tiles become one GeoPackage, without seams and doubles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np
import numpy.typing as npt
import shapely

from .. import jobs
from ..events import Log, Progress
from ..package.dlpk import open_package
from ..raster.features import FeatureWriter
from ..raster.grid import Grid, parse_crs, same_crs, transform_points
from ..workers.task import TaskContext
from .journal import WorkFolder
from .object_fields import extra_fields, object_columns, object_fields
from .object_parts import PartFiles, Survey, survey, tile_rows
from .object_stream import Found, ObjectStream
from .plan import Item, cached_plan
from .polygons import regularised, simplified
from .provenance import provenance
from .seams import Seams
from .settings import HostSettings, split_arguments

Array = npt.NDArray[Any]
_SHAPES = {1: "Point", 2: "MultiPoint", 3: "MultiLineString"}


def assemble_objects(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Write the objects of a job.

    Args:
        payload: ``work`` (path of the work folder) and ``secrets``, if there are any.
        context: of the task.

    Returns:
        ``OUTPUT`` and ``COUNT``.
    """
    folder = WorkFolder(Path(payload["work"]))
    plan = cached_plan(payload, context)
    job: Any = jobs.from_dict(plan.job)
    package = open_package(job.model)
    settings, _ = split_arguments(job.options.arguments, package)
    parts = PartFiles(folder, {int(one["group"]): one for one in folder.receipts()})
    surveys = [survey(item, parts) for item in plan.items]
    extras = extra_fields([one.told for one in surveys], job, plan.declared)
    masks = any(one.masks for one in surveys)
    crs = plan.items[0].grid.crs
    kind = _SHAPES.get(plan.shape, "MultiPolygon" if masks else "Polygon")
    fields = object_fields(job, any(one.name for one in plan.items), extras)
    done = 0
    with FeatureWriter(Path(job.output), fields, kind, crs, provenance(plan.job, package.digest)) as writer:
        for item, facts in zip(plan.items, surveys):
            for found in _final(item, facts, parts, plan.shape, job.max_overlap if job.run_nms else None):
                columns = object_columns(job, plan.classes, item.name, found, extras)
                writer.add(_shapes(item.grid, found, settings, crs, masks), columns)
            done += item.grouping.count
            context.emit(Progress(done / plan.groups, "Joining objects at the borders of tiles"))
        count = writer.finish()
    context.emit(Log("info", f"{count:,} objects were found."))
    return {"OUTPUT": job.output, "COUNT": count}


def _final(item: Item, facts: Survey, parts: PartFiles, shape: int, max_overlap: Optional[float]) -> Iterator[Found]:
    """Yield the objects of an item that stay after joining at seams and, if asked for, suppression."""
    stream = ObjectStream(Seams(item.layout, facts.seen), shape if facts.masks else None, max_overlap)
    for row, found in tile_rows(item, parts, shape):
        yield stream.add(found, facts.limit(row))


def _shapes(grid: Grid, found: Found, settings: HostSettings, crs: str, multi: bool) -> Array:
    """Return the outlines in map coordinates of ``crs``."""
    boxes = found.objects.boxes
    shapes = shapely.box(*boxes.T) if len(boxes) else np.empty(0, dtype=object)
    if len(boxes) and not shapely.is_missing(found.outlines).all():
        shapes = np.where(shapely.is_missing(found.outlines), shapes, found.outlines)
        areas = bool(np.isin(shapely.get_type_id(shapes), (3, 6)).all())
        if settings.regularize and areas:
            shapes = np.array([regularised(one, settings.simplify or 2.0) for one in shapes], dtype=object)
        elif settings.simplify and areas:
            shapes = simplified(shapes, settings.simplify)
    return to_map(shapes, grid, crs, multi)


def to_map(shapes: Array, grid: Grid, crs: str, multi: bool) -> Array:
    """Return shapes in pixels of a grid as shapes in map coordinates of ``crs``."""
    if not len(shapes):
        return shapes
    x, y = grid.to_map(*shapely.get_coordinates(shapes).T)
    if not same_crs(grid.crs, crs):
        source, target = parse_crs(grid.crs), parse_crs(crs)
        if source is not None and target is not None:
            x, y = transform_points(source, target, x, y)
    moved: Array = shapely.set_coordinates(np.array(shapes, dtype=object), np.column_stack([x, y]))
    lines = shapely.get_type_id(moved) == 1
    moved[lines] = shapely.multilinestrings([[one] for one in moved[lines]]) if lines.any() else moved[lines]
    if multi:
        single = shapely.get_type_id(moved) == 3
        moved[single] = shapely.multipolygons([[one] for one in moved[single]]) if single.any() else moved[single]
    return moved
