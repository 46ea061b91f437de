"""The task ``plan_inference``: open the package and the rasters, cut the grid, prepare the work folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .. import __version__, jobs
from ..errors import JobError
from ..events import INFO, WARNING, Log
from ..models.base import TilePlan
from ..package.emd import ModelDefinition
from ..package.opening import ModelPackage
from ..package.trust import open_for_run
from ..raster.grid import Grid, plan_grid, same_crs
from ..raster.output import check_ending, require_room
from ..raster.remote import with_paths, without_credentials
from ..raster.secrets import fill, hide
from ..raster.source import RasterSource, source_grids
from ..raster.versions import source_state
from ..workers.task import TaskContext
from .bands import is_in_rows
from .fitting import fit, memory_budget, worker_count
from .journal import WorkFolder, fingerprint
from .loading import Loaded, check_tool, load, prepare
from .measuring import Pixels, measure
from .plan import Item, Plan, item_names, resolve_bands
from .settings import split_arguments
from .telling import tell_plan, tell_resumed, warn_of_cell_size
from .tiles import TileLayout, fixed_spans, plan_groups, plan_tiles

if TYPE_CHECKING:
    from ..raster.vector import MaskArea

# Groups that every worker gets at least.
_GROUPS_EACH = 6
# Bytes for layers, whose size nobody knows before.
_LEAST_ROOM = 1_000_000
# Members of a job that change where and how it runs, but not what comes out.
_PLACE = ("output", "confidence_output", "probabilities_output", "polygons_output")
_PLACE_OPTIONS = ("processor", "gpu_id", "workers", "cluster", "resume", "trust")
_PLACE_ARGUMENTS = ("memory_budget",)
# Name, files and files of the second date of a raster of the job.
_Set = Tuple[str, Tuple[jobs.RasterInput, ...], Tuple[jobs.RasterInput, ...]]


def plan_inference(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Plan a job of tiles, or take up an unfinished one.

    Args:
        payload: ``job`` (JSON object) and ``work`` (path of the work folder, locked by the caller); with ``prepare``,
            the worker is only made ready for tiles, with ``check``, the job is only refused if it must be.
        context: of the task.

    Returns:
        ``groups``, ``done`` (numbers of finished groups), ``pixels`` of the grid, ``ways``: the first number, rows and
        columns of the groups of each item, ``workers``: how many may run for want of memory (0: all), and ``secrets``:
        what the plan on the disk leaves out and every task needs.
    """
    job: Any = jobs.from_dict(payload["job"])
    if payload.get("prepare"):
        return prepare(job, context)
    name, options = str(payload["job"]["job"]), job.options
    work = WorkFolder(Path(payload["work"]))
    package = open_for_run(job.model, trust=options.trust, digest=context.code_of)
    unfinished = options.resume and bool(work.receipts())
    cuts = _looked_at(name, job, package, unfinished)
    if payload.get("check"):
        return {}
    loaded = load(name, job.model, options, context, package)
    pixels = sum(one.grid.width * one.grid.height for one in cuts)
    scale, values = loaded.model.plan.scale, getattr(loaded.model, "values", None)
    if not unfinished:
        _require_room(name, job, pixels * scale * scale, values)
    for warning in loaded.package.warnings:
        context.emit(Log(WARNING, warning))
    if loaded.settings.tta_scales != (1.0,) and not loaded.settings.test_time_augmentation:
        context.emit(Log(WARNING, "tta_scales takes effect with test_time_augmentation=True alone."))
    plan, done, secrets = _take_up(work, make_plan(name, job, loaded, cuts, payload["job"], context), options.resume)
    tell_resumed(done, plan.groups, context)
    if unfinished and not done:
        _require_room(name, job, pixels * scale * scale, values)
    tell_plan(plan, pixels, options, context)
    ways = [(one.first, *one.way) for one in plan.items]
    workers = int(plan.memory.get("workers", 0)) if context.device == "cpu" else 0
    return {
        "groups": plan.groups,
        "done": done,
        "pixels": pixels,
        "ways": ways,
        "workers": workers,
        "secrets": secrets,
    }


def _looked_at(name: str, job: Any, package: ModelPackage, unfinished: bool) -> List[_Cut]:
    """Return the rasters to cut, after refusing whatever can be refused before the network is loaded and measured."""
    check_tool(name, package)
    split_arguments(job.options.arguments, package)
    cuts = _cuts(_item_inputs(name, job), job.options, package.definition)
    if job.options.mask and not any(len(mask_area(job, one.grid) or ()) for one in cuts):
        raise JobError(
            "The mask does not touch the input raster.", hint="Check the mask layer and its coordinate system."
        )
    _check_layers(name, job, cuts[0])
    if not unfinished:
        # The least that it can be: the network may bring more classes, or finer pixels.
        known = [one.value for one in package.definition.classes] or [0]
        _require_room(name, job, sum(one.grid.width * one.grid.height for one in cuts), known)
    return cuts


