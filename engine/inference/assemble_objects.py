"""The task ``assemble_objects``: the parts of all tiles become one GeoPackage, without seams and doubles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from .. import __version__, jobs
from ..errors import OutputError
from ..events import Log, Progress
from ..package.dlpk import open_package
from ..package.reading import ClassInfo
from ..raster.features import FeatureWriter, Field
from ..raster.grid import Grid, parse_crs, same_crs, transform_points
from ..raster.remote import shown
from ..workers.task import TaskContext
from .journal import WorkFolder
from .nms import suppress_boxes, suppress_polygons
from .parts import read_part
from .plan import Item, Plan
from .planning import describe
from .polygons import regularised, repaired, rings_shape, simplified
from .predict import cached_plan
from .seams import Objects, Resolved, resolve
from .settings import HostSettings, split_arguments

Array = npt.NDArray[Any]
_VALUE_FIELD = "Classvalue"
_ITEM_FIELD = "Item"
_SHAPES = {1: "Point", 2: "MultiPoint", 3: "MultiLineString"}
# Attributes that a GeoPackage makes itself, and those that go into the fields of class and confidence.
_RESERVED = {"fid", "oid", "objectid", "geom", "geometry", "shape", "class", "confidence"}


@dataclass
class Found:
    """Objects of one item: compact arrays, outlines where the network gives them, and further attributes."""

    objects: Objects
    outlines: Optional[Array]
    attributes: Optional[List[Dict[str, Any]]]


def assemble_objects(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Write the objects of a job.

    Args:
        payload: ``work`` (path of the work folder).
        context: of the task.

    Returns:
        ``OUTPUT`` and ``COUNT``.
    """
    folder = WorkFolder(Path(payload["work"]))
    plan = cached_plan(folder.path, context)
    job: Any = jobs.from_dict(plan.job)
    package = open_package(job.model)
    settings, _ = split_arguments(job.options.arguments, package)
    receipts = {int(one["group"]): one for one in folder.receipts()}
    kept: List[Tuple[Item, Found]] = []
    for number, item in enumerate(plan.items):
        found = _collect(item, folder, receipts, plan.shape)
        kept.append((item, _final(found, item, job, plan.shape)))
        context.emit(Progress(0.8 * (number + 1) / len(plan.items), "Joining objects at the borders of tiles"))
    count = _write(job, plan, package.digest, settings, kept)
    context.emit(Log("info", f"{count:,} objects were found."))
    return {"OUTPUT": job.output, "COUNT": count}


def _collect(item: Item, folder: WorkFolder, receipts: Dict[int, Dict[str, Any]], shape: int) -> Found:
    """Return all objects that the tiles of an item reported, in the order of tiles."""
    parts: List[Objects] = []
    outlines: List[Array] = []
    attributes: Dict[int, Dict[str, Any]] = {}
    masks = False
    for group in range(item.first, item.first + item.grouping.count):
        receipt = receipts.get(group)
        if receipt is None or not receipt.get("file"):
            continue
        arrays, members = read_part(folder.parts / str(receipt["file"]), str(receipt["sha256"]))
        parts.append(Objects(*(arrays[name] for name in Objects.__dataclass_fields__)))
        masks = masks or bool(arrays["ring_counts"].any())
        outlines.append(_outlines(arrays, shape))
        if members["attributes"]:
            attributes.update(enumerate(members["attributes"], start=sum(map(len, parts[:-1]))))
    objects = Objects.join(parts)
    order = np.argsort(objects.tiles, kind="stable")
    shapes = np.concatenate(outlines)[order] if masks else None
    told = [attributes.get(i, {}) for i in order.tolist()] if attributes else None
    return Found(objects.take(order), shapes, told)


def _outlines(arrays: Dict[str, Array], shape: int) -> Array:
    """Return what ``shape`` says of each object, in pixels; None where the network gives a box only."""
    answer = np.empty(len(arrays["scores"]), dtype=object)
    ends = np.cumsum(arrays["ring_sizes"])
    rings = np.split(arrays["ring_points"], ends[:-1]) if len(ends) else []
    start = 0
    for i, count in enumerate(arrays["ring_counts"].tolist()):
        answer[i] = rings_shape(rings[start : start + count], shape) if count else None
        start += count
    return answer


def _final(found: Found, item: Item, job: jobs.DetectObjects, shape: int) -> Found:
    """Return the objects that stay after joining at seams and, if asked for, suppression."""
    objects = found.objects
    resolved = resolve(objects, _windows(item, objects.tiles))
    outlines = None if found.outlines is None else _joined(found, resolved, shape)
    attributes = None if found.attributes is None else [found.attributes[i] for i in resolved.first.tolist()]
    if not job.run_nms:
        return Found(resolved.objects, outlines, attributes)
    left = resolved.objects
    if outlines is None or shape != 4:
        kept = suppress_boxes(left.boxes, left.scores, left.labels, job.max_overlap)
    else:
        shapes = np.where(shapely.is_missing(outlines), shapely.box(*left.boxes.T), outlines)
        kept = suppress_polygons(shapes, left.scores, left.labels, job.max_overlap)
    kept = np.sort(kept)
    return Found(
        left.take(kept),
        None if outlines is None else outlines[kept],
        None if attributes is None else [attributes[i] for i in kept.tolist()],
    )


def _windows(item: Item, tiles: Array) -> Array:
    """Return (n, 4) left, top, right, bottom pixels of the image in which each object was seen."""
    columns = np.array([(one.start, one.stop) for one in item.layout.columns])
    rows = np.array([(one.start, one.stop) for one in item.layout.rows])
    row, column = np.divmod(tiles, len(columns))
    return np.stack([columns[column, 0], rows[row, 0], columns[column, 1], rows[row, 1]], axis=1)


