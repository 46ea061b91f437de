"""A spatially blocked split: chips that share pixels never lie in different parts.

The area is cut into square blocks. Whole blocks go to training, validation or test, so that each class comes as close
as it can to the asked shares in each part. A chip of training that overlaps a chip of validation or test, because both
reach over the border of their blocks, is left out of training; one of validation that overlaps test, out of validation.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
import shapely

PARTS = ("train", "validation", "test")
LEFT_OUT = "left_out"
# Enough blocks for the shares to come out, but not so small that most chips touch a border.
_BLOCKS = 40
_MIN_CHIPS_PER_SIDE = 2


@dataclass(frozen=True)
class Placed:
    """A chip for the split: what it is called, where it lies in map units, and how many objects of each class it has.

    ``group`` keeps chips apart that share coordinates but no pixels, such as images without georeference.
    """

    name: str
    bounds: Tuple[float, float, float, float]
    classes: Mapping[int, int]
    group: str = ""


@dataclass(frozen=True)
class Split:
    """The part and the block of each chip, in the order given, and the side of a block in map units."""

    parts: Tuple[str, ...]
    blocks: Tuple[str, ...]
    block_size: float


def split_chips(chips: Sequence[Placed], shares: Tuple[float, float, float]) -> Split:
    """Return the split of ``chips``; ``shares`` of training, validation and test add up to 1. Always the same."""
    if not chips:
        return Split((), (), 0.0)
    boxes = np.array([one.bounds for one in chips], dtype=float)
    size = _block_size(boxes, [one.group for one in chips])
    origin = boxes[:, :2].min(axis=0)
    cells = np.floor(((boxes[:, :2] + boxes[:, 2:]) / 2 - origin) / size).astype(int)
    blocks = [f"{one.group}{x}_{y}" for one, (x, y) in zip(chips, cells.tolist())]
    part_of = _assign(chips, blocks, shares)
    parts = [part_of[one] for one in blocks]
    return Split(tuple(_without_overlaps(chips, boxes, parts)), tuple(blocks), size)


def _block_size(boxes: np.ndarray[Tuple[int, int], np.dtype[np.float64]], groups: Sequence[str]) -> float:
    spans = boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)
    chip = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
    per_group = max(1, _BLOCKS // len(set(groups)))
    return max(math.sqrt(float(spans[0] * spans[1]) / per_group), _MIN_CHIPS_PER_SIDE * chip, 1e-12)


def _assign(chips: Sequence[Placed], blocks: Sequence[str], shares: Tuple[float, float, float]) -> Dict[str, str]:
    """Return the part of each block: the rarest classes first, each block to the part that lacks most of it."""
    contents: Dict[str, Dict[int, int]] = {}
    for chip, block in zip(chips, blocks):
        held = contents.setdefault(block, {0: 0})
        held[0] += 1  # 0 counts chips; class values count their objects
        for value, number in chip.classes.items():
            held[value or -1] = held.get(value or -1, 0) + number
    totals: Dict[int, int] = {}
    for held in contents.values():
        for value, number in held.items():
            totals[value] = totals.get(value, 0) + number
    active = [index for index, share in enumerate(shares) if share > 0]
    lacking = {index: {value: shares[index] * total for value, total in totals.items()} for index in active}
    result: Dict[str, str] = {}
    for block in sorted(contents, key=lambda one: _order(one, contents[one], totals)):
        held = contents[block]
        best = max(active, key=lambda index: (_gain(held, lacking[index], totals), -index))
        for value, number in held.items():
            lacking[best][value] -= number
        result[block] = PARTS[best]
    return result


def _order(block: str, held: Mapping[int, int], totals: Mapping[int, int]) -> Tuple[float, str]:
    """Order blocks by the rarity of what they hold, then by a hash, so that place does not matter."""
    rarity = max(number / totals[value] for value, number in held.items() if totals[value]) if held else 0.0
    return -round(rarity, 3), hashlib.sha256(block.encode()).hexdigest()


def _gain(held: Mapping[int, int], lacking: Mapping[int, float], totals: Mapping[int, int]) -> float:
    """Return how much of what a part lacks the block would bring, less what it would bring too much."""
    gain = 0.0
    for value, number in held.items():
        if totals[value]:
            wanted = max(0.0, lacking[value])
            gain += (min(number, wanted) - max(0.0, number - wanted)) / totals[value]
    return gain


def _without_overlaps(
    chips: Sequence[Placed], boxes: np.ndarray[Tuple[int, int], np.dtype[np.float64]], parts: List[str]
) -> List[str]:
    result = list(parts)
    for held_back, others in (("test", ("train", "validation")), ("validation", ("train",))):
        kept = [index for index, part in enumerate(result) if part == held_back]
        if not kept:
            continue
        inset = 1e-6 * (boxes[:, 2:] - boxes[:, :2])  # chips that only touch share no pixel
        small = shapely.box(*(boxes[:, :2] + inset).T, *(boxes[:, 2:] - inset).T)
        left, right = shapely.STRtree(small[kept]).query(small, predicate="intersects")
        for index, position in zip(left.tolist(), right.tolist()):
            if result[index] in others and chips[index].group == chips[kept[position]].group:
                result[index] = LEFT_OUT
    return result
