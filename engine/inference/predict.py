"""The task ``predict_tiles``: one group of tiles from reading to the part file, for objects and for pixels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from .. import jobs
from ..errors import RasterError, SourceLostError
from ..events import WARNING, Event, Log
from ..raster.remote import is_remote
from ..raster.versions import check_unchanged
from ..raster.window import around, scaled
from ..workers.task import TaskContext
from .blend import Blender, ramp
from .journal import WorkFolder
from .loading import Loaded, load
from .lost import crumb_of, leave_crumb, read_crumb, remove_crumb
from .parts import write_part
from .pixel_output import PixelOutput
from .plan import Item, Plan, cached_plan
from .planning import mask_area
from .reading import Reader, open_source, read_ahead
from .tiles import Tile, TileGroup, group_inner, touching, widest

if TYPE_CHECKING:
    from ..raster.vector import MaskArea

Array = npt.NDArray[Any]
# Where a worker remembers how many images of this job it can predict at a time.
_BATCH = "inference.batch"


@dataclass
class Counts:
    """What became of the tiles of a group, and the processor seconds they took, in all and by stage.

    What is not reading, network or writing is cutting, choosing classes and masking. ``wait_seconds`` are those of a
    clock in which pixels were not there yet.
    """

    predicted: int = 0
    nodata: int = 0
    outside: int = 0
    constant: int = 0
    failed: int = 0
    input_pixels: int = 0
    seconds: float = 0.0
    read_seconds: float = 0.0
    network_seconds: float = 0.0
    write_seconds: float = 0.0
    wait_seconds: float = 0.0


@dataclass
class Work:
    """What a group's prediction needs at hand."""

    plan: Plan
    job: Any
    item: Item
    group: TileGroup
    loaded: Loaded
    mask: Optional[MaskArea]
    reader: Reader
    emit: Callable[[Event], None]
    crumb: Path
    batch: int = 1
    left_out: FrozenSet[int] = frozenset()
    counts: Counts = field(default_factory=Counts)

    def ask(self, method: Callable[[Array, Array], Any], pixels: Array, valid: Array) -> Any:
        """Return what a method of the network answers, and note the time it takes; halve what memory is too small for.

        Raises:
            MemoryError: it is too small for a single image.
        """
        start = time.thread_time()
        try:
            return method(pixels, valid)
        except MemoryError:
            if len(pixels) == 1:
                raise
        finally:
            self.counts.network_seconds += time.thread_time() - start
        half = len(pixels) // 2
        if self.batch > half:
            self.batch = half
            self.emit(Log(WARNING, f"There is too little memory; going on with {half} images at a time."))
        parts = [self.ask(method, pixels[:half], valid[:half]), self.ask(method, pixels[half:], valid[half:])]
        return parts[0] + parts[1] if isinstance(parts[0], list) else np.concatenate(parts)


