"""Tiles that took every worker with them: where they are, and how a job goes on without them. Standard library alone.

A worker leaves a crumb beside the parts before each call of the network: which tiles it is about to predict. Whoever
finds the worker dead knows from it which tiles of the group are to blame, without another death.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from .journal import WorkFolder

Box = Tuple[float, float, float, float]
# How many times a group is tried without the tiles that were found to blame so far.
MOST_ROUNDS = 8


def crumb_of(work: WorkFolder, group: int) -> Path:
    """Return the path of a group's crumb."""
    return work.parts / f"{group:08d}.at"


def leave_crumb(crumb: Path, tiles: Sequence[int], boxes: Sequence[Box]) -> None:
    """Note the tiles that are predicted next and where they are; a full disk costs the note, not the job."""
    with contextlib.suppress(OSError):
        crumb.write_text(json.dumps([list(tiles), [list(one) for one in boxes]]), encoding="ascii")


def remove_crumb(crumb: Path) -> None:
    """Remove the crumb of a group that is done."""
    with contextlib.suppress(OSError):
        crumb.unlink()


def read_crumb(work: WorkFolder, group: int) -> Tuple[List[int], List[Box]]:
    """Return the tiles that a dead worker was at, and their boxes in map units; nothing if it left no crumb."""
    try:
        tiles, boxes = json.loads(crumb_of(work, group).read_text(encoding="ascii"))
        return [int(one) for one in tiles], [(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes]
    except (OSError, ValueError, TypeError):
        return [], []


def describe(boxes: Sequence[Box]) -> str:
    """Return where tiles are, for a person."""
    texts = [f"x {a:.10g} to {c:.10g}, y {b:.10g} to {d:.10g}" for a, b, c, d in boxes[:20]]
    return "; ".join(texts) + (f"; and {len(boxes) - 20} more" if len(boxes) > 20 else "")


def without_blame(work: WorkFolder, payload: Dict[str, Any]) -> Tuple[Dict[str, Any], List[Box]]:
    """Return the payload of a lost group without the tiles to blame, and where those are; no boxes if none is known."""
    known = list(payload.get("leave_out", ()))
    tiles, boxes = read_crumb(work, int(payload["group"]))
    if not tiles or set(tiles) <= set(known):
        return payload, []
    return {**payload, "leave_out": [*known, *tiles]}, boxes
