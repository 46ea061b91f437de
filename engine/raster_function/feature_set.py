"""Esri feature sets of image space to detections, and attributes to classes and scores."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..models.base import Detections
from ..package.reading import ClassInfo

POINT, LINE, POLYGON = 1, 3, 4
_THIN = 0.05  # pixels
Rings = List[npt.NDArray[np.float64]]

# Attributes that name the class, the best first; functions spell them in every case.
_NAME_KEYS = ("class", "classname", "label", "classlabel")
_VALUE_KEYS = ("classvalue", "value")
_SCORE_KEYS = ("confidence", "score")
_IDS = {"oid", "fid", "objectid"}


def detections(
    features: Mapping[str, Any], classes: Sequence[ClassInfo], padding: int, shape: int = POLYGON
) -> Detections:
    """Return the objects of a feature set whose origin is the inner corner of a block.

    Args:
        features: Esri JSON; rings need not be closed, x to the right, y down, in pixels.
        classes: of the definition; an object whose class is none of them gets the label -1 and keeps its text.
        padding: pixels between the block's corner and the inner corner.
        shape: what objects are, as :meth:`.function.RasterFunction.geometry_type` numbers it.
    """
    rings: List[Rings] = []
    boxes: List[Tuple[float, float, float, float]] = []
    scores, labels, attributes = [], [], []
    for feature in features.get("features") or ():
        parts = [part + padding for part in _parts(feature.get("geometry") or {})]
        if shape == LINE:
            parts = [one for one in parts if len(one) >= 2]
        if not parts:
            continue
        members = dict(feature.get("attributes") or {})
        corners = np.concatenate(parts)
        low, high = corners.min(axis=0), corners.max(axis=0)
        # Points and upright lines get an extent, as a box without one counts as no object.
        thin = np.where((high > low) | (shape == POLYGON), 0.0, _THIN)
        boxes.append((*(low - thin), *(high + thin)))
        rings.append(parts)
        scores.append(score(members))
        labels.append(label(members, classes))
        attributes.append({key: value for key, value in members.items() if key.lower() not in _IDS})
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(scores, dtype=np.float32),
        np.array(labels, dtype=np.int64),
        rings,
        tuple(attributes),
    )


def label(members: Mapping[str, Any], classes: Sequence[ClassInfo]) -> int:
    """Return the position of an object's class in ``classes``; -1 if it is none of them."""
    lower = {str(key).lower(): value for key, value in members.items()}
    names = {one.name: position for position, one in reversed(list(enumerate(classes)))}
    for key in _NAME_KEYS:
        if str(lower.get(key)) in names:
            return names[str(lower[key])]
    values = {one.value: position for position, one in reversed(list(enumerate(classes)))}
    for key in _VALUE_KEYS:
        number = as_number(lower.get(key))
        if number is not None and number in values:
            return values[int(number)]
    return -1


def best_label(members: Mapping[str, Any], classes: Sequence[ClassInfo]) -> Tuple[int, float]:
    """Return the position of an image's class (-1 if it is none of ``classes``) and its confidence (NaN if unknown).

    Functions for several labels an image join them with semicolons, and so the confidences of all classes; then the
    best of the labels counts.
    """
    position = label(members, classes)
    if position >= 0:
        return position, score(members)
    lower = {str(key).lower(): str(value) for key, value in members.items()}
    names = [one.name for one in classes]
    listed = next((lower[key].split(";") for key in _NAME_KEYS if ";" in lower.get(key, "")), [])
    chosen = [names.index(one.strip()) for one in listed if one.strip() in names]
    scores = [as_number(one) for one in lower.get("confidence", "").split(";")]
    if len(scores) == len(classes) and chosen:
        by_class = [math.nan if one is None else one for one in scores]
        best = max(chosen, key=lambda one: by_class[one])
        return best, by_class[best]
    return (chosen[0], math.nan) if chosen else (-1, math.nan)


def several_labels(members: Mapping[str, Any], names: Sequence[str]) -> Optional[Tuple[str, str]]:
    """Return the texts of labels and confidences where a function may give an image several; None where it gave one.

    Such functions join labels with semicolons, and the confidences of all classes; an image may have no label at all.
    """
    lower = {str(key).lower(): value for key, value in members.items()}
    labels = next((str(lower[key]) for key in _NAME_KEYS if lower.get(key) is not None), "")
    confidences = str(lower.get("confidence", ""))
    if ";" in labels or (len(names) > 1 and confidences.count(";") == len(names) - 1):
        return labels, confidences
    return None


def class_text(members: Mapping[str, Any]) -> str:
    """Return what the function itself calls the class."""
    lower = {str(key).lower(): value for key, value in members.items()}
    for key in (*_NAME_KEYS, *_VALUE_KEYS):
        if lower.get(key) not in (None, ""):
            return str(lower[key])
    return ""


def score(members: Mapping[str, Any]) -> float:
    """Return the confidence as delivered (0..1 or 0..100, number or text); NaN if there is none."""
    lower = {str(key).lower(): value for key, value in members.items()}
    for key in _SCORE_KEYS:
        number = as_number(lower.get(key))
        if number is not None:
            return number
    return math.nan


def as_number(value: Any) -> Optional[float]:
    """Return a number given as number or text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _parts(geometry: Mapping[str, Any]) -> Rings:
    """Return rings (or paths, or points) as (k, 2) arrays; what is no coordinate list is left out."""
    if "x" in geometry and "y" in geometry:
        return [np.array([[geometry["x"], geometry["y"]]], dtype=np.float64)]
    listed = geometry.get("rings") or geometry.get("paths") or ([geometry["points"]] if geometry.get("points") else [])
    found = []
    for one in listed:
        try:
            points = np.asarray(one, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if points.ndim == 2 and points.shape[1] >= 2 and np.isfinite(points[:, :2]).all():
            found.append(points[:, :2])
    return found


def table_classes(rows: Sequence[Mapping[str, Any]]) -> Tuple[ClassInfo, ...]:
    """Return the classes of a raster attribute table (Value, Class, Red, Green, Blue; other spellings too)."""
    found: Dict[int, ClassInfo] = {}
    for row in rows:
        lower = {str(key).lower(): value for key, value in row.items()}
        value = next((as_number(lower[key]) for key in _VALUE_KEYS if key in lower), None)
        if value is None:
            continue
        colour = tuple(int(as_number(lower.get(one)) or 0) for one in ("red", "green", "blue"))
        known = all(one in lower and 0 <= part <= 255 for one, part in zip(("red", "green", "blue"), colour))
        name = class_text({key: one for key, one in row.items() if str(key).lower() not in _VALUE_KEYS})
        found[int(value)] = ClassInfo(int(value), name or str(int(value)), colour if known else None)  # type: ignore[arg-type]
    return tuple(found.values())
