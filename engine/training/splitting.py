"""Which chips are learnt from and which are held back to judge the result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Iterator, Optional, Sequence

import numpy as np

from ..chips.dataset import TRAIN, VALIDATION, Chip, ChipDataset
from ..errors import RasterError
from ..jobs import RasterInput
from ..raster.gdal import open_dataset

_BLOCKS = 20
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Member:
    """A chip with the folder it belongs to."""

    folder: ChipDataset
    chip: Chip

    @cached_property
    def bounds(self) -> Optional[Bounds]:
        """The xmin, ymin, xmax, ymax in map units: from the folder's table, else from the image; None if unknown."""
        if self.chip.bounds is not None:
            return self.chip.bounds
        try:
            with open_dataset(RasterInput(str(self.chip.image))) as image:
                box = image.bounds
                return None if image.transform.is_identity else (box.left, box.bottom, box.right, box.top)
        except RasterError:
            return None


def split(members: Sequence[Member], validation: float, seed: int) -> tuple[list[Member], list[Member]]:
    """Split chips: as their export says, else by blocks of neighbours, else at random.

    Neighbouring chips share pixels and objects, so a split by single chips would test on what was learnt.
    Returns training and validation; without validation, everything is for training.
    """
    if validation <= 0:
        return list(members), []
    parts = {member.chip.part for member in members}
    if TRAIN in parts and VALIDATION in parts:
        return (
            [member for member in members if member.chip.part == TRAIN],
            [member for member in members if member.chip.part == VALIDATION],
        )
    usable = [member for member in members if member.chip.part in ("", TRAIN, VALIDATION)] or list(members)
    groups: dict[str, list[Member]] = {}
    for key, member in _blocks(usable):
        groups.setdefault(key, []).append(member)
    if len(groups) == 1:
        # All chips lie on top of each other (turned copies of one place, or no map): single chips are the last resort.
        groups = {f"{number:09d}": [member] for number, member in enumerate(usable)}
    names = sorted(groups)
    np.random.default_rng([seed, 1]).shuffle(names)
    wanted = max(1, round(validation * len(usable)))
    held: list[Member] = []
    for name in names[:-1]:
        if len(held) >= wanted:
            break
        held += groups[name]
    chosen = {id(member) for member in held}
    learnt = [member for member in usable if id(member) not in chosen]
    apart = [member for member in learnt if not _overlaps(member, held)]
    # Chips that share pixels with those held back would spoil the judgement; unless they are nearly all there is.
    return (apart if len(apart) >= len(learnt) / 2 else learnt), held


def _overlaps(member: Member, others: Sequence[Member]) -> bool:
    """Whether a chip shares more than a hundredth of its area with one of the others."""
    mine = member.bounds
    if mine is None:
        return False
    area = (mine[2] - mine[0]) * (mine[3] - mine[1])
    for other in others:
        its = other.bounds
        if its is None:
            continue
        width, height = min(mine[2], its[2]) - max(mine[0], its[0]), min(mine[3], its[3]) - max(mine[1], its[1])
        if width > 0 and height > 0 and width * height > 0.01 * area:
            return True
    return False


def _blocks(members: Sequence[Member]) -> Iterator[tuple[str, Member]]:
    """Give each chip the name of its block: the export's, or a cell of a coarse grid over the map, or itself."""
    bounds = [member.bounds for member in members]
    known = [one for one in bounds if one is not None]
    cell = _block_size(known)
    for number, (member, box) in enumerate(zip(members, bounds, strict=True)):
        if member.chip.block:
            yield f"{member.folder.folder} {member.chip.block}", member
        elif box is not None and cell:
            yield f"{math.floor((box[0] + box[2]) / 2 / cell)} {math.floor((box[1] + box[3]) / 2 / cell)}", member
        else:
            yield f"{number:09d}", member


def _block_size(bounds: Sequence[Bounds]) -> Optional[float]:
    """Return the side of a square that divides the area of all chips into some twenty."""
    if not bounds:
        return None
    low_x, low_y = min(one[0] for one in bounds), min(one[1] for one in bounds)
    high_x, high_y = max(one[2] for one in bounds), max(one[3] for one in bounds)
    largest = max(max(one[2] - one[0], one[3] - one[1]) for one in bounds)
    return max(math.sqrt((high_x - low_x) * (high_y - low_y) / _BLOCKS), largest, 1e-12)
