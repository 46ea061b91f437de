"""Detected and reference objects matched by overlap, and the figures that follow; pure numpy, no file.

The rules are COCO's (Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the evaluation code published with
the data set): per class, by falling confidence, each detection takes the free reference object of the same image and
class with the largest IoU, if that is at least the limit. Average precision is the mean of the interpolated precision
at 101 recalls 0, 0.01, ..., 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import numpy.typing as npt

COCO_LIMITS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_RECALLS = np.linspace(0.0, 1.0, 101)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Overlapping pairs of a detected and a reference object: positions in both lists, and their IoU (0..1)."""

    detected: Ints
    reference: Ints
    iou: Floats


@dataclass(frozen=True)
class Curve:
    """Precision against recall as the confidence limit falls, one point per detection."""

    recall: Floats
    precision: Floats
    confidence: Floats


@dataclass(frozen=True)
class ClassAccuracy:
    """The figures of one class, or of all together, at one IoU limit. Undefined figures are NaN, never 0/0."""

    name: str
    true_positive: int
    false_positive: int
    false_negative: int
    average_precision: float
    curve: Curve

    @property
    def precision(self) -> float:
        """Share of the detections that are right."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the reference objects that were found."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)


def match(pairs: Pairs, confidence: Floats, references: int, min_iou: float) -> Bools:
    """Return for each detection whether it is right at ``min_iou``.

    Args:
        pairs: overlapping pairs, of one class (pairs of different classes must have been left out).
        confidence: (n,) of the detections; NaN counts as lowest.
        references: number of reference objects.
        min_iou: 0..1.
    """
    right = np.zeros(len(confidence), dtype=bool)
    free = np.ones(references, dtype=bool)
    keep = pairs.iou >= min_iou
    detected, reference, iou = pairs.detected[keep], pairs.reference[keep], pairs.iou[keep]
    rank = np.empty(len(confidence), dtype=np.int64)
    rank[falling(confidence)] = np.arange(len(confidence))
    # By rank of the detection, then by falling overlap: the first free reference in this order is the one to take.
    for k in np.lexsort((reference, -iou, rank[detected])):
        if not right[detected[k]] and free[reference[k]]:
            right[detected[k]] = True
            free[reference[k]] = False
    return right


def falling(confidence: Floats) -> Ints:
    """Return the order of falling confidence; equal ones keep their order, NaN comes last."""
    return np.argsort(-np.nan_to_num(confidence, nan=-np.inf), kind="stable").astype(np.int64)


def accuracy(name: str, right: Bools, confidence: Floats, references: int) -> ClassAccuracy:
    """Return the figures of detections of which ``right`` are right, against ``references`` reference objects."""
    order = falling(confidence)
    hits = np.cumsum(right[order])
    counts = np.arange(1, len(order) + 1)
    recall = hits / references if references else np.full(len(order), np.nan)
    curve = Curve(recall, hits / counts, confidence[order])
    found = int(right.sum())
    return ClassAccuracy(
        name, found, len(right) - found, references - found, average_precision(curve, references), curve
    )


def average_precision(curve: Curve, references: int) -> float:
    """Return the 101-point interpolated average precision (0..1); NaN without reference objects."""
    if references == 0:
        return float("nan")
    if len(curve.precision) == 0:
        return 0.0
    # Precision at a recall is the best that any lower confidence limit still reaches.
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    at = np.searchsorted(curve.recall, _RECALLS, side="left")
    return float(np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0.0).mean())


def mean_average_precision(classes: Sequence[ClassAccuracy]) -> float:
    """Return the mean over classes that have reference objects; NaN if none has."""
    known = [one.average_precision for one in classes if not np.isnan(one.average_precision)]
    return float(np.mean(known)) if known else float("nan")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
