"""Figures of quality: average precision of boxes, confusion of classes. Pure numpy; undefined figures are NaN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Sequence

import numpy as np
import numpy.typing as npt

from ..evaluation.matching import Pairs, accuracy, match, mean_average_precision

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassFigures:
    """One row of the table per class: its name, how many reference things it has, and figures by name (0..1)."""

    name: str
    count: int
    figures: dict[str, float]


@dataclass
class BoxScores:
    """Collects boxes image by image; ``overlap`` is the IoU from which a box is right."""

    classes: Sequence[str]
    overlap: float = 0.5
    _pairs: list[tuple[int, int, float]] = field(default_factory=list)
    _scores: list[Floats] = field(default_factory=list)
    _found: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _true: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def add(
        self,
        boxes: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        true_boxes: npt.NDArray[np.float32],
        true_labels: npt.NDArray[np.int64],
    ) -> None:
        """Add the detections and the truth of one image."""
        first, first_true = sum(map(len, self._found)), sum(map(len, self._true))
        same = labels[:, None] == true_labels[None]
        overlap = np.where(same, box_overlap(boxes, true_boxes), 0)
        for found, true in zip(*np.nonzero(overlap), strict=True):
            self._pairs.append((first + int(found), first_true + int(true), float(overlap[found, true])))
        self._scores.append(scores.astype(np.float64))
        self._found.append(labels)
        self._true.append(true_labels)

    def table(self) -> tuple[list[ClassFigures], float]:
        """Return the figures per class, and the mean average precision over classes that occur."""
        scores = np.concatenate(self._scores) if self._scores else np.zeros(0)
        found = np.concatenate(self._found) if self._found else np.zeros(0, np.int64)
        true = np.concatenate(self._true) if self._true else np.zeros(0, np.int64)
        left, right, overlap = zip(*self._pairs, strict=True) if self._pairs else ((), (), ())
        pairs = Pairs(np.array(left, np.int64), np.array(right, np.int64), np.array(overlap, np.float64))
        good = match(pairs, scores, len(true), self.overlap)
        results = [
            accuracy(name, good[found == place], scores[found == place], int((true == place).sum()))
            for place, name in enumerate(self.classes)
        ]
        rows = []
        for result in results:
            curve = result.curve
            total = curve.precision + curve.recall
            with np.errstate(invalid="ignore", divide="ignore"):
                f1 = np.where(total > 0, 2 * curve.precision * curve.recall / total, 0.0)
            count = result.true_positive + result.false_negative
            best = int(np.argmax(f1)) if len(f1) and count else -1
            rows.append(
                ClassFigures(
                    result.name,
                    count,
                    {
                        "average_precision": result.average_precision,
                        "best_f1": float(f1[best]) if best >= 0 else float("nan"),
                        "score_of_best_f1": float(curve.confidence[best]) if best >= 0 else float("nan"),
                    },
                )
            )
        return rows, mean_average_precision(results)


def box_overlap(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> Floats:
    """Return the (n, m) intersection over union of xyxy boxes."""
    a, b = first.astype(np.float64).reshape(-1, 4), second.astype(np.float64).reshape(-1, 4)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None] + (b[:, 2:] - b[:, :2]).prod(axis=1)[None] - common
    result: Floats = np.where(union > 0, common / np.where(union > 0, union, 1), 0.0)
    return result


@dataclass
class Confusion:
    """Counts of (true, predicted) class positions."""

    classes: Sequence[str]
    counts: Optional[npt.NDArray[np.int64]] = None

    def add(self, true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> None:
        """Add pairs of positions; pairs whose true class is negative do not count."""
        size = len(self.classes)
        known = true >= 0
        pairs = np.bincount(true[known] * size + predicted[known], minlength=size * size).reshape(size, size)
        self.counts = pairs if self.counts is None else self.counts + pairs

    def table(self) -> tuple[list[ClassFigures], dict[str, float]]:
        """Return precision, recall, F1 and IoU per class, and accuracy, mean F1 and mean IoU of classes that occur."""
        size = len(self.classes)
        counts = np.zeros((size, size)) if self.counts is None else self.counts.astype(np.float64)
        hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = hits / predicted, hits / true
            iou, f1 = hits / (true + predicted - hits), 2 * hits / (true + predicted)
        rows = [
            ClassFigures(
                name,
                int(true[place]),
                {
                    "precision": float(precision[place]),
                    "recall": float(recall[place]),
                    "f1_score": float(f1[place]),
                    "iou": float(iou[place]),
                },
            )
            for place, name in enumerate(self.classes)
        ]
        occurs = true > 0
        total = counts.sum()
        return rows, {
            "accuracy": float(hits.sum() / total) if total else float("nan"),
            "f1_score": float(f1[occurs].mean()) if occurs.any() else float("nan"),
            "miou": float(iou[occurs].mean()) if occurs.any() else float("nan"),
        }
