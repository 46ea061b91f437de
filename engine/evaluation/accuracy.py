"""Accuracy of a layer of detected objects against a layer of reference objects, per class and overall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from .matching import COCO_LIMITS, ClassAccuracy, Floats, Pairs, accuracy, match, mean_average_precision

Geometries = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Objects:
    """Objects of a layer in one CRS: polygons, class names (all equal where classes are not compared), confidence."""

    geometries: Geometries
    classes: npt.NDArray[np.object_]
    confidence: Floats


@dataclass(frozen=True)
class AccuracyResult:
    """All figures of a comparison.

    Attributes:
        min_iou: the limit of ``classes`` and ``overall``.
        classes: one per class, in the order of their names.
        overall: all classes together; its average precision is the mean over classes (mAP).
        map_coco: mean over classes and the limits 0.5, 0.55, ..., 0.95.
        limits: mAP at each of those limits.
    """

    min_iou: float
    classes: Tuple[ClassAccuracy, ...]
    overall: ClassAccuracy
    map_coco: float
    limits: Dict[float, float]


def overlapping_pairs(detected: Geometries, reference: Geometries) -> Pairs:
    """Return all pairs whose areas overlap, with their intersection over union.

    Candidates come from a spatial index over the reference objects, so the cost grows with the number of overlaps.
    """
    if len(detected) == 0 or len(reference) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return Pairs(empty, empty, np.zeros(0))
    tree = shapely.STRtree(reference)
    left, right = tree.query(detected, predicate="intersects")
    common = shapely.area(shapely.intersection(detected[left], reference[right]))
    union = shapely.area(detected)[left] + shapely.area(reference)[right] - common
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(union > 0, common / union, 0.0)
    keep = iou > 0
    return Pairs(left[keep].astype(np.int64), right[keep].astype(np.int64), iou[keep])


def compute(detected: Objects, reference: Objects, min_iou: float) -> AccuracyResult:
    """Compare two layers.

    Args:
        detected: what was found.
        reference: what is there; a class that only occurs in ``detected`` counts its objects as false.
        min_iou: smallest IoU (0..1] of a right detection.
    """
    names = sorted({str(one) for one in detected.classes} | {str(one) for one in reference.classes})
    pairs = overlapping_pairs(detected.geometries, reference.geometries)
    same = detected.classes[pairs.detected] == reference.classes[pairs.reference]
    pairs = Pairs(pairs.detected[same], pairs.reference[same], pairs.iou[same])
    at_limit = _at(detected, reference, names, pairs, min_iou)
    limits = {limit: mean_average_precision(_at(detected, reference, names, pairs, limit)[0]) for limit in COCO_LIMITS}
    known = [one for one in limits.values() if not np.isnan(one)]
    return AccuracyResult(
        min_iou, tuple(at_limit[0]), at_limit[1], float(np.mean(known)) if known else float("nan"), limits
    )


def _at(
    detected: Objects, reference: Objects, names: Sequence[str], pairs: Pairs, limit: float
) -> Tuple[List[ClassAccuracy], ClassAccuracy]:
    """Return the figures per class and overall at one limit."""
    right = match(pairs, detected.confidence, len(reference.geometries), limit)
    classes = []
    for name in names:
        mine = detected.classes == name
        classes.append(accuracy(name, right[mine], detected.confidence[mine], int((reference.classes == name).sum())))
    together = accuracy("All classes", right, detected.confidence, len(reference.geometries))
    overall = ClassAccuracy(
        together.name,
        together.true_positive,
        together.false_positive,
        together.false_negative,
        mean_average_precision(classes),
        together.curve,
    )
    return classes, overall


def inside(objects: Objects, mask: Optional[Geometries]) -> Objects:
    """Return the objects whose representative point lies inside the mask polygons (all, if there is no mask).

    The same rule for both layers: an object cut by the border of the mask belongs to it with its centre or not at all.
    """
    if mask is None:
        return objects
    area = shapely.union_all(mask)
    shapely.prepare(area)
    keep = shapely.contains(area, shapely.point_on_surface(objects.geometries))
    return Objects(objects.geometries[keep], objects.classes[keep], objects.confidence[keep])