def make_plan(
    name: str, job: Any, loaded: Loaded, cuts: Sequence[_Cut], members: Dict[str, Any], context: TaskContext
) -> Plan:
    """Return the plan of a job over tiles."""
    options = job.options
    bands = _bands(loaded, cuts[0].inputs, cuts[0].second)
    warn_of_cell_size(cuts[0].grid, loaded, context)
    # What can be wrong was looked at; from here on the network itself is asked.
    pixels = Pixels.of(cuts[0].inputs, cuts[0].second, bands)
    tiles, need = measure(name, loaded, pixels, options, context)
    blend = name in ("classifypixels", "detectchange") and _blends(tiles, loaded)
    tiles = _blended(tiles) if blend else tiles
    values = getattr(loaded.model, "values", None)
    fitted = fit(
        need,
        tiles,
        lambda side: [_layout(one, tiles, blend, side) for one in cuts],
        1 if options.cluster else worker_count(options),
        0 if options.cluster and not loaded.settings.memory_budget else memory_budget(loaded.settings.memory_budget),
    )
    if fitted.sentence:
        context.emit(Log(INFO if fitted.fits else WARNING, fitted.sentence))
    items = _items(cuts, fitted.layouts, pixels, _kept_bytes(job, tiles, values, blend), worker_count(options))
    sources = source_state([one for item in items for one in (*item.inputs, *item.second)])
    if options.mask:
        sources.update(source_state([jobs.RasterInput(options.mask.path)]))
    identity = fingerprint([__version__, describe(members), loaded.package.digest, sources, dataclasses.asdict(tiles)])
    return Plan(
        identity,
        members,
        dataclasses.replace(tiles, batch=fitted.batch),
        bands,
        "bilinear" if options.cell_size > 0 else "nearest",
        blend,
        None if values is None else tuple(int(one) for one in values),
        tuple(items),
        sources,
        loaded.classes,
        int(getattr(loaded.model, "geometry_type", 4)),
        tuple(getattr(loaded.model, "declared", ())),
        {"worker": fitted.worker, "rest": need.rest, "pixel": need.pixel, "workers": fitted.workers},
    )


def _items(cuts: Sequence[_Cut], layouts: Sequence[TileLayout], pixels: Pixels, kept: int, workers: int) -> List[Item]:
    items: List[Item] = []
    first = 0
    for one, layout in zip(cuts, layouts):
        grouping = plan_groups(
            layout,
            read_bytes=pixels.bands * pixels.dtype.itemsize + 1,
            kept_bytes=kept,
            at_least=_GROUPS_EACH * workers,
            block=one.block,
            row_wise=one.in_rows,
        )
        items.append(Item(one.name, one.inputs, one.second, one.grid, layout, grouping, first, one.in_rows))
        first += grouping.count
    return items


def describe(members: Dict[str, Any], path: Callable[[str], str] = without_credentials) -> Dict[str, Any]:
    """Return a job's members without those that change nothing in the result, such as the number of workers.

    Args:
        members: of the job.
        path: what to make of the inputs' paths; the default leaves out logins, which may be renewed between two runs.
    """
    kept = {name: value for name, value in members.items() if name not in _PLACE}
    if isinstance(kept.get("options"), dict):
        options = {name: value for name, value in kept["options"].items() if name not in _PLACE_OPTIONS}
        if isinstance(options.get("arguments"), dict):
            told = options["arguments"].items()
            options["arguments"] = {name: value for name, value in told if name not in _PLACE_ARGUMENTS}
        kept["options"] = options
    return dict(with_paths(kept, path))


def _take_up(work: WorkFolder, plan: Plan, resume: bool) -> Tuple[Plan, List[int], List[str]]:
    """Return the plan of unfinished work of the same identity, its finished groups and its secrets; or begin anew.

    The old plan may group its tiles otherwise, for another number of workers; the result is the same.
    """
    hidden, secrets = hide(plan.to_dict())
    old = work.read_plan()
    if resume and old is not None and old.get("identity") == plan.identity:
        return Plan.from_dict(fill(old, secrets)), [int(one["group"]) for one in work.checked_receipts()], secrets
    work.clear()
    work.write_plan(hidden)
    return plan, [], secrets