def _joined(found: Found, resolved: Resolved, shape: int) -> Array:
    if found.outlines is None:
        raise OutputError("There are no outlines to join.")
    outlines = found.outlines[resolved.first].copy()
    for position, parts in resolved.parts.items():
        shapes = [one for one in found.outlines[parts] if one is not None]
        if shape == 4:
            outlines[position] = repaired(shapely.union_all(shapes)) if shapes else None
        elif shape == 3 and shapes:
            outlines[position] = shapely.line_merge(shapely.union_all(shapes))
    return outlines


def _write(
    job: jobs.DetectObjects,
    plan: Plan,
    digest: str,
    settings: HostSettings,
    kept: Sequence[Tuple[Item, Found]],
) -> int:
    extras = _extra_fields(kept, job, plan.declared)
    fields = [Field(job.class_field, "text")]
    if job.class_field.lower() != _VALUE_FIELD.lower():
        fields.append(Field(_VALUE_FIELD, "integer"))
    fields.append(Field(job.confidence_field, "real"))
    separate = any(item.name for item, _ in kept)
    if separate:
        fields.append(Field(_ITEM_FIELD, "text"))
    fields += extras.values()
    masks = any(found.outlines is not None for _, found in kept)
    crs = kept[0][0].grid.crs
    kind = _SHAPES.get(plan.shape, "MultiPolygon" if masks else "Polygon")
    with FeatureWriter(Path(job.output), fields, kind, crs, provenance(plan, digest)) as writer:
        for item, found in kept:
            columns = _columns(job, plan.classes, item, found, extras)
            writer.add(_shapes(item.grid, found, settings, crs, masks), columns)
        return writer.finish()


def provenance(plan: Plan, digest: str) -> Dict[str, str]:
    """Return what a result carries about its making; the same for every run of the same job."""
    return {
        "DEEP_RASTER_VERSION": __version__,
        "DEEP_RASTER_MODEL": digest,
        "DEEP_RASTER_JOB": json.dumps(describe(plan.job, shown), ensure_ascii=False, sort_keys=True),
    }


def _extra_fields(
    kept: Sequence[Tuple[Item, Found]], job: jobs.DetectObjects, declared: Sequence[Tuple[str, str]]
) -> Dict[str, Field]:
    """Return lower-case name -> field for what the network tells beyond class and confidence.

    Declared fields come first, then what features carry without having been declared, as first seen.
    """
    taken = _RESERVED | {one.lower() for one in (job.class_field, job.confidence_field, _VALUE_FIELD, _ITEM_FIELD)}
    fields = {name.lower(): Field(name, kind) for name, kind in declared if name.lower() not in taken}
    for _, found in kept:
        for values in found.attributes or ():
            for name, value in values.items():
                key = name.lower()
                if key in taken or value is None:
                    continue
                kind = "integer" if isinstance(value, int) else "real" if isinstance(value, float) else "text"
                known = fields.setdefault(key, Field(name, kind))
                if known.kind != kind:
                    fields[key] = Field(known.name, "text" if "text" in (known.kind, kind) else "real")
    return fields


def _columns(
    job: jobs.DetectObjects, classes: Sequence[ClassInfo], item: Item, found: Found, extras: Dict[str, Field]
) -> Dict[str, Array]:
    labels = found.objects.labels
    names, values = [one.name for one in classes], [one.value for one in classes]
    known = [0 <= int(one) < len(classes) for one in labels]
    own = [""] * len(labels) if found.attributes is None else _lower(found.attributes, ("class", "classname", "label"))
    columns: Dict[str, Array] = {
        _VALUE_FIELD: np.array([values[one] if ok else int(one) for one, ok in zip(labels, known)], np.int64),
        job.confidence_field: found.objects.scores.astype(np.float64),
        _ITEM_FIELD: np.full(len(labels), item.name, dtype=object),
    }
    texts = [stated or (names[one] if ok else str(int(one))) for one, ok, stated in zip(labels.tolist(), known, own)]
    columns[job.class_field] = np.array(texts, dtype=object)
    told = [{key.lower(): value for key, value in one.items()} for one in found.attributes or [{}] * len(labels)]
    for key, field in extras.items():
        cells = [one.get(key) for one in told]
        if field.kind == "text":
            cells = [one if one is None or isinstance(one, str) else str(one) for one in cells]
        columns[field.name] = np.array(cells, dtype=object)
    return columns


def _lower(attributes: Sequence[Dict[str, Any]], names: Sequence[str]) -> List[str]:
    """Return the first non-empty text among the attributes called like one of ``names``, whatever their case."""
    answer = []
    for one in attributes:
        by_name = {key.lower(): value for key, value in one.items()} if one else {}
        answer.append(next((str(by_name[name]) for name in names if by_name.get(name)), ""))
    return answer


def _shapes(grid: Grid, found: Found, settings: HostSettings, crs: str, multi: bool) -> Array:
    """Return the outlines in map coordinates of ``crs``."""
    boxes = found.objects.boxes
    shapes = shapely.box(*boxes.T) if len(boxes) else np.empty(0, dtype=object)
    if found.outlines is not None:
        shapes = np.where(shapely.is_missing(found.outlines), shapes, found.outlines)
        areas = bool(np.isin(shapely.get_type_id(shapes), (3, 6)).all())
        if settings.regularize and areas:
            shapes = np.array([regularised(one, settings.simplify or 2.0) for one in shapes], dtype=object)
        elif settings.simplify and areas:
            shapes = np.array([simplified(one, settings.simplify) for one in shapes], dtype=object)
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
