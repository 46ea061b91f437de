"""The task ``plan_inference``: open the package and the rasters, cut the grid, prepare the work folder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .. import __version__, jobs
from ..errors import JobError
from ..events import INFO, WARNING, Log
from ..models.base import TilePlan
from ..raster.grid import Grid, plan_grid, same_crs
from ..raster.output import require_room
from ..raster.remote import with_paths, without_credentials
from ..raster.source import RasterSource, source_grids
from ..raster.vector import MaskArea
from ..raster.versions import source_state
from ..workers.task import TaskContext
from .journal import WorkFolder, fingerprint
from .loading import Loaded, load
from .plan import Item, Plan, item_names, resolve_bands
from .receptive import receptive_field_halo
from .tiles import TileLayout, fixed_spans, plan_groups, plan_tiles

# Groups that every worker gets at least.
_GROUPS_EACH = 6
# Halos above this, in pixels, would need tiles so large that being exact does not pay.
_MOST_HALO = 96
# Members of a job that change where and how it runs, but not what comes out.
_PLACE = ("output", "confidence_output", "probabilities_output", "polygons_output")
_PLACE_OPTIONS = ("processor", "gpu_id", "workers", "cluster", "resume", "trust")


def plan_inference(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Plan a job of tiles, or take up an unfinished one.

    Args:
        payload: ``job`` (JSON object) and ``work`` (path of the work folder, locked by the caller).
        context: of the task.

    Returns:
        ``groups``, ``done`` (numbers of finished groups), ``pixels`` of the grid, and ``ways``: the first number, rows
        and columns of the groups of each item.
    """
    job: Any = jobs.from_dict(payload["job"])
    name, options = str(payload["job"]["job"]), job.options
    work = WorkFolder(Path(payload["work"]))
    loaded = load(name, job.model, options, context)
    for warning in loaded.package.warnings:
        context.emit(Log(WARNING, warning))
    plan, done = _take_up(work, make_plan(name, job, loaded, payload["job"], context), options.resume)
    if done:
        context.emit(Log(INFO, f"{len(done)} of {plan.groups} parts are finished already; the job goes on from there."))
    pixels = sum(one.grid.width * one.grid.height for one in plan.items)
    if not done:
        _require_room(name, job, pixels, loaded, work)
    _tell(plan, pixels, context)
    ways = [(one.first, one.grouping.rows, one.grouping.columns) for one in plan.items]
    return {"groups": plan.groups, "done": done, "pixels": pixels, "ways": ways}


def make_plan(name: str, job: Any, loaded: Loaded, members: Dict[str, Any], context: TaskContext) -> Plan:
    """Return the plan of a job over tiles."""
    options, sets = job.options, _item_inputs(name, job)
    bands = _bands(loaded, sets[0][1], sets[0][2])
    tiles = _measured(name, loaded, sets[0][1], sets[0][2], bands, options)
    blend = name in ("classifypixels", "detectchange") and _blends(tiles, loaded)
    tiles = _blended(tiles) if blend else tiles
    values = getattr(loaded.model, "values", None)
    items: List[Item] = []
    first = 0
    for item_name, inputs, second in sets:
        grid = _grid(inputs, second, options, loaded)
        if items and not same_crs(grid.crs, items[0].grid.crs) and not (grid.crs and items[0].grid.crs):
            raise JobError(
                f"The raster “{item_name}” cannot go into one result with the others, because only one of them has a "
                "coordinate reference system.",
                hint="Set the CRS of the raster that lacks it.",
            )
        item = _cut(item_name, inputs, second, grid, tiles, blend, values, first, _workers(options))
        items.append(item)
        first += item.grouping.count
    if options.mask and not any(len(MaskArea.read(options.mask, one.grid)) for one in items):
        raise JobError(
            "The mask does not touch the input raster.", hint="Check the mask layer and its coordinate system."
        )
    _check_cell_size(items[0].grid, options.cell_size, loaded, context)
    sources = source_state([one for item in items for one in (*item.inputs, *item.second)])
    if options.mask:
        sources.update(source_state([jobs.RasterInput(options.mask.path)]))
    identity = fingerprint([__version__, describe(members), loaded.package.digest, sources, dataclasses.asdict(tiles)])
    return Plan(
        identity,
        members,
        tiles,
        bands,
        "bilinear" if options.cell_size > 0 else "nearest",
        blend,
        None if values is None else tuple(int(one) for one in values),
        tuple(items),
        sources,
        loaded.classes,
        int(getattr(loaded.model, "geometry_type", 4)),
        tuple(getattr(loaded.model, "declared", ())),
    )


