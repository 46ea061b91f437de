"""Helpers that raster functions import: super tiles to batches of chips and back, boxes to rings, choice of a GPU.

Names, arguments and results are those of the module of the same name that ships with ArcGIS's raster functions. One
behaviour differs on purpose: :func:`batch_detection_results_to_tile_results` drops the scores and classes of boxes it
drops, which the published one forgets.
"""

from __future__ import annotations

import math
from typing import Any, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def calculate_rectangle_size_from_batch_size(batch_size: int) -> Tuple[int, int]:
    """Return rows and columns of a near-square rectangle of ``batch_size`` chips; (n, 1) where none fits exactly."""
    rows = math.isqrt(batch_size)
    return (rows, batch_size // rows) if batch_size % rows == 0 else (batch_size, 1)


def get_tile_size(
    model_height: int, model_width: int, padding: int, batch_height: int, batch_width: int
) -> Tuple[int, int]:
    """Return height and width of the inner part of a super tile of ``batch_height`` x ``batch_width`` chips."""
    return (model_height - 2 * padding) * batch_height, (model_width - 2 * padding) * batch_width


def tile_to_batch(
    pixel_block: Array,
    model_height: int,
    model_width: int,
    padding: int,
    fixed_tile_size: bool = True,
    **kwargs: int,
) -> Tuple[Array, int, int]:
    """Cut a block (bands, rows, columns) into overlapping chips.

    Returns:
        The chips (n, bands, model_height, model_width) row by row, zero where the block does not reach, and the
        number of chips down and across. Chips lie ``model - 2 * padding`` pixels apart.
    """
    inner_height, inner_width = model_height - 2 * padding, model_width - 2 * padding
    bands, rows, columns = pixel_block.shape
    if fixed_tile_size:
        down, across = kwargs["batch_height"], kwargs["batch_width"]
    else:
        down = math.ceil((rows - 2 * padding) / inner_height)
        across = math.ceil((columns - 2 * padding) / inner_width)
    batch = np.zeros((down * across, bands, model_height, model_width), dtype=pixel_block.dtype)
    for index in range(down * across):
        top, left = index // across * inner_height, index % across * inner_width
        part = pixel_block[:, top : top + model_height, left : left + model_width]
        batch[index, :, : part.shape[1], : part.shape[2]] = part
    return batch, down, across


def batch_to_tile(batch: Array, batch_height: int, batch_width: int) -> Array:
    """Join chips (n, bands, rows, columns) row by row into one block (bands, rows, columns)."""
    _, bands, rows, columns = batch.shape
    grid = batch[: batch_height * batch_width].reshape(batch_height, batch_width, bands, rows, columns)
    joined: Array = grid.transpose(2, 0, 3, 1, 4).reshape(bands, batch_height * rows, batch_width * columns)
    return joined


def convert_bounding_boxes_to_coord_list(bounding_boxes: Array) -> List[Array]:
    """Return the corners [y, x] of boxes (n, 4) given as ymin, xmin, ymax, xmax; clockwise on screen."""
    boxes = np.asarray(bounding_boxes, dtype=float).reshape(-1, 4)
    return [np.array([[y1, x1], [y1, x2], [y2, x2], [y2, x1]]) for y1, x1, y2, x2 in boxes]


def _touches_inside(bounding_boxes: Array, height: int, width: int, padding: int) -> Array:
    boxes = np.asarray(bounding_boxes, dtype=float).reshape(-1, 4)
    inside: Array = (
        (boxes[:, 0] < height - padding)
        & (boxes[:, 1] < width - padding)
        & (boxes[:, 2] > padding)
        & (boxes[:, 3] > padding)
    )
    return inside


def remove_bbox_in_padding(bounding_boxes: Array, chip_height: int, chip_width: int, padding: int) -> Array:
    """Return the boxes that touch the inner part of their chip."""
    boxes = np.asarray(bounding_boxes, dtype=float).reshape(-1, 4)
    kept: Array = boxes[_touches_inside(boxes, chip_height, chip_width, padding)]
    return kept


def batch_detection_results_to_tile_results(
    batch_bounding_boxes: Sequence[Array],
    batch_scores: Sequence[Array],
    batch_classes: Sequence[Array],
    tile_height: int,
    tile_width: int,
    padding: int,
    batch_width: int,
) -> Tuple[List[Array], Array, Array]:
    """Join the boxes of chips into those of their super tile.

    Returns:
        Corner lists as of :func:`convert_bounding_boxes_to_coord_list` with the origin at the upper left corner of
        the super tile's inner part, scores, and classes (uint8).
    """
    inner_height, inner_width = tile_height - 2 * padding, tile_width - 2 * padding
    boxes, scores, classes = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0)]
    for index, (its_boxes, its_scores, its_classes) in enumerate(
        zip(batch_bounding_boxes, batch_scores, batch_classes)
    ):
        keep = _touches_inside(its_boxes, tile_height, tile_width, padding)
        down, right = index // batch_width * inner_height, index % batch_width * inner_width
        moved = np.asarray(its_boxes, dtype=float).reshape(-1, 4)[keep] - padding
        boxes.append(moved + np.array([down, right, down, right]))
        scores.append(np.asarray(its_scores)[: len(keep)][keep])
        classes.append(np.asarray(its_classes)[: len(keep)][keep])
    return (
        convert_bounding_boxes_to_coord_list(np.concatenate(boxes)),
        np.concatenate(scores),
        np.concatenate(classes).astype(np.uint8),
    )


def get_available_device(max_memory: float = 0.8) -> int:
    """Return the GPU this worker was given (0), or -1 if it has none.

    The host places one worker on each GPU and hides the others, so there is nothing to choose from.
    """
    import os

    return 0 if os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1") and max_memory > 0 else -1
