"""The worker's part of computing accuracy: read both layers, compare, write the table and the report."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from pyogrio import raw as ogr

from .. import jobs
from ..errors import JobError, OutputError, VectorError
from ..events import INFO, WARNING, Log, Progress
from ..raster.vector import Features, layer_facts, read_features
from ..workers.task import TaskContext
from .accuracy import AccuracyResult, Objects, compute, inside
from .matching import ClassAccuracy
from .report import render

# Where the class stands if no field is named: text names first, values second. Both layers must have one of a group.
_CLASS_FIELDS = (("class", "classname", "classlabel", "label", "name"), ("classvalue", "value"))
ONE_CLASS = "All objects"


def compute_accuracy(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Carry out a :class:`~.jobs.ComputeAccuracy` job; the receipt holds the overall figures and the counts."""
    job = jobs.value_from_dict(jobs.ComputeAccuracy, payload, "computeaccuracy")
    if not 0.0 < job.min_iou <= 1.0:
        raise JobError(f"MIN_IOU must be above 0 and at most 1, found {job.min_iou:g}.")
    context.emit(Progress(0.0, "Reading the layers"))
    crs = layer_facts(job.reference).crs
    detected, reference = read_features(job.detected, crs=crs), read_features(job.reference, crs=crs)
    classes = _classes(job, detected, reference)
    mask = read_features(job.mask, crs=crs, columns=()).geometries if job.mask else None
    found = inside(Objects(_polygons(detected, job.detected), classes[0], _confidence(job, detected)), mask)
    there = inside(Objects(_polygons(reference, job.reference), classes[1], np.ones(len(reference.geometries))), mask)
    if len(there.geometries) == 0:
        context.emit(Log(WARNING, "No reference object lies in the area, so recall and AP are undefined."))
    context.emit(Progress(0.3, "Comparing"))
    result = compute(found, there, job.min_iou)
    _write_table(Path(job.output), result)
    if job.report:
        names = [one.layer or Path(one.path).name for one in (job.detected, job.reference)]
        _write_whole(Path(job.report), render(result, *names))
    overall = result.overall
    context.emit(Log(INFO, _sentence(overall, job.min_iou)))
    return {
        "OUTPUT": job.output,
        "REPORT": job.report,
        "PRECISION": _json(overall.precision),
        "RECALL": _json(overall.recall),
        "F1": _json(overall.f1),
        "AP": _json(overall.average_precision),
        "MAP": _json(result.map_coco),
    }


def _classes(
    job: jobs.ComputeAccuracy, detected: Features, reference: Features
) -> Tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Return the class of every object of both layers as text."""
    asked = (job.detected_class_field, job.reference_class_field)
    layers = (detected, reference)
    if any(asked):
        columns = []
        for name, layer, vector in zip(asked, layers, (job.detected, job.reference)):
            column = layer.column(name) if name else _first(layer, _CLASS_FIELDS[0] + _CLASS_FIELDS[1])
            if column is None:
                raise VectorError(
                    f"The layer has no field “{name or 'Class'}” to take the class from.",
                    stage="reading classes",
                    file=vector.path,
                    hint=f"It has {', '.join(layer.fields) or 'no fields'}.",
                )
            columns.append(_text(column))
        return columns[0], columns[1]
    for group in _CLASS_FIELDS:
        pair = [_first(layer, group) for layer in layers]
        if pair[0] is not None and pair[1] is not None:
            return _text(pair[0]), _text(pair[1])
    return (
        np.full(len(detected.geometries), ONE_CLASS, dtype=object),
        np.full(len(reference.geometries), ONE_CLASS, dtype=object),
    )


def _first(layer: Features, names: Sequence[str]) -> Optional[npt.NDArray[Any]]:
    for name in names:
        column = layer.column(name)
        if column is not None:
            return column
    return None


def _text(values: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """Return values as text; 1.0 and 1 are the same class."""
    texts = []
    for value in values.tolist():
        whole = isinstance(value, float) and value.is_integer()
        texts.append("" if value is None else str(int(value)) if whole else str(value))
    return np.array(texts, dtype=object)


def _polygons(features: Features, vector: jobs.VectorInput) -> npt.NDArray[np.object_]:
    if len(features.geometries) and not (shapely.get_dimensions(features.geometries) == 2).all():
        raise VectorError(
            "Accuracy compares areas, but the layer holds points or lines.",
            stage="reading the layers",
            file=vector.path,
            hint="Buffer them first, for example with “Buffer” (native:buffer).",
        )
    return features.geometries


def _confidence(job: jobs.ComputeAccuracy, detected: Features) -> npt.NDArray[np.float64]:
    column = detected.column(job.confidence_field)
    if column is None:
        raise VectorError(
            f"The detected objects have no field “{job.confidence_field}” with their confidence.",
            stage="reading the layers",
            file=job.detected.path,
            hint=f"Set CONFIDENCE_FIELD to one of {', '.join(detected.fields) or 'its fields (it has none)'}.",
        )
    try:
        return np.array([np.nan if value is None else float(value) for value in column.tolist()], dtype=np.float64)
    except ValueError as error:
        raise VectorError(
            f"The field “{job.confidence_field}” does not hold numbers: {error}.",
            stage="reading the layers",
            file=job.detected.path,
        ) from error


def _rows(result: AccuracyResult) -> List[Dict[str, Any]]:
    rows = []
    for one in (*result.classes, result.overall):
        rows.append(
            {
                "Class": one.name,
                "IoU": result.min_iou,
                "Precision": one.precision,
                "Recall": one.recall,
                "F1_Score": one.f1,
                "AP": one.average_precision,
                "mAP_50_95": result.map_coco if one is result.overall else float("nan"),
                "True_Positive": one.true_positive,
                "False_Positive": one.false_positive,
                "False_Negative": one.false_negative,
            }
        )
    return rows


def _write_table(path: Path, result: AccuracyResult) -> None:
    """Write one row per class and one for all, as CSV or as a table without geometry in any format OGR writes."""
    rows = _rows(result)
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
        _write_whole(path, text.getvalue())
        return
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    columns = [np.array([row[key] for row in rows], dtype=object if key == "Class" else None) for key in rows[0]]
    try:
        part.unlink(missing_ok=True)
        ogr.write(str(part), None, columns, list(rows[0]), layer=path.stem, geometry_type=None)
        os.replace(part, path)
    except (OSError, RuntimeError, ValueError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"The table cannot be written: {error}.", stage="writing", file=str(path)) from error


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"The file cannot be written: {error.strerror}.", stage="writing", file=str(path)) from error


def _sentence(overall: ClassAccuracy, limit: float) -> str:
    figures = f"precision {overall.precision:.3f}, recall {overall.recall:.3f}, AP {overall.average_precision:.3f}"
    return f"At IoU {limit:g}: {figures}."


def _json(value: float) -> Optional[float]:
    """Return a figure that JSON can hold: undefined is null."""
    return None if np.isnan(value) else float(value)