def _item_inputs(name: str, job: Any) -> List[_Set]:
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
    inputs: Sequence[jobs.RasterInput],
    second: Sequence[jobs.RasterInput],
    options: jobs.RunOptions,
    definition: ModelDefinition,
) -> Grid:
    """Return the processing grid: map space is north-up, pixel space keeps the rows and columns of the raster."""
    pixel_space = definition.image_space_used == "PIXEL_SPACE"
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


def _blends(plan: TilePlan, loaded: Loaded) -> bool:
    """Return whether tiles are blended: on request, for networks that look everywhere, or without any padding."""
    wanted = loaded.settings.blend or plan.blend or plan.halo == 0
    return not plan.exact and not plan.outer and plan.scale == 1 and wanted


def _blended(plan: TilePlan) -> TilePlan:
    overlap = max(plan.halo, min(plan.width, plan.height) // 8 // plan.multiple * plan.multiple)
    return dataclasses.replace(plan, halo=overlap)


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A raster that is to be cut: name, files, grid, and the (rows, columns) in which it is stored."""

    name: str
    inputs: Tuple[jobs.RasterInput, ...]
    second: Tuple[jobs.RasterInput, ...]
    grid: Grid
    block: Tuple[int, int]

    @property
    def in_rows(self) -> bool:
        """Whether it is one file that is stored in rows as wide as itself."""
        return len(self.inputs) == 1 and is_in_rows(self.block)


def _cuts(sets: Sequence[_Set], options: jobs.RunOptions, definition: ModelDefinition) -> List[_Cut]:
    found: List[_Cut] = []
    for name, inputs, second in sets:
        grid = _grid(inputs, second, options, definition)
        if found and not same_crs(grid.crs, found[0].grid.crs) and not (grid.crs and found[0].grid.crs):
            raise JobError(
                f"The raster “{name}” cannot go into one result with the others, because only one of them has a "
                "coordinate reference system.",
                hint="Set the CRS of the raster that lacks it.",
            )
        with RasterSource.open(inputs, grid) as source:
            found.append(_Cut(name, inputs, second, grid, source.block_shape))
    return found


def _layout(one: _Cut, tiles: TilePlan, blend: bool, side_limit: int) -> TileLayout:
    grid, block = one.grid, one.block
    if blend:
        # Blended tiles keep the size that the network was trained on.
        return TileLayout(
            fixed_spans(grid.width, tiles.width, tiles.halo, tiles.multiple),
            fixed_spans(grid.height, tiles.height, tiles.halo, tiles.multiple),
        )
    align = block[0] if block[0] == block[1] and len(one.inputs) == 1 else 1
    return plan_tiles(grid.width, grid.height, tiles, side_limit=side_limit, align=align)


def _kept_bytes(job: Any, tiles: TilePlan, values: Any, blend: bool) -> int:
    """Return the bytes that a pixel of a group occupies until the group is finished."""
    channels = len(values) if values is not None else 1
    size = class_dtype(values)[0].itemsize + (channels if getattr(job, "probabilities_output", "") else 0) + 1
    return 1 + (size + (4 * (channels + 1) if blend else 0)) * tiles.scale**2


def _check_layers(name: str, job: Any, first: _Cut) -> None:
    """Refuse outputs with features whose format cannot be written; folders of items get GeoPackages."""
    layer = job.output if name == "detectobjects" else getattr(job, "polygons_output", "")
    if layer and (name == "detectobjects" or not first.name):
        check_ending(Path(layer), first.grid.crs)


def _require_room(name: str, job: Any, pixels: int, values: Optional[Sequence[int]]) -> None:
    """Check the space for the outputs and what lies beside them until they are verified; objects are taken to be few.

    Args:
        name: of the job.
        job: the job.
        pixels: of an output.
        values: of the classes; None for a network without any.
    """
    sizes = {Path(job.output): _LEAST_ROOM}
    if name in ("classifypixels", "detectchange"):
        # Classes shrink so much that parts, first and final file together are smaller than the bare pixels with their
        # overviews. Floating-point values hardly shrink, so all three count.
        thirds = 4 if values is not None else 3 + 4 + 4
        each = {"output": class_dtype(values)[0].itemsize, "confidence_output": 1}
        each["probabilities_output"] = len(values or (0,))
        given = {member: getattr(job, member, "") for member in each}
        sizes = {Path(given[member]): pixels * size * thirds // 3 for member, size in each.items() if given[member]}
        if getattr(job, "polygons_output", ""):
            sizes[Path(job.polygons_output)] = _LEAST_ROOM
    require_room(sizes)


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
    if not job.options.mask:
        return None
    from ..raster.vector import MaskArea  # the libraries behind it take a tenth of a second to load

    return MaskArea.read(job.options.mask, grid)