def describe(members: Dict[str, Any], path: Callable[[str], str] = without_credentials) -> Dict[str, Any]:
    """Return a job's members without those that change nothing in the result, such as the number of workers.

    Args:
        members: of the job.
        path: what to make of the inputs' paths; the default leaves out logins, which may be renewed between two runs.
    """
    kept = {name: value for name, value in members.items() if name not in _PLACE}
    if isinstance(kept.get("options"), dict):
        kept["options"] = {name: value for name, value in kept["options"].items() if name not in _PLACE_OPTIONS}
    return dict(with_paths(kept, path))


def _take_up(work: WorkFolder, plan: Plan, resume: bool) -> Tuple[Plan, List[int]]:
    """Return the plan of unfinished work of the same identity with its finished groups; otherwise begin anew.

    The old plan may group its tiles otherwise, for another number of workers; the result is the same.
    """
    old = work.read_plan()
    if resume and old is not None and old.get("identity") == plan.identity:
        return Plan.from_dict(old), [int(one["group"]) for one in work.checked_receipts()]
    work.clear()
    work.write_plan(plan.to_dict())
    return plan, []


def _workers(options: jobs.RunOptions) -> int:
    return options.workers or (16 if options.cluster else os.cpu_count() or 1)


def _item_inputs(name: str, job: Any) -> List[Tuple[str, Tuple[jobs.RasterInput, ...], Tuple[jobs.RasterInput, ...]]]:
    if name == "detectchange":
        return [("", (job.from_raster,), (job.to_raster,))]
    if not job.inputs:
        raise JobError("There is no input raster.")
    if job.options.processing_mode == jobs.ITEMS_SEPARATELY:
        return [(label, (one,), ()) for label, one in zip(item_names(job.inputs), job.inputs)]
    if job.options.processing_mode != jobs.MOSAICKED:
        raise JobError(
            f"The processing mode “{job.options.processing_mode}” is unknown.",
            hint=f"Use {jobs.MOSAICKED} or {jobs.ITEMS_SEPARATELY}.",
        )
    return [("", tuple(job.inputs), ())]


def _grid(
    inputs: Sequence[jobs.RasterInput], second: Sequence[jobs.RasterInput], options: jobs.RunOptions, loaded: Loaded
) -> Grid:
    """Return the processing grid: map space is north-up, pixel space keeps the rows and columns of the raster."""
    pixel_space = loaded.package.definition.image_space_used == "PIXEL_SPACE"
    grids = source_grids(inputs)
    grid = plan_grid(grids, options.extent, options.cell_size, pixel_space)
    if second:
        both = jobs.Extent(*_overlap(grid, plan_grid(source_grids(second), None, 0.0)), crs=grid.crs)
        grid = plan_grid([grid], both, 0.0, pixel_space)
    return grid


def _overlap(grid: Grid, other: Grid) -> Tuple[float, float, float, float]:
    from ..raster.grid import transform_bounds

    bounds = transform_bounds(other.bounds, other.crs, grid.crs)
    common = (
        max(grid.bounds[0], bounds[0]), max(grid.bounds[1], bounds[1]),
        min(grid.bounds[2], bounds[2]), min(grid.bounds[3], bounds[3]),
    )  # fmt: skip
    if common[0] >= common[2] or common[1] >= common[3]:
        raise JobError("The two rasters do not overlap.", hint="Choose rasters of the same area.")
    return common


def _bands(
    loaded: Loaded, inputs: Sequence[jobs.RasterInput], second: Sequence[jobs.RasterInput]
) -> Optional[Tuple[int, ...]]:
    with RasterSource.open(inputs[:1]) as source:
        descriptions = list(source.descriptions)
    if second:
        with RasterSource.open(second[:1]) as source:
            descriptions += source.descriptions
    return resolve_bands(loaded.bands, descriptions)


