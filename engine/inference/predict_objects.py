"""Objects of a group of tiles: asked of the network, put into the grid's pixels, kept by the tile that owns them."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Tuple

import numpy as np
import numpy.typing as npt

from ..models.base import Detections
from .augment import augmented_detections
from .predict import Work, batches
from .rescale import at_scale
from .seams import at_home, cut_sides, owned
from .tiles import Tile

Array = npt.NDArray[Any]


def predict_objects(work: Work) -> Tuple[Dict[str, Array], Dict[str, Any]]:
    """Return the objects that the group's tiles report, in pixels of the item's grid."""
    found: List[Tuple[Tile, Detections, Array]] = []
    for tiles, pixels, valid in batches(work):
        model, settings = work.loaded.model, work.loaded.settings
        if settings.test_time_augmentation:
            ask = partial(work.ask, model.detect)
            ways = [at_scale(ask, scale, work.plan.tiles) for scale in settings.tta_scales]
            answers = augmented_detections(ways, pixels, valid, settings.merge_policy)
        else:
            answers = work.ask(model.detect, pixels, valid)
        for tile, answer, data in zip(tiles, answers, valid):
            found.append((tile, answer, data))
    parts = [_reported(work, *one) for one in found]
    parts = [one for one in parts if len(one["scores"])]
    if not parts:
        return {}, {}
    attributes = [values for one in parts for values in one.pop("attributes")]
    attributes = attributes if any(attributes) else []
    names = parts[0].keys()
    return {name: np.concatenate([one[name] for one in parts]) for name in names}, {"attributes": attributes}


def _reported(work: Work, tile: Tile, found: Detections, valid: Array) -> Dict[str, Any]:
    """Return the arrays of those objects of a tile that it reports."""
    grid = work.item.grid
    offset = np.array([tile.window.col, tile.window.row] * 2, dtype=np.float64)
    boxes = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4) + offset
    limits = np.array([grid.width, grid.height] * 2, dtype=np.float64)
    boxes = np.clip(boxes, 0, limits)
    cut = cut_sides(boxes, tile.window, grid.window)
    keep = owned(boxes, cut, tile.inner, max(work.plan.tiles.halo, 1))
    keep &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & np.isfinite(boxes).all(1)
    if not valid.all():
        keep &= _on_data(boxes - offset, valid)
    if work.mask is not None:
        keep &= _in_mask(boxes, keep, work)
    if not work.loaded.settings.exclude_pad_detections:
        cut = np.zeros_like(cut)  # every piece counts as a whole object, so nothing is joined or gives way
    kept = np.flatnonzero(keep)
    rings = found.rings or ()
    chosen = [[np.asarray(ring, float) + offset[:2] for ring in rings[i]] for i in kept.tolist()] if len(rings) else []
    flat = [ring for one in chosen for ring in one]
    attributes = list(found.attributes) if len(found.attributes) else [{} for _ in range(len(boxes))]
    return {
        "boxes": boxes[kept],
        "scores": np.asarray(found.scores, np.float32)[kept],
        "labels": np.asarray(found.labels, np.int64)[kept],
        "tiles": np.full(len(kept), tile.index, np.int64),
        "cut": cut[kept],
        "home": at_home(boxes, tile.inner)[kept],
        "ring_counts": np.array([len(one) for one in chosen] or [0] * len(kept), np.int64),
        "ring_sizes": np.array([len(one) for one in flat], np.int64),
        "ring_points": np.concatenate(flat) if flat else np.zeros((0, 2)),
        "attributes": [attributes[i] for i in kept],
    }


def _on_data(boxes: Array, valid: Array) -> npt.NDArray[np.bool_]:
    """Return which boxes (pixels of the tile) hold a valid pixel."""
    sums = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), np.int64)
    sums[1:, 1:] = valid.cumsum(0).cumsum(1)
    left, top = (np.clip(np.floor(boxes[:, i]), 0, valid.shape[1 - i]).astype(int) for i in (0, 1))
    right, bottom = (np.clip(np.ceil(boxes[:, i]), 0, valid.shape[3 - i]).astype(int) for i in (2, 3))
    answer: npt.NDArray[np.bool_] = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left] > 0
    return answer


def _in_mask(boxes: Array, candidates: Array, work: Work) -> npt.NDArray[np.bool_]:
    """Return which of the candidate boxes have their centre inside the mask."""
    answer = np.zeros(len(boxes), bool)
    if work.mask is not None:
        x, y = work.item.grid.to_map((boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2)
        for i in np.flatnonzero(candidates):
            answer[i] = work.mask.intersects((float(x[i]), float(y[i]), float(x[i]), float(y[i])))
    return answer
