"""What the plan of a job says in the log: how the raster is cut, who works on it, and what looks wrong with it."""

from __future__ import annotations

from typing import Sequence

from .. import jobs
from ..events import INFO, WARNING, Log
from ..raster.grid import Grid, same_crs
from ..workers.task import TaskContext
from .fitting import worker_count
from .loading import Loaded
from .plan import Plan


def warn_of_cell_size(grid: Grid, loaded: Loaded, context: TaskContext) -> None:
    """Say that the pixels are much finer or coarser than those of the network's training."""
    definition = loaded.package.definition
    low, high = definition.min_cell_size, definition.max_cell_size
    size = grid.cell_size
    for limit, crosses, word in ((low, -1, "finer"), (high, 1, "coarser")):
        if limit is None or (limit.crs and not _same(limit.crs, grid.crs)):
            continue
        if (size[0] - limit.x) * crosses > 0.5 * limit.x:
            context.emit(
                Log(
                    WARNING,
                    f"The pixels of {size[0]:.4g} are much {word} than those of the model's training ({limit.x:.4g}); "
                    "set the cell size if the results are poor.",
                )
            )


def _same(one: str, other: str) -> bool:
    try:
        return same_crs(one, other)
    except OSError:
        return False


def tell_resumed(done: Sequence[int], groups: int, context: TaskContext) -> None:
    """Say that the job goes on from an earlier run, if there is anything to go on from."""
    if done:
        context.emit(Log(INFO, f"{len(done):,} of {groups:,} parts are finished already; the job goes on from there."))


def tell_plan(plan: Plan, pixels: int, options: jobs.RunOptions, context: TaskContext) -> None:
    """Say how the raster is cut and what works on it."""
    work = sum(one.layout.redundancy * one.grid.width * one.grid.height for one in plan.items) / max(1, pixels)
    tiles = sum(one.layout.count for one in plan.items)
    width = max(x.size for one in plan.items for x in one.layout.columns)
    height = max(y.size for one in plan.items for y in one.layout.rows)
    halo, exact = plan.tiles.halo, "exact " if plan.tiles.exact else ""
    how = f"overlapping by {2 * halo} and blended" if plan.blend else f"{exact}padding of {halo} pixels"
    context.emit(
        Log(
            INFO,
            f"{pixels:,} pixels in {_count(tiles, 'tile')} (up to {width:,} x {height:,}, {how}); "
            f"the network works on {work:.2f} times the raster's pixels.",
        )
    )
    each = f"a worker predicts up to {_count(plan.tiles.batch, 'tile')} at a time"
    parts = _count(plan.groups, "part")
    context.emit(Log(INFO, f"It runs in {parts} with {_crew(plan, options, context)}; {each}."))


def _crew(plan: Plan, options: jobs.RunOptions, context: TaskContext) -> str:
    """Return who works on a job, for a person."""
    if options.cluster:
        return "the workers of the cluster"
    if context.device != "cpu":
        return f"{options.workers} workers on the GPU" if options.workers > 1 else "one worker for each GPU"
    count = int(plan.memory.get("workers", 0)) or worker_count(options)
    return f"{_count(count, 'worker')} on the CPU"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
