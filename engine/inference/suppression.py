"""The task ``suppress_features``: non-maximum suppression of a layer of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import numpy.typing as npt
import shapely

from .. import jobs
from ..errors import JobError, VectorError
from ..events import Log, Progress
from ..raster.output import check_ending, require_room
from ..raster.vector import Features, layer_facts, read_features
from ..workers.task import TaskContext
from .copies import write_copies
from .nms import suppress_boxes, suppress_polygons
from .provenance import provenance

Array = npt.NDArray[Any]
# Where the class stands if no field is named, as in the published tool.
_CLASS_FIELDS = ("classvalue", "value")


def suppress_features(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Carry out a :class:`~.jobs.SuppressNonMaximum` job; the payload is its JSON object."""
    job: Any = jobs.from_dict(payload)
    if not 0 <= job.max_overlap <= 1:
        raise JobError(f"MAX_OVERLAP must be from 0 to 1, found {job.max_overlap:g}.")
    check_ending(Path(job.output), layer_facts(job.features).crs)
    require_room({Path(job.output): 1_000_000})
    context.emit(Progress(0.0, "Reading the objects"))
    features = read_features(job.features)
    if features.dropped:
        context.emit(Log("warning", f"{features.dropped} features without geometry were left out."))
    scores = _scores(features, job)
    labels = _labels(features, job)
    context.emit(Progress(0.3, "Comparing"))
    shapes = features.geometries
    bounds = shapely.bounds(shapes)
    if np.allclose(shapely.area(shapes), shapely.area(shapely.box(*bounds.T)), rtol=1e-9):
        kept = suppress_boxes(bounds, scores, labels, job.max_overlap)
    else:
        kept = suppress_polygons(shapes, scores, labels, job.max_overlap)
    left = features.take(np.sort(kept))
    context.emit(Progress(0.7, "Writing"))
    count = write_copies(Path(job.output), left, {}, provenance(payload))
    context.emit(Log("info", f"{count:,} of {len(features):,} objects stay."))
    return {"OUTPUT": job.output, "COUNT": count}


def _scores(features: Features, job: jobs.SuppressNonMaximum) -> Array:
    values = features.column(job.confidence_field)
    if values is None:
        raise VectorError(
            f"The layer has no field “{job.confidence_field}”.",
            file=job.features.path,
            hint=f"Name the field with the confidence; there are {', '.join(features.fields) or 'no fields'}.",
        )
    try:
        return np.array([np.nan if one is None else one for one in values], dtype=float)
    except ValueError as error:
        raise VectorError(
            f"The field “{job.confidence_field}” holds text that is no number.", file=job.features.path
        ) from error


def _labels(features: Features, job: jobs.SuppressNonMaximum) -> Optional[Array]:
    """Return the class of each feature as text; None if all compete."""
    names = (job.class_field,) if job.class_field else _CLASS_FIELDS
    for name in names:
        values = features.column(name)
        if values is not None:
            return np.array([str(one) for one in values] or [], dtype=str)
    if job.class_field:
        raise VectorError(
            f"The layer has no field “{job.class_field}”.",
            file=job.features.path,
            hint=f"It has {', '.join(features.fields) or 'no fields'}.",
        )
    return None