def _measured(
    name: str,
    loaded: Loaded,
    inputs: Sequence[jobs.RasterInput],
    second: Sequence[jobs.RasterInput],
    bands: Optional[Tuple[int, ...]],
    options: jobs.RunOptions,
) -> TilePlan:
    """Return the network's plan, with a halo of our own where nobody has stated a padding.

    Networks of free size are measured; detectors without any context get an eighth of a tile, so that what a tile cuts
    is whole in the next one.
    """
    plan: TilePlan = loaded.model.plan
    definition = loaded.package.definition
    stated = "padding" in options.arguments or definition.model_padding is not None
    if name == "detectobjects" and not (plan.halo or plan.outer or stated or "Padding" in definition.members):
        return dataclasses.replace(plan, halo=min(plan.width, plan.height) // 8)
    if name not in ("classifypixels", "detectchange") or plan.fixed or plan.exact or plan.outer or stated:
        return plan
    if plan.scale != 1 or loaded.settings.blend:
        return plan
    with RasterSource.open(inputs[:1]) as source:
        count, dtype = source.count, source.dtype
    if second:
        with RasterSource.open(second[:1]) as source:
            count += source.count
    count = len(bands) if bands is not None else count
    high = 255.0 if dtype.kind not in "iu" else float(min(np.iinfo(dtype).max, 10_000))
    halo = receptive_field_halo(loaded.model.scores, count, dtype, plan.multiple, _MOST_HALO, high)
    return plan if halo is None else dataclasses.replace(plan, halo=halo, exact=True)


def _blends(plan: TilePlan, loaded: Loaded) -> bool:
    """Return whether tiles are blended: on request, or when a network of unknown reach has no padding at all."""
    return not plan.exact and not plan.outer and plan.scale == 1 and (loaded.settings.blend or plan.halo == 0)


def _blended(plan: TilePlan) -> TilePlan:
    overlap = max(plan.halo, min(plan.width, plan.height) // 8 // plan.multiple * plan.multiple)
    return dataclasses.replace(plan, halo=overlap)


def _cut(
    name: str,
    inputs: Tuple[jobs.RasterInput, ...],
    second: Tuple[jobs.RasterInput, ...],
    grid: Grid,
    tiles: TilePlan,
    blend: bool,
    values: Any,
    first: int,
    workers: int,
) -> Item:
    with RasterSource.open(inputs, grid) as source:
        block, bands, itemsize = source.block_shape, source.count, source.dtype.itemsize
    align = block[0] if block[0] == block[1] and len(inputs) == 1 else 1
    if blend:
        # Blended tiles keep the size that the network was trained on.
        layout = TileLayout(
            fixed_spans(grid.width, tiles.width, tiles.halo, tiles.multiple),
            fixed_spans(grid.height, tiles.height, tiles.halo, tiles.multiple),
        )
    else:
        layout = plan_tiles(grid.width, grid.height, tiles, align=align)
    scores = 4 * (len(values) if values is not None else 1)
    grouping = plan_groups(
        layout,
        read_bytes=bands * itemsize * (2 if second else 1) + 1,
        kept_bytes=1 + (2 * scores if blend or values is None else scores // 4) * tiles.scale**2,
        at_least=_GROUPS_EACH * workers,
        block=block,
    )
    return Item(name, inputs, second, grid, layout, grouping, first)


def _check_cell_size(grid: Grid, asked: float, loaded: Loaded, context: TaskContext) -> None:
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


def _require_room(name: str, job: Any, pixels: int, loaded: Loaded, work: WorkFolder) -> None:
    """Check the space for the output and for the parts beside it; objects are taken to be few."""
    if name in ("classifypixels", "detectchange"):
        scale, values = loaded.model.plan.scale, getattr(loaded.model, "values", None)
        size = class_dtype(values)[0].itemsize
        for extra in ("confidence_output", "probabilities_output"):
            if getattr(job, extra, ""):
                size += 1 if extra.startswith("conf") else len(values or (0,))
        require_room(Path(job.output), pixels * scale * scale * size * 4 // 3)
    else:
        require_room(Path(job.output), 1_000_000)


def class_dtype(values: Optional[Sequence[int]]) -> Tuple[np.dtype[Any], float]:
    """Return (type, nodata) of a raster of these class values; of floating-point values if there are none."""
    if values is None:
        return np.dtype(np.float32), float("nan")
    low, high = min(values, default=0), max(values, default=0)
    for dtype in (np.uint8, np.uint16, np.int16, np.int32):
        info = np.iinfo(dtype)
        nodata = info.max if info.min == 0 else info.min
        if info.min <= low and high <= info.max and nodata not in values:
            return np.dtype(dtype), float(nodata)
    raise JobError("The model's class values do not fit into 32 bits.", stage="reading the definition")


def mask_area(job: Any, grid: Grid) -> Optional[MaskArea]:
    """Return the area of the job's mask that meets the grid; None without a mask."""
    return MaskArea.read(job.options.mask, grid) if job.options.mask else None


def _tell(plan: Plan, pixels: int, context: TaskContext) -> None:
    work = sum(one.layout.redundancy * one.grid.width * one.grid.height for one in plan.items) / max(1, pixels)
    tiles = sum(one.layout.count for one in plan.items)
    how = "blended" if plan.blend else "exact padding" if plan.tiles.exact else f"padding of {plan.tiles.halo} pixels"
    context.emit(
        Log(
            INFO,
            f"{pixels:,} pixels in {tiles:,} tiles ({how}); the network works on {work:.2f} times the raster's pixels.",
        )
    )
