"""Test-time augmentation: predict flipped and turned copies of an image and join the answers."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..models.base import Detections
from .nms import pair_iou, suppress_boxes

Array = npt.NDArray[Any]
# (quarter turns, flipped): the eight symmetries of a square; the first four keep a rectangle's sides.
SYMMETRIES: Tuple[Tuple[int, bool], ...] = (
    (0, False), (0, True), (2, False), (2, True), (1, False), (1, True), (3, False), (3, True),
)  # fmt: skip
# Boxes of two copies that overlap by this much are the same object.
_SAME = 0.5


def symmetries(rows: int, columns: int) -> Sequence[Tuple[int, bool]]:
    """Return the symmetries that an image of this size has."""
    return SYMMETRIES if rows == columns else SYMMETRIES[:4]


def turned(images: Array, symmetry: Tuple[int, bool]) -> Array:
    """Return images (..., rows, columns) flipped left to right if asked, then turned counter-clockwise; a view."""
    turns, flipped = symmetry
    return np.rot90(images[..., ::-1] if flipped else images, turns, axes=(-2, -1))


def turned_back(images: Array, symmetry: Tuple[int, bool]) -> Array:
    """Undo :func:`turned`."""
    turns, flipped = symmetry
    back = np.rot90(images, -turns, axes=(-2, -1))
    return back[..., ::-1] if flipped else back


def points_back(x: Array, y: Array, symmetry: Tuple[int, bool], rows: int, columns: int) -> Tuple[Array, Array]:
    """Return where points of the turned image lie in the original of ``rows`` x ``columns`` pixels."""
    turns, flipped = symmetry
    height, width = (rows, columns) if turns % 2 == 0 else (columns, rows)
    for _ in range(turns):
        # one turn clockwise: the column becomes what remains of the row
        x, y = height - y, x
        height, width = width, height
    return (columns - x, y) if flipped else (x, y)


def merge(parts: Sequence[Array], policy: str) -> Array:
    """Join arrays of equal shape by their mean, maximum or minimum, in place of the first."""
    total = np.array(parts[0], dtype=np.float32, copy=True)
    for part in parts[1:]:
        if policy == "max":
            np.maximum(total, part, out=total)
        elif policy == "min":
            np.minimum(total, part, out=total)
        else:
            total += part
    if policy == "mean":
        total /= len(parts)
    return total


def augmented_scores(predict: Callable[[Array, Array], Array], pixels: Array, valid: Array, policy: str) -> Array:
    """Return the joined scores (N, channels, rows, columns) of a pixel classifier over all symmetries."""
    total, count = None, 0
    for symmetry in symmetries(*pixels.shape[-2:]):
        image = np.ascontiguousarray(turned(pixels, symmetry))
        scores = turned_back(predict(image, np.ascontiguousarray(turned(valid, symmetry))), symmetry)
        # One running array instead of eight: memory stays that of two predictions.
        total = np.array(scores, np.float32) if total is None else _accumulate(total, scores, policy)
        count += 1
    if total is None:
        raise ValueError("an image has at least one symmetry")
    return total / count if policy == "mean" else total


def _accumulate(total: Array, scores: Array, policy: str) -> Array:
    operation = {"max": np.maximum, "min": np.minimum}.get(policy, np.add)
    result: Array = operation(total, scores, out=total)
    return result


def augmented_probabilities(
    predict: Callable[[Array, Array], Array], pixels: Array, valid: Array, policy: str
) -> Array:
    """Return the joined probabilities (N, classes) of an object classifier over all symmetries."""
    parts = [
        predict(np.ascontiguousarray(turned(pixels, one)), np.ascontiguousarray(turned(valid, one)))
        for one in symmetries(*pixels.shape[-2:])
    ]
    return merge(parts, policy)


def augmented_detections(
    detects: Sequence[Callable[[Array, Array], List[Detections]]], pixels: Array, valid: Array, policy: str
) -> List[Detections]:
    """Return the joined objects of each image over all symmetries, asked in all given ways (scales).

    Objects of a class that overlap by half are one. Its outline is that of the most certain copy; its score is the
    mean, maximum or minimum over the copies, where a copy that did not see it counts as 0 for mean and minimum.
    """
    rows, columns = pixels.shape[-2:]
    wanted = symmetries(rows, columns)
    found: List[List[Detections]] = [[] for _ in range(len(pixels))]
    for symmetry in wanted:
        images = np.ascontiguousarray(turned(pixels, symmetry)), np.ascontiguousarray(turned(valid, symmetry))
        for detect in detects:
            for into, answer in zip(found, detect(*images)):
                into.append(_detections_back(answer, symmetry, rows, columns))
    return [_fuse(copies, policy) for copies in found]


def _detections_back(found: Detections, symmetry: Tuple[int, bool], rows: int, columns: int) -> Detections:
    x, y = points_back(found.boxes[:, [0, 2]], found.boxes[:, [1, 3]], symmetry, rows, columns)
    boxes = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1) if len(x) else found.boxes
    rings = None
    if found.rings is not None:
        rings = [
            [np.stack(points_back(ring[:, 0], ring[:, 1], symmetry, rows, columns), axis=1) for ring in one]
            for one in found.rings
        ]
    return Detections(boxes.astype(np.float32), found.scores, found.labels, rings, found.attributes)


def _fuse(copies: List[Detections], policy: str) -> Detections:
    boxes = np.concatenate([one.boxes for one in copies])
    scores = np.concatenate([one.scores for one in copies])
    labels = np.concatenate([one.labels for one in copies])
    source = np.repeat(np.arange(len(copies)), [len(one.scores) for one in copies])
    kept = suppress_boxes(boxes, scores, labels, _SAME)
    merged = np.empty(len(kept), np.float32)
    for position, best in enumerate(kept):
        same = (labels == labels[best]) & (pair_iou(np.broadcast_to(boxes[best], boxes.shape), boxes) > _SAME)
        same[best] = True
        seen = np.zeros(len(copies), np.float32)
        np.maximum.at(seen, source[same], scores[same])
        merged[position] = {"max": seen.max, "min": seen.min}.get(policy, seen.mean)()
    alive = merged > 0
    kept, merged = kept[alive], merged[alive]
    rings = [ring for one in copies for ring in one.rings or ()] if copies[0].rings is not None else None
    attributes = [values for one in copies for values in one.attributes]
    return Detections(
        boxes[kept],
        merged,
        labels[kept],
        None if rings is None else [rings[i] for i in kept],
        [attributes[i] for i in kept] if len(attributes) == len(boxes) else (),
    )
