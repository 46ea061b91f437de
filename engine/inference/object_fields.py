"""The fields of detected objects: class, confidence, and what the network tells beyond them."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from .. import jobs
from ..package.reading import ClassInfo
from ..raster.features import Field
from .object_parts import Told
from .object_stream import Found

Array = npt.NDArray[Any]
_VALUE_FIELD = "Classvalue"
_ITEM_FIELD = "Item"
# Attributes that a vector file makes itself, and those that go into the fields of class and confidence.
_RESERVED = {"fid", "oid", "objectid", "geom", "geometry", "shape", "class", "confidence"}


def object_fields(job: jobs.DetectObjects, separate: bool, extras: Dict[str, Field]) -> List[Field]:
    """Return all fields in order.

    Args:
        job: names the fields of class and confidence.
        separate: whether the rasters of a collection are told apart.
        extras: of :func:`extra_fields`.
    """
    fields = [Field(job.class_field, "text")]
    if job.class_field.lower() != _VALUE_FIELD.lower():
        fields.append(Field(_VALUE_FIELD, "integer"))
    fields.append(Field(job.confidence_field, "real"))
    if separate:
        fields.append(Field(_ITEM_FIELD, "text"))
    return [*fields, *extras.values()]


def extra_fields(
    told: Sequence[Told], job: jobs.DetectObjects, declared: Sequence[Tuple[str, str]]
) -> Dict[str, Field]:
    """Return lower-case name -> field for what the network tells beyond class and confidence.

    Declared fields come first, then what objects carry without having been declared, as first seen.
    """
    taken = _RESERVED | {one.lower() for one in (job.class_field, job.confidence_field, _VALUE_FIELD, _ITEM_FIELD)}
    fields = {name.lower(): Field(name, kind) for name, kind in declared if name.lower() not in taken}
    for item in told:
        for key, (_, name, kind) in sorted(item.items(), key=lambda one: one[1][0]):
            if key in taken:
                continue
            known = fields.setdefault(key, Field(name, kind))
            if known.kind != kind:
                fields[key] = Field(known.name, "text" if "text" in (known.kind, kind) else "real")
    return fields


def object_columns(
    job: jobs.DetectObjects, classes: Sequence[ClassInfo], item: str, found: Found, extras: Dict[str, Field]
) -> Dict[str, Array]:
    """Return name -> values of the fields of objects.

    Args:
        job: names the fields of class and confidence.
        classes: of the network; labels are positions among them.
        item: name of the raster.
        found: the objects.
        extras: of :func:`extra_fields`.
    """
    labels = found.objects.labels
    kinds, kind = np.unique(labels, return_inverse=True)
    known = [classes[one] if 0 <= one < len(classes) else ClassInfo(one, str(one)) for one in kinds.tolist()]
    texts = np.array([one.name for one in known], dtype=object)[kind]
    told = [{key.lower(): value for key, value in one.items()} if one else {} for one in found.attributes]
    for position, own in enumerate(told):
        stated = next((str(own[name]) for name in ("class", "classname", "label") if own.get(name)), "")
        texts[position] = stated or texts[position]
    columns: Dict[str, Array] = {
        _VALUE_FIELD: np.array([one.value for one in known], np.int64)[kind],
        job.confidence_field: found.objects.scores.astype(np.float64),
        _ITEM_FIELD: np.full(len(labels), item, dtype=object),
    }
    columns[job.class_field] = texts
    for key, field in extras.items():
        cells = [one.get(key) for one in told]
        if field.kind == "text":
            cells = [one if one is None or isinstance(one, str) else str(one) for one in cells]
        columns[field.name] = np.array(cells, dtype=object)
    return columns
