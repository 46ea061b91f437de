"""The task ``assemble_pixels``: the parts of all tiles become rasters, read in the order in which they are written."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
from affine import Affine

from .. import jobs
from ..errors import JobError
from ..events import DEBUG, Log, Progress
from ..package.dlpk import open_package
from ..package.reading import ClassInfo
from ..raster.grid import Grid
from ..raster.publishing import Publication
from ..raster.window import Window, scaled, split
from ..raster.writer import BLOCK, Category, RasterProfile, RasterWriter
from ..workers.task import TaskContext
from .journal import WorkFolder, item_target
from .parts import read_part
from .pixel_output import FULL_SCORE, SCORE_NODATA
from .plan import Item, Plan, cached_plan
from .planning import class_dtype
from .provenance import provenance
from .reading import Reader
from .settings import split_arguments
from .tiles import group_inner

Array = npt.NDArray[Any]
# Side of the pieces in which the output is written, and bytes of parts that are kept for the neighbouring piece.
_PIECE = 4 * BLOCK
_KEPT = 8 * 2**20


def assemble_pixels(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Write the rasters (and polygons) of a job.

    Args:
        payload: ``work`` (path of the work folder) and ``secrets``, if there are any.
        context: of the task.

    Returns:
        ``OUTPUT``, and ``CONFIDENCE``, ``PROBABILITIES`` and ``POLYGONS`` where they were asked for. Where items run
        separately these are folders, and ``WRITTEN`` holds the lists of their new files by output.
    """
    folder = WorkFolder(Path(payload["work"]))
    Reader.of(context).rest()
    plan = cached_plan(payload, context)
    job: Any = jobs.from_dict(plan.job)
    package = open_package(job.model)
    settings, _ = split_arguments(job.options.arguments, package)
    receipts = {int(one["group"]): one for one in folder.receipts()}
    separate, start = bool(plan.items[0].name), time.process_time()
    values: Dict[str, Any] = {"OUTPUT": job.output}
    for name, key in (("confidence", "CONFIDENCE"), ("probabilities", "PROBABILITIES"), ("polygons", "POLYGONS")):
        target = getattr(job, f"{name}_output", "")
        if target and plan.values is None:
            raise JobError(f"The model gives values, not classes, so there are no {name} to write.")
        if target:
            values[key] = target
    written: Dict[str, List[str]] = {key: [] for key in values}
    with Publication(folder.steps) as outputs:
        for number, item in enumerate(plan.items):
            parts = PartReader(item, folder, receipts)
            for name, key in (("classes", "OUTPUT"), ("confidence", "CONFIDENCE"), ("probabilities", "PROBABILITIES")):
                if key not in values:
                    continue
                target = _target(str(values[key]), item, separate, ".tif")
                profile = _profile(name, plan, item, parts, provenance(plan.job, package.digest))
                _write_raster(target, profile, parts, name, outputs)
                written[key].append(str(target))
            if "POLYGONS" in values:
                from .class_polygons import write_polygons  # geometry libraries, which most jobs do without

                source = outputs.place_of(_target(job.output, item, separate, ".tif"))
                target = _target(job.polygons_output, item, separate, ".gpkg")
                told = provenance(plan.job, package.digest)
                write_polygons(source, target, plan.classes, settings.simplify, told, item.grid.crs, outputs)
                written["POLYGONS"].append(str(target))
            context.emit(Progress((number + 1) / len(plan.items), "Writing the raster"))
        outputs.publish()
    context.emit(Log(DEBUG, f"Writing took {time.process_time() - start:.1f} s of processor time."))
    return {**values, "WRITTEN": written} if separate else values


def _target(output: str, item: Item, separate: bool, suffix: str) -> Path:
    """Return the path of an item's output: the path asked for, or a file in that folder."""
    return item_target(output, item.name, suffix) if separate else Path(output)


