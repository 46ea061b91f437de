"""The numbers of chips: in the order of the plan, whoever cut them and when; after those of the output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .staging import Check, Staging, accumulated, read_json, write_json

# Root folder, item and candidate of a chip.
Chip = Tuple[str, int, int]


def number_chips(
    staging: Staging, roots: Sequence[str], kept: Mapping[int, Sequence[Chip]], check: Check
) -> Dict[str, List[int]]:
    """Return the numbers of each block's chips; given once, they stay.

    Args:
        staging: the working folder.
        roots: root folders of the output, each of which has numbers of its own.
        kept: the chips of each block.
        check: called from time to time; may raise.
    """
    known = read_json(staging.numbers_file)
    if known is None:
        starts = {root: _next_number(staging.kept / root, check) for root in roots}
        following, order = dict(starts), {}
        for one in sorted(chip for chips in kept.values() for chip in chips):
            order[one] = following[one[0]]
            following[one[0]] += 1
        check()
        numbers = {str(block): [order[one] for one in kept[block]] for block in sorted(kept)}
        known = {"starts": starts, "numbers": numbers}
        write_json(staging.numbers_file, known)
    found: Dict[str, List[int]] = known["numbers"]
    return found


def _next_number(root: Path, check: Check) -> int:
    """Return the number after the last chip, whatever the side files say."""
    members: Mapping[str, Any] = accumulated(root) or {}
    numbers = [int(members.get(key) or 0) for key in ("NextTileIndex", "NumTiles")]
    for folder in ("images", "labels"):
        for _, _, names in os.walk(root / folder):
            check()
            numbers.extend(int(one.split(".")[0]) + 1 for one in names if one.split(".")[0].isdecimal())
    return max(numbers)
