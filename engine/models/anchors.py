"""Boxes that networks state as offsets: from anchors (RetinaNet, SSD) or from the cells of grids (YOLOX); numpy only.

Generators and box coder: torchvision's AnchorGenerator, DefaultBoxGenerator and BoxCoder (BSD-3-Clause) and the
papers, Lin et al. 2017 (RetinaNet), Liu et al. 2016 (SSD), Ge et al. 2021 (YOLOX).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import Any, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import ModelError

Floats = npt.NDArray[np.float32]
Grids = Tuple[Tuple[int, int], ...]
_LARGEST_GROWTH = math.log(1000 / 16)  # beyond it, the exponential of a size makes no sense
KINDS = ("retinanet", "ssd", "list")
_SPACINGS, _ORDERS = ("stride", "divided"), ("ratios", "sizes")


@dataclass(frozen=True)
class AnchorRole:
    """How the anchors of a network lie; ``docs/onnx.md`` describes the members.

    Attributes:
        kind: "retinanet" (sizes in pixels on strided levels), "ssd" (fractions of the image), "list".
        strides: of each level, in pixels.
        sizes: of "retinanet", per level the sides in pixels.
        ratios: height by width; per level, or one list for all.
        spacing: distance of anchors: the "stride", or the image's side "divided" by the cells, as torchvision does.
        order: which of sizes and ratios is the outer loop.
        offset: of the first centre, in strides.
        round: whether the corners around the centre are whole numbers, as torchvision makes them.
        scales: of "ssd", one more than levels.
        grids: of "ssd", cells per side of each level.
        clip: of "ssd", whether sides are at most those of the image.
        boxes: of "list", centre x, centre y, width, height as fractions of the image.
    """

    kind: str
    strides: Tuple[float, ...] = ()
    sizes: Tuple[Tuple[float, ...], ...] = ()
    ratios: Tuple[Tuple[float, ...], ...] = ()
    spacing: str = "stride"
    order: str = "ratios"
    offset: float = 0.0
    round: bool = False
    scales: Tuple[float, ...] = ()
    grids: Tuple[int, ...] = ()
    clip: bool = True
    boxes: Tuple[Tuple[float, ...], ...] = ()

    @classmethod
    def from_members(cls, members: object) -> AnchorRole:
        """Read the object ``Anchors``.

        Raises:
            ValueError: with what is wrong.
        """
        if not isinstance(members, Mapping):
            raise ValueError("must be an object")
        names = {item.name.capitalize(): item.name for item in fields(cls)}
        unknown = [name for name in members if name not in names]
        if unknown:
            raise ValueError(f"{', '.join(map(str, unknown))} is not known")
        values = {names[name]: _plain(value) for name, value in members.items()}
        ratios = values.get("ratios", ())
        if ratios and not isinstance(ratios[0], tuple):
            values["ratios"] = (ratios,)
        found = cls(**{"kind": "", **values})
        found._check()
        return found

    def to_members(self) -> dict[str, Any]:
        """Return the object ``Anchors``; :meth:`from_members` is the inverse."""
        default = AnchorRole(self.kind)
        changed = {item.name: getattr(self, item.name) for item in fields(self)}
        kept = {name: value for name, value in changed.items() if value != getattr(default, name) or name == "kind"}
        return {name.capitalize(): _listed(value) for name, value in kept.items()}

    def _check(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Kind is one of {', '.join(KINDS)}")
        levels = len(self.grids) or len(self.strides) or max(len(self.scales) - 1, 0)
        wrong = {
            "Spacing": self.spacing not in _SPACINGS,
            "Order": self.order not in _ORDERS,
            "Strides": self.kind == "retinanet" and not self.strides,
            "Sizes": self.kind == "retinanet" and (not self.sizes or len(self.sizes) != len(self.strides)),
            "Ratios": self.kind != "list" and len(self.ratios) not in (1, levels),
            "Scales": self.kind == "ssd" and len(self.scales) != levels + 1,
            "Boxes": self.kind == "list" and not (self.boxes and all(len(one) == 4 for one in self.boxes)),
        }
        if any(wrong.values()):
            raise ValueError(f"{', '.join(name for name, bad in wrong.items() if bad)} is missing or does not fit")

    def _ratios(self, level: int) -> Tuple[float, ...]:
        return self.ratios[level if len(self.ratios) > 1 else 0]


def _plain(value: object) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_plain(one) for one in value)
    return value if isinstance(value, (str, bool)) else float(value)  # type: ignore[arg-type]


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


@functools.lru_cache(maxsize=8)
def anchor_boxes(role: AnchorRole, width: int, height: int, grids: Grids = ()) -> Floats:
    """Return the anchors (n, 4) xmin, ymin, xmax, ymax in pixels of an image.

    Args:
        role: how they lie.
        width: columns of the image.
        height: rows of the image.
        grids: (rows, columns) of each level, where the network's outputs tell them.
    """
    if role.kind == "list":
        boxes = np.array(role.boxes, np.float64) * [width, height, width, height]
        return _corners(boxes[:, :2], boxes[:, 2:])
    levels = len(grids) or len(role.grids) or len(role.strides)
    parts = []
    for level in range(levels):
        stride = role.strides[level] if level < len(role.strides) else 0.0
        if grids:
            rows, columns = grids[level]
        elif role.grids:
            rows = columns = int(role.grids[level])
        else:
            rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        make = _strided_level if role.kind == "retinanet" else _ssd_level
        parts.append(make(role, level, stride, (rows, columns), (height, width)))
    return np.concatenate(parts)


def _strided_level(
    role: AnchorRole, level: int, stride: float, grid: Tuple[int, int], image: Tuple[int, int]
) -> Floats:
    ratios, sizes = role._ratios(level), role.sizes[level]
    pairs = [(ratio, size) for ratio in ratios for size in sizes]
    if role.order == "sizes":
        pairs = [(ratio, size) for size in sizes for ratio in ratios]
    wide = np.array([size / math.sqrt(ratio) for ratio, size in pairs])
    high = np.array([size * math.sqrt(ratio) for ratio, size in pairs])
    base = np.stack([-wide, -high, wide, high], axis=1) / 2
    base = np.round(base) if role.round else base
    steps = (image[0] // grid[0], image[1] // grid[1]) if role.spacing == "divided" else (stride, stride)
    y, x = ((np.arange(cells) + role.offset) * step for cells, step in zip(grid, steps))
    shift = np.stack([np.tile(x, grid[0]), np.repeat(y, grid[1])] * 2, axis=1)
    return (shift[:, np.newaxis] + base).reshape(-1, 4).astype(np.float32)


def _ssd_level(role: AnchorRole, level: int, stride: float, grid: Tuple[int, int], image: Tuple[int, int]) -> Floats:
    scale, following = role.scales[level], role.scales[level + 1]
    sides = [(scale, scale), (math.sqrt(scale * following),) * 2]
    for ratio in role._ratios(level):
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        sides += [(long, short), (short, long)]
    pairs = np.array(sides)
    pairs = np.clip(pairs, 0, 1) if role.clip else pairs
    divisors = [side / stride if stride else cells for side, cells in zip(image, grid)]
    y, x = ((np.arange(cells) + 0.5) / divisor for cells, divisor in zip(grid, divisors))
    centres = np.stack([np.tile(x, grid[0]), np.repeat(y, grid[1])], axis=1).repeat(len(pairs), axis=0)
    size = np.array([image[1], image[0]])
    return _corners(centres * size, np.tile(pairs, (grid[0] * grid[1], 1)) * size)


def _corners(centres: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> Floats:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32)


def decode_deltas(deltas: Floats, anchors: Floats, weights: Sequence[float], width: int, height: int) -> Floats:
    """Return boxes (..., 4) xmin, ymin, xmax, ymax inside the image.

    Args:
        deltas: (n, 4) shifts of the centre in anchor sizes and logarithms of the growth, times ``weights``.
        anchors: (n, 4) xmin, ymin, xmax, ymax.
        weights: what the four numbers are multiplied by in the network.
        width: columns of the image.
        height: rows of the image.
    """
    sizes = anchors[:, 2:] - anchors[:, :2]
    parts = deltas.astype(np.float32) / np.asarray(weights, np.float32)
    centres = anchors[:, :2] + sizes / 2 + parts[:, :2] * sizes
    grown = sizes * np.exp(np.minimum(parts[:, 2:], np.float32(_LARGEST_GROWTH)))
    boxes = np.concatenate([centres - grown / 2, centres + grown / 2], axis=1)
    inside: Floats = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    return inside


def decode_grid(boxes: Floats, strides: Sequence[float], width: int, height: int) -> Floats:
    """Return boxes (n, 4) centre x, centre y, width, height in pixels of a head that counts in cells.

    Args:
        boxes: (n, 4) offset from the cell's corner in cells, and logarithms of the sides in cells; the levels follow
            each other, finest first, row by row.
        strides: pixels per cell of each level.
        width: columns of the image.
        height: rows of the image.
    """
    places, steps = [], []
    for stride in strides:
        rows, columns = int(height // stride), int(width // stride)
        places.append(np.stack([np.tile(np.arange(columns), rows), np.repeat(np.arange(rows), columns)], axis=1))
        steps.append(np.full((rows * columns, 1), stride, np.float32))
    cells, step = np.concatenate(places).astype(np.float32), np.concatenate(steps)
    if len(cells) != len(boxes):
        raise ModelError(
            f"The network gives {len(boxes)} boxes per image, but Strides make {len(cells)} cells.",
            stage="predicting",
            hint="Correct Strides of Output in the model definition.",
        )
    values = boxes.astype(np.float32)
    with np.errstate(over="ignore"):
        return np.concatenate([(values[:, :2] + cells) * step, np.exp(values[:, 2:4]) * step], axis=1)


def joined_levels(levels: Sequence[npt.NDArray[np.generic]], numbers: int) -> tuple[npt.NDArray[np.generic], Grids]:
    """Return the (N, boxes, numbers) table of a head's levels, and the cells (rows, columns) of each where they tell.

    Args:
        levels: (N, anchors * numbers, rows, columns) maps, or (N, boxes, numbers) tables.
        numbers: per anchor; 4, or one per class.
    """
    tables, grids = [], []
    for level in levels:
        if level.ndim == 4:
            images, channels, rows, columns = level.shape
            if channels % numbers:
                raise ModelError(
                    f"A level of the network has {channels} channels, which is no multiple of {numbers}.",
                    stage="predicting",
                    hint="Correct Classes, Background or Tensors of Output in the model definition.",
                )
            split = level.reshape(images, channels // numbers, numbers, rows, columns)
            tables.append(split.transpose(0, 3, 4, 1, 2).reshape(images, -1, numbers))
            grids.append((rows, columns))
        else:
            tables.append(level)
    return (np.concatenate(tables, axis=1) if len(tables) > 1 else tables[0]), tuple(grids)
