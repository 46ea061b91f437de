"""How many workers, images a call and pixels a tile fit into the memory that a job may use.

The number of workers gives way first, then the batch, then the side of the tiles, because only the last can change the
bytes of the result, and they should follow the machine when nothing else helps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Sequence

from .. import jobs
from ..models.base import TilePlan
from ..workers.devices import core_count
from ..workers.memory import available_memory
from .measuring import Need
from .tiles import KEPT_BUDGET, READ_BUDGET, TileLayout, floor_to

MEGABYTE = 10**6
# The engine's own process, and what assembling needs beyond a worker that has predicted.
_ENGINE = 60 * MEGABYTE
# Rows of tiles, blocks and a group's results in a worker, and what its libraries take beside the network.
_AROUND = READ_BUDGET // 2 + KEPT_BUDGET // 2 + 24 * MEGABYTE
# Tiles get no smaller than this by themselves.
_LEAST_SIDE = 128

CutAll = Callable[[int], Sequence[TileLayout]]


@dataclass(frozen=True)
class Fit:
    """What fits.

    Attributes:
        workers: that may run at a time.
        batch: images a call.
        layouts: of the items, cut anew if tiles had to be smaller.
        worker: bytes of one worker.
        sentence: what had to give way, for the log; empty if nothing had to.
        fits: whether even the least fits.
    """

    workers: int
    batch: int
    layouts: Sequence[TileLayout]
    worker: int
    sentence: str = ""
    fits: bool = True


def worker_count(options: jobs.RunOptions) -> int:
    """Return how many workers a job is planned for: as many as asked for, or one a core."""
    return options.workers or (16 if options.cluster else core_count())


def memory_budget(megabytes: float) -> int:
    """Return the bytes that a job may use: those asked for, else half of what is free; 0 if nobody knows."""
    return int(megabytes * MEGABYTE) if megabytes else available_memory() // 2


def fit(need: Need, plan: TilePlan, cut: CutAll, workers: int, budget: int) -> Fit:
    """Return what fits into ``budget`` bytes.

    Args:
        need: what was measured of the network.
        plan: of the network; its batch and, where its size is free, its side may give way.
        cut: returns the layouts of all items for a largest side of tiles; 0 for no limit.
        workers: wanted.
        budget: bytes for all; 0 if unknown, and then everything fits.
    """
    layouts = cut(0)
    side = largest(layouts)
    if not budget:
        return Fit(workers, plan.batch, layouts, _worker(need, side, plan.batch))
    room, batch = budget - _ENGINE, plan.batch
    while batch > 1 and _worker(need, side, batch) > room:
        batch //= 2
    if _worker(need, side, batch) > room and not plan.fixed and need.pixel:
        layouts = _smaller(need, plan, cut, room) or layouts
    found = largest(layouts)
    each = _worker(need, found, batch)
    allowed = max(1, min(workers, room // each if each else workers))
    changes = [
        f"{now:,} {word} instead of {wanted:,}"
        for now, wanted, word in (
            (allowed, workers, "workers" if allowed > 1 else "worker"),
            (batch, plan.batch, "images at a time"),
            (math.isqrt(found), math.isqrt(side), "pixels as side of the tiles"),
        )
        if now != wanted
    ]
    fits = each <= room
    return Fit(allowed, batch, layouts, each, _sentence(budget, each, changes, fits), fits)


def _worker(need: Need, pixels: int, batch: int) -> int:
    return need.call(pixels * batch) + _AROUND


def largest(layouts: Sequence[TileLayout]) -> int:
    """Return the pixels of the largest tile."""
    return max(max(x.size for x in one.columns) * max(y.size for y in one.rows) for one in layouts)


def _smaller(need: Need, plan: TilePlan, cut: CutAll, room: int) -> Sequence[TileLayout]:
    """Return layouts whose tiles are as large as fits, but not too small for their halo."""
    pixels = max(0.0, (room - need.rest - _AROUND) / need.pixel)
    least = max(_LEAST_SIDE, 4 * plan.halo, plan.multiple)
    return cut(max(floor_to(math.isqrt(int(pixels)), plan.multiple), least))


def _sentence(budget: int, each: int, changes: Sequence[str], fits: bool) -> str:
    if not fits:
        return (
            f"The job may use {budget // MEGABYTE:,} MB of memory, but one worker alone needs about "
            f"{each // MEGABYTE:,} MB; it goes on, and the system may have to swap."
        )
    if not changes:
        return ""
    return (
        f"The job may use {budget // MEGABYTE:,} MB of memory and a worker needs about {each // MEGABYTE:,} MB; so it "
        f"runs with {', '.join(changes)}. The model argument memory_budget changes that."
    )