class PartReader:
    """Reads windows of an item's result out of its parts; a few parts are kept decoded."""

    def __init__(self, item: Item, folder: WorkFolder, receipts: Dict[int, Dict[str, Any]]) -> None:
        self._folder = folder
        self._receipts = receipts
        self._kept: OrderedDict[int, Dict[str, Array]] = OrderedDict()
        self._item = item
        self.grid = item.grid
        self._windows = [
            group_inner(item.layout, item.grouping.group(i)) for i in range(item.grouping.count)
        ]  # fmt: skip
        self._tops = np.array([one.row for one in self._windows])
        self._lefts = np.array([one.col for one in self._windows])
        self._bottoms = np.array([one.bottom for one in self._windows])
        self._rights = np.array([one.right for one in self._windows])

    def bands(self, name: str) -> Optional[int]:
        """Return the number of bands of an array of the parts; None if no part has it."""
        for group in range(len(self._windows)):
            arrays = self._arrays(group)
            if name in arrays:
                return int(arrays[name].shape[0])
        return None

    def fill(self, name: str, window: Window, into: Array, scale: int) -> None:
        """Copy what the parts hold of ``window`` (pixels of the grid) into (bands, rows, columns)."""
        hits = (self._tops < window.bottom) & (self._bottoms > window.row)
        hits &= (self._lefts < window.right) & (self._rights > window.col)
        for group in np.flatnonzero(hits).tolist():
            arrays = self._arrays(group)
            if name not in arrays:
                continue
            common = window.intersection(self._windows[group])
            into[(slice(None), *scaled(common.slices(window), scale))] = arrays[name][
                (slice(None), *scaled(common.slices(self._windows[group]), scale))
            ]

    def _arrays(self, group: int) -> Dict[str, Array]:
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        receipt = self._receipts.get(self._item.first + group) or {}
        if not receipt.get("file"):
            return {}
        arrays, _ = read_part(self._folder.parts / str(receipt["file"]), str(receipt["sha256"]))
        self._kept[group] = arrays
        while len(self._kept) > 1 and sum(one.nbytes for part in self._kept.values() for one in part.values()) > _KEPT:
            self._kept.popitem(last=False)
        return arrays


def _profile(name: str, plan: Plan, item: Item, parts: PartReader, metadata: Dict[str, str]) -> RasterProfile:
    grid, scale = item.grid, plan.tiles.scale
    if scale > 1:
        grid = Grid(grid.crs, grid.transform * Affine.scale(1 / scale), grid.width * scale, grid.height * scale)
    if name == "confidence":
        return RasterProfile(grid, 1, "uint8", SCORE_NODATA, (), ("Confidence",), 1 / FULL_SCORE, metadata)
    categories = _categories(plan.classes, plan.values)
    if name == "probabilities":
        names = tuple(one.name for one in categories)
        return RasterProfile(grid, len(names), "uint8", SCORE_NODATA, (), names, 1 / FULL_SCORE, metadata)
    dtype, nodata = class_dtype(plan.values)
    if plan.values is not None:
        return RasterProfile(grid, 1, dtype.name, nodata, categories, ("Class",), 1.0, metadata)
    bands = parts.bands("classes") or 1
    names = tuple(one.name for one in plan.classes) if len(plan.classes) == bands else ()
    return RasterProfile(grid, bands, dtype.name, nodata, (), names, 1.0, metadata)


def _categories(classes: Sequence[ClassInfo], values: Optional[Sequence[int]]) -> Tuple[Category, ...]:
    """Return a category for each channel, named and coloured as the definition says."""
    known = {one.value: one for one in classes}
    categories = []
    for value in values or ():
        one = known.get(value)
        name = one.name if one else ("Background" if value == 0 else str(value))
        colour = one.color if one else ((0, 0, 0) if value == 0 else None)
        categories.append(Category(value, name, colour))
    return tuple(categories)


def _write_raster(target: Path, profile: RasterProfile, parts: PartReader, name: str, outputs: Publication) -> None:
    scale = max(1, round(profile.grid.width / parts.grid.width))
    whole = parts.grid.window
    side = max(1, _PIECE // scale)
    with RasterWriter(target, profile) as writer:
        for window in split(whole, side, side):
            shape = (profile.bands, window.height * scale, window.width * scale)
            pixels = np.full(shape, profile.nodata, dtype=profile.dtype)
            parts.fill(name, window, pixels, scale)
            writer.write(
                Window(window.col * scale, window.row * scale, window.width * scale, window.height * scale), pixels
            )
        writer.finish(outputs)
