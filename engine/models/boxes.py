"""Numbers that detection networks put out, as boxes, scores and labels; pure numpy, no framework and no file.

Boxes are (n, 4) xmin, ymin, xmax, ymax in pixels of the network's image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .anchors import Grids, anchor_boxes, decode_deltas, decode_grid, joined_levels
from .roles import BOXES, END_TO_END, OutputRole
from .rotated import corners, keep_best

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_MOST_CANDIDATES = 30_000  # what reaches suppression at most, as the makers of YOLO do it


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image above the threshold.

    Attributes:
        boxes: (n, 4).
        scores: (n,).
        labels: (n,), positions in the definition's classes.
        rows: (n,), places in the network's output.
        angles: (n,) in radians, of rotated boxes.
        rings: (n, 4, 2) corners of rotated boxes.
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    rows: Ints
    angles: Optional[Floats] = None
    rings: Optional[npt.NDArray[np.float64]] = None

    def take(self, places: npt.NDArray[np.generic]) -> Candidates:
        """Return the candidates at ``places`` (indices or a mask)."""
        return Candidates(
            self.boxes[places],
            self.scores[places],
            self.labels[places],
            self.rows[places],
            None if self.angles is None else self.angles[places],
            None if self.rings is None else self.rings[places],
        )


def decode(
    role: OutputRole,
    outputs: Mapping[str, npt.NDArray[np.generic]],
    *,
    images: int,
    width: int,
    height: int,
    classes: int,
    threshold: float,
    overlap: float,
) -> list[Candidates]:
    """Return the boxes of each image of a batch, best first where suppression took place.

    Args:
        role: what the outputs mean.
        outputs: arrays by role name ("Main", "Boxes", "Scores", "Labels").
        images: number of images in the batch.
        width: columns of an image.
        height: rows of an image.
        classes: number of classes in the definition.
        threshold: scores must exceed it.
        overlap: intersection over union above which the weaker of two boxes of a class goes.

    Raises:
        ModelError: the arrays do not have the shape that the role promises, or name a class that is not defined.
    """
    if role.kind == BOXES:
        found = _from_tables(role, *_joined(role, outputs, classes), images, classes, threshold, (width, height))
    elif role.kind == END_TO_END:
        found = _from_end_to_end(role, outputs["Main"], images, threshold)
    else:
        found = _from_rows(role, outputs["Main"], images, classes, threshold, (width, height))
    result = []
    for candidates in found:
        placed = _placed(role, candidates, width, height)
        # Half precision may overflow in boxes far outside.
        placed = placed.take(np.flatnonzero(np.isfinite(placed.boxes).all(axis=1)))
        _check_labels(placed.labels, classes)
        result.append(suppress(placed, overlap) if role.suppress else placed)
    return result


def _placed(role: OutputRole, found: Candidates, width: int, height: int) -> Candidates:
    """Return candidates with boxes as corners in pixels; rotated ones with their own corners as well."""
    scale = np.array([width, height, width, height] if role.box_units == "fraction" else [1] * 4, np.float32)
    if found.angles is not None:
        rings = corners(found.boxes * scale, found.angles)
        boxes = np.concatenate([rings.min(axis=1), rings.max(axis=1)], axis=1).astype(np.float32)
        return Candidates(boxes, found.scores, found.labels, found.rows, found.angles, rings)
    boxes = found.boxes
    if role.encoding != "anchors":  # those are decoded already
        boxes = to_corners(boxes, _box_format(role)) * scale
    return Candidates(boxes, found.scores, found.labels, found.rows)


def to_corners(boxes: Floats, box_format: str) -> Floats:
    """Return (n, 4) boxes given as ``box_format`` as xmin, ymin, xmax, ymax."""
    a, b, c, d = (boxes[:, index] for index in range(4))
    if box_format == "yxyx":
        return np.stack([b, a, d, c], axis=1)
    if box_format == "xywh":
        return np.stack([a, b, a + c, b + d], axis=1)
    if box_format == "cxcywh":
        return np.stack([a - c / 2, b - d / 2, a + c / 2, b + d / 2], axis=1)
    return boxes


def suppress(candidates: Candidates, overlap: float) -> Candidates:
    """Keep, class by class, the best of boxes that overlap by more than ``overlap`` (intersection over union)."""
    order = np.argsort(-candidates.scores, kind="stable")[:_MOST_CANDIDATES]
    ordered = candidates.take(order)
    if not len(order):
        return ordered
    keep: list[npt.NDArray[np.int64]] = []
    for label in np.unique(ordered.labels):
        places = np.flatnonzero(ordered.labels == label)
        if ordered.rings is not None:
            keep.append(places[keep_best(ordered.rings[places], overlap)])
        else:
            keep.append(places[_keep_best(ordered.boxes[places].astype(np.float64), overlap)])
    return ordered.take(np.sort(np.concatenate(keep)))


def _keep_best(boxes: npt.NDArray[np.float64], overlap: float) -> npt.NDArray[np.int64]:
    """Return the indices of boxes that survive; ``boxes`` come best first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.arange(len(boxes))
    kept = []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[others, :2])
        high = np.minimum(boxes[best, 2:], boxes[others, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        union = areas[best] + areas[others] - common
        left = others[common <= overlap * union]
    return np.array(kept, dtype=np.int64)


def activate(scores: npt.NDArray[np.generic], activation: str, axis: int = -1) -> Floats:
    """Turn raw scores into probabilities: "none", "sigmoid" or "softmax" along ``axis``."""
    values = scores.astype(np.float32, copy=False)
    if activation == "sigmoid":
        # exp of a negative number only, so that nothing overflows
        small = np.exp(-np.abs(values))
        return np.where(values >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32, copy=False)
    if activation == "softmax":
        raised = np.exp(values - values.max(axis=axis, keepdims=True))
        total = raised.sum(axis=axis, keepdims=True)
        return np.asarray(raised / total, dtype=np.float32)
    return values


def _box_format(role: OutputRole) -> str:
    """Return how boxes are written; for finished detections the names of the columns say it."""
    if role.kind != END_TO_END:
        return role.box_format
    if "cx" in role.columns:
        return "cxcywh"
    return "xywh" if "width" in role.columns else "xyxy"


def _from_rows(
    role: OutputRole,
    output: npt.NDArray[np.generic],
    images: int,
    classes: int,
    threshold: float,
    size: Tuple[int, int],
) -> list[Candidates]:
    """Decode YOLO's rows: a box, objectness if any, one score per class, mask coefficients or an angle if any."""
    rows = _batched(output, images, 3, "the rows of boxes")
    if role.orientation == "columns":
        rows = rows.transpose(0, 2, 1)
    first = 5 if role.objectness else 4
    turned = role.angle != "none"
    more = rows.shape[2] - first - classes - turned
    if more < 0 or (more > 0 and "Prototypes" not in role.tensors):
        raise ModelError(
            f"The network has {rows.shape[2] - first - turned} class scores per box, but the definition lists "
            f"{classes} {_plural(classes)}.",
            stage="predicting",
            hint="Correct Classes, Objectness or Orientation in the model definition.",
        )
    result = []
    for image in rows:
        scores = activate(image[:, first : first + classes], role.activation)
        if role.objectness:
            scores = scores * activate(image[:, 4:5], role.activation if role.activation == "sigmoid" else "none")
        boxes = image[:, :4]
        if role.encoding == "grid":
            boxes = decode_grid(boxes.astype(np.float32), role.strides, *size)
        found = _pick(boxes, scores, threshold, role.multi_label)
        result.append(_with_angles(role, found, image[:, -1]) if turned else found)
    return result


def _with_angles(role: OutputRole, found: Candidates, values: npt.NDArray[np.generic]) -> Candidates:
    angles = values[found.rows].astype(np.float32)
    return replace(found, angles=np.deg2rad(angles) if role.angle == "degrees" else angles)


def _joined(
    role: OutputRole, outputs: Mapping[str, npt.NDArray[np.generic]], classes: int
) -> tuple[dict[str, npt.NDArray[np.generic]], Grids]:
    """Return the outputs with the levels of a head joined, and the cells of each level where they are known."""
    joined = {key: array for key, array in outputs.items() if "." not in key}
    grids: Grids = ()
    for name, numbers in (("Boxes", 4), ("Scores", classes + (role.background != "none"))):
        levels = [outputs[key] for key in sorted(outputs, key=_level) if key.startswith(f"{name}.")]
        maps = [joined[name]] if not levels and name in joined and role.encoding == "anchors" else levels
        if maps:
            joined[name], found = joined_levels(maps, numbers)
            grids = found or grids
    return joined, grids


def _level(key: str) -> int:
    number = key.partition(".")[2]
    return int(number) if number else -1


def _from_tables(
    role: OutputRole,
    outputs: Mapping[str, npt.NDArray[np.generic]],
    grids: Grids,
    images: int,
    classes: int,
    threshold: float,
    size: Tuple[int, int],
) -> list[Candidates]:
    """Decode boxes, scores and perhaps labels that come in arrays of their own."""
    boxes = outputs["Boxes"]
    if boxes.ndim == 4 and boxes.shape[2] == 1:
        boxes = boxes[:, :, 0]
    boxes = _batched(boxes, images, 3, "the boxes")
    labels = outputs.get("Labels")
    scores = _batched(outputs["Scores"], images, 2 if labels is not None else 3, "the scores")
    labels = None if labels is None else _batched(labels, images, 2, "the labels")
    anchors = _anchors(role, outputs, grids, size) if role.encoding == "anchors" else None
    result = []
    for index in range(images):
        if labels is not None:
            values = activate(scores[index], role.activation)
            chosen = np.flatnonzero(values > threshold)
            numbers = np.rint(labels[index][chosen].astype(np.float64)).astype(np.int64) - role.first_label
            picked = Candidates(boxes[index][chosen].astype(np.float32), values[chosen], numbers, chosen)
        else:
            values = _without_background(activate(scores[index], role.activation), role.background, classes)
            picked = _pick(boxes[index], values, threshold, role.multi_label)
        if anchors is not None:
            _check_count(len(boxes[index]), len(anchors))
            deltas = picked.boxes[:, [1, 0, 3, 2]] if role.box_format == "yxyx" else picked.boxes
            picked = replace(picked, boxes=decode_deltas(deltas, anchors[picked.rows], role.weights, *size))
        result.append(picked)
    return result


def _anchors(
    role: OutputRole, outputs: Mapping[str, npt.NDArray[np.generic]], grids: Grids, size: Tuple[int, int]
) -> Floats:
    """Return the anchors of an image, from the network's own output or by their rule."""
    if role.anchors is not None:
        return anchor_boxes(role.anchors, *size, grids)
    boxes = outputs["Anchors"].reshape(-1, 4).astype(np.float32)
    scale = np.array([*size, *size] if role.box_units == "fraction" else [1] * 4, np.float32)
    return to_corners(boxes, role.box_format) * scale


def _check_count(found: int, anchors: int) -> None:
    if found != anchors:
        raise ModelError(
            f"The network gives {found} boxes per image, but the definition's anchors are {anchors}.",
            stage="predicting",
            hint="Correct Anchors of Output (strides, sizes, ratios, grids) or the image size in the model definition.",
        )


def _from_end_to_end(
    role: OutputRole, output: npt.NDArray[np.generic], images: int, threshold: float
) -> list[Candidates]:
    """Decode rows that hold a finished detection each."""
    columns = {name: index for index, name in enumerate(role.columns) if name != "ignored"}
    per_image = "image" not in columns
    rows = _batched(output, images, 3, "the detections") if per_image else output.reshape(1, -1, output.shape[-1])
    if rows.shape[2] < len(role.columns):
        raise ModelError(
            f"A detection of the network has {rows.shape[2]} numbers, but Columns of the definition names "
            f"{len(role.columns)}.",
            stage="predicting",
        )
    turned = "angle" in columns
    sizes = ("width", "height") if "width" in columns else ("xmax", "ymax")
    corners = (("cx", "cy") if "cx" in columns else ("xmin", "ymin")) + sizes
    try:
        box_places = [columns[name] for name in corners]
    except KeyError as error:
        raise ModelError(f"Columns of the definition lacks {error}.", stage="reading the definition") from error
    result = []
    for index in range(images):
        table = rows[index] if per_image else rows[0][np.rint(rows[0][:, columns["image"]]) == index]
        scores = activate(table[:, columns["score"]], role.activation)
        chosen = np.flatnonzero(scores > threshold)
        numbers = np.zeros(len(chosen), np.int64)
        if "label" in columns:
            numbers = np.rint(table[chosen, columns["label"]].astype(np.float64)).astype(np.int64) - role.first_label
        boxes = table[chosen][:, box_places].astype(np.float32)
        found = Candidates(boxes, scores[chosen], numbers, chosen)
        if turned:
            angles = table[chosen, columns["angle"]].astype(np.float32)
            found = replace(found, angles=np.deg2rad(angles) if role.angle == "degrees" else angles)
        result.append(found)
    return result


def _pick(boxes: npt.NDArray[np.generic], scores: Floats, threshold: float, multi_label: bool) -> Candidates:
    """Choose the scores above the threshold: the best class of each box, or every class."""
    if multi_label:
        rows, labels = np.nonzero(scores > threshold)
    else:
        best = scores.argmax(axis=1) if scores.shape[1] else np.zeros(len(scores), np.int64)
        rows = np.flatnonzero(scores[np.arange(len(scores)), best] > threshold)
        labels = best[rows]
    return Candidates(boxes[rows].astype(np.float32), scores[rows, labels], labels.astype(np.int64), rows)


def _without_background(scores: Floats, background: str, classes: int) -> Floats:
    found = scores.shape[1] - (background != "none")
    if found != classes:
        raise ModelError(
            f"The network has scores for {found} {_plural(found)} besides the background, but the definition lists "
            f"{classes}.",
            stage="predicting",
            hint="Correct Classes or Background in the model definition.",
        )
    return scores[:, 1:] if background == "first" else scores[:, :-1] if background == "last" else scores


def _batched(array: Optional[npt.NDArray[np.generic]], images: int, axes: int, what: str) -> npt.NDArray[np.generic]:
    """Return ``array`` with ``axes`` axes, the first being the image; some exports leave it out."""
    if array is not None and array.ndim == axes - 1 and images == 1:
        array = array[np.newaxis]
    if array is not None and array.ndim == axes + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array is None or array.ndim != axes or array.shape[0] != images:
        shape = "nothing" if array is None else " x ".join(map(str, array.shape))
        raise ModelError(
            f"The network gave {shape} for {what}, but {axes} axes for {images} images were expected.",
            stage="predicting",
            hint="Correct Kind and Tensors of Output in the model definition.",
        )
    return array


def _check_labels(labels: Ints, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ModelError(
            f"The network found an object of class number {int(wrong[0]) + 1}, but the definition lists {classes} "
            f"{_plural(classes)}.",
            stage="predicting",
            hint="Correct Classes or FirstLabel in the model definition.",
        )


def _plural(count: int) -> str:
    return "class" if count == 1 else "classes"