def predict_tiles(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Predict one group of tiles.

    Args:
        payload: ``work`` (path of the work folder), ``group`` (number within the job) and ``secrets``, if there are
            any; ``leave_out``: tiles of it that are not to be predicted, because they took workers with them.
        context: of the task.

    Returns:
        The receipt: ``group``, ``counts``, and ``file``, ``sha256``, ``bytes`` of the part unless there was nothing.
    """
    start = time.process_time()
    work = _prepare(payload, context)
    work.left_out = frozenset(payload.get("leave_out", ()))
    work.counts.failed += len(work.left_out)
    objects = work.plan.job["job"] == "detectobjects"
    arrays, members = _objects(work) if objects else predict_pixels(work)
    check_unchanged(work.reader.used, work.plan.sources)
    work.loaded.pass_on_messages(context)
    receipt: Dict[str, Any] = {"group": int(payload["group"]), "counts": vars(work.counts)}
    if arrays:
        parts, begin = WorkFolder(Path(payload["work"])).parts, time.thread_time()
        receipt.update(write_part(parts / f"{int(payload['group']):08d}.part", arrays, members))
        work.counts.write_seconds = time.thread_time() - begin
    work.counts.read_seconds, work.counts.wait_seconds = work.reader.take_times()
    work.counts.seconds = time.process_time() - start
    context.state[_BATCH] = (work.plan.identity, work.batch)
    remove_crumb(work.crumb)
    return receipt


def _prepare(payload: Dict[str, Any], context: TaskContext) -> Work:
    folder, group = Path(payload["work"]), int(payload["group"])
    plan = cached_plan(payload, context)
    job: Any = jobs.from_dict(plan.job)
    position, tile_group = plan.find(group)
    item = plan.items[position]
    check_unchanged((one for one in (*item.inputs, *item.second) if not is_remote(one.path)), plan.sources)
    loaded = load(str(plan.job["job"]), job.model, job.options, context)
    reader = Reader.of(context)
    key = (str(folder), plan.identity, position, item.inputs, item.second)
    reader.use(
        key,
        lambda: open_source(
            item.inputs,
            item.second,
            item.grid,
            plan.bands,
            plan.resampling,
            widest(item.layout, item.grouping),
            folder / "rows" / str(position),
        ),
    )
    kept = context.state.get("inference.mask")
    if kept is None or kept[0] != key:
        kept = context.state["inference.mask"] = (key, mask_area(job, item.grid))
    crumb = crumb_of(WorkFolder(folder), group)
    batch = _batch(plan, read_crumb(WorkFolder(folder), group)[0], context.state.get(_BATCH))
    reader.take_times()
    return Work(plan, job, item, tile_group, loaded, kept[1], reader, context.emit, crumb, batch)


def _batch(plan: Plan, fatal: Sequence[int], kept: Any) -> int:
    """Return the images of a call: those of the plan, but half of those that an earlier worker died of."""
    found = plan.tiles.batch if kept is None or kept[0] != plan.identity else min(plan.tiles.batch, kept[1])
    return max(1, min(found, len(fatal) // 2) if fatal else found)


def _objects(work: Work) -> Tuple[Dict[str, Array], Dict[str, Any]]:
    from .predict_objects import predict_objects  # geometry libraries, which pixel jobs do without

    return predict_objects(work)


def predict_pixels(work: Work) -> Tuple[Dict[str, Array], Dict[str, Any]]:
    """Return the group's class (or value) raster, and confidence and probabilities if asked for."""
    window, scale = group_inner(work.item.layout, work.group), work.plan.tiles.scale
    output = PixelOutput(work.plan, work.job, work.item.grid, work.mask, window)
    blender: Optional[Blender] = None
    for tiles, pixels, valid in batches(work):
        model, settings = work.loaded.model, work.loaded.settings
        if settings.test_time_augmentation:
            from .augment import augmented_scores

            scores = augmented_scores(partial(work.ask, model.scores), pixels, valid, settings.merge_policy)
        else:
            scores = work.ask(model.scores, pixels, valid)
        for tile, score, data in zip(tiles, scores, valid):
            output.see(tile, data)
            if not work.plan.blend:
                rows, columns = scaled(tile.inner.slices(tile.window), scale)
                output.put(tile.inner, score[:, rows, columns])
                continue
            blender = blender or Blender(window, score.shape[0], scale)
            blender.add(tile, score, _weights(work, tile))
    if blender is not None:
        output.put(window, blender.result())
    if not output.filled:
        return {}, {}
    return output.masked(), {}


def _weights(work: Work, tile: Tile) -> Tuple[Array, Array]:
    row, column = divmod(tile.index, len(work.item.layout.columns))
    overlap = 2 * work.plan.tiles.halo
    rows, columns = work.item.layout.rows[row], work.item.layout.columns[column]
    return ramp(rows, overlap, work.item.grid.height), ramp(columns, overlap, work.item.grid.width)


def batches(work: Work) -> Iterator[Tuple[List[Tile], Array, Array]]:
    """Yield (tiles, pixels (N, bands, rows, columns), valid (N, rows, columns)) of the tiles worth predicting."""
    waiting: List[Tuple[Tile, Array, Array]] = []
    for tile, pixels, valid in _tiles(work):
        if waiting and (len(waiting) >= work.batch or waiting[0][1].shape != pixels.shape):
            _locate(work, [one[0] for one in waiting])
            yield _stacked(waiting)
            waiting = []
        waiting.append((tile, pixels, valid))
    if waiting:
        _locate(work, [one[0] for one in waiting])
        yield _stacked(waiting)


def _stacked(waiting: List[Tuple[Tile, Array, Array]]) -> Tuple[List[Tile], Array, Array]:
    if len(waiting) == 1:  # nothing to copy
        tile, pixels, valid = waiting[0]
        return [tile], pixels[np.newaxis], valid[np.newaxis]
    return [one[0] for one in waiting], np.stack([one[1] for one in waiting]), np.stack([one[2] for one in waiting])


def _locate(work: Work, tiles: List[Tile]) -> None:
    """Note where the next call lies: for whoever finds this worker dead, and for a package's own function.

    A function takes one tile at a time and answers for the tile without its padding.
    """
    leave_crumb(work.crumb, [one.index for one in tiles], [work.item.grid.window_bounds(one.inner) for one in tiles])
    if len(tiles) == 1 and hasattr(work.loaded.model, "location"):
        grid = work.item.grid
        work.loaded.model.location = {
            "extent": grid.window_bounds(tiles[0].window.expanded(-work.plan.tiles.halo)),
            "spatialReference": grid.crs or 0,
            "cellSize": grid.cell_size,
        }


def _tiles(work: Work) -> Iterator[Tuple[Tile, Array, Array]]:
    """Yield the pixels of each tile of the group that holds data; rows of tiles are read ahead in one go."""
    rows = [_wanted(work, row) for row in _tile_rows(work)]
    windows = [around([one.window for one in tiles]) if tiles else None for tiles in rows]
    for tiles, window, found in zip(rows, windows, read_ahead(work.reader, windows)):
        if window is None:
            continue
        for tile in tiles:
            if isinstance(found, SourceLostError):
                raise found
            if isinstance(found, RasterError):
                alone = _read_alone(work, tile)
                if alone is None:
                    continue
                (pixels, valid), place = alone, (slice(None), slice(None))
            else:
                (pixels, valid), place = found, tile.window.slices(window)
            if _is_worth_it(work, tile, pixels[(slice(None), *place)], valid[place]):
                work.counts.predicted += 1
                work.counts.input_pixels += tile.window.width * tile.window.height
                yield tile, pixels[(slice(None), *place)], valid[place]


def _read_alone(work: Work, tile: Tile) -> Optional[Tuple[Array, Array]]:
    """Read one tile of a row that cannot be read as a whole; None if it is to stay empty.

    Raises:
        RasterError: the tile itself cannot be read, and that ends the job; its extent is named.
        SourceLostError: the raster is gone or another one, so that no tile of it can be had.
    """
    try:
        return work.reader.read(tile.window).result()
    except SourceLostError:
        raise
    except RasterError as error:
        check_unchanged(work.reader.used, work.plan.sources)
        xmin, ymin, xmax, ymax = work.item.grid.window_bounds(tile.inner)
        place = f"the tile at x {xmin:.10g} to {xmax:.10g}, y {ymin:.10g} to {ymax:.10g}"
        if work.loaded.settings.failed_tiles != "nodata":
            raise RasterError(
                f"{error.message} It concerns {place}.",
                stage="reading",
                file=error.file,
                hint="With the model argument failed_tiles=nodata the result is written without such tiles.",
            ) from error
        work.counts.failed += 1
        work.emit(Log(WARNING, f"{error.message} Left empty is {place}."))
        return None


def _tile_rows(work: Work) -> List[List[Tile]]:
    layout, group = work.item.layout, work.group
    if not work.plan.blend:
        return [[layout.tile(r, c) for c in range(group.left, group.right)] for r in range(group.top, group.bottom)]
    inner = group_inner(layout, group)
    columns = touching(layout.columns, inner.col, inner.right)
    return [[layout.tile(r, c) for c in columns] for r in touching(layout.rows, inner.row, inner.bottom)]


def _wanted(work: Work, tiles: List[Tile]) -> List[Tile]:
    """Return the tiles that meet the mask; the others are never read."""
    tiles = [one for one in tiles if one.index not in work.left_out]
    if work.mask is None:
        return tiles
    wanted = [one for one in tiles if work.mask.intersects(work.item.grid.window_bounds(one.inner))]
    work.counts.outside += len(tiles) - len(wanted)
    return wanted


def _is_worth_it(work: Work, tile: Tile, pixels: Array, valid: Array) -> bool:
    """Return whether a tile goes through the network; counts why not."""
    inner = valid[tile.inner.slices(tile.window)]
    if not inner.any():
        work.counts.nodata += 1
        return False
    if work.loaded.settings.skip_constant and (pixels == pixels[:, :1, :1]).all():
        work.counts.constant += 1
        return False
    return True
