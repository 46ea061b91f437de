"""Cutting the chips of one block: select, read, label, encode, count."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from ..errors import OutputError
from ..jobs import ExportTrainingData, from_dict
from ..raster.grid import Grid
from ..raster.source import RasterSource
from ..raster.vector import MaskArea
from ..raster.versions import check_unchanged
from ..workers.task import TaskContext
from . import label_store, rules, space
from .class_maps import ClassMap, of_features, of_raster
from .classes import LabelClass
from .formats import make
from .formats.base import Sample, Sink, Written, regions
from .images import ImageWriter
from .items import Item, block_window
from .layout import object_frames
from .objects import ChipFrame, Objects, no_objects, objects_in_chips
from .paint import paint
from .pixels import BlockPixels
from .plan import read_plan
from .staging import Staging, summary, write_json
from .statistics import BandStatistics, ClassStatistics, band_statistics

_STATE = "export_training_data"
_INSET = 1e-3


@dataclasses.dataclass
class _Chip:
    """A chip on its way, with its objects or, where labels are pixels, its class raster."""

    frame: ChipFrame
    objects: Objects = dataclasses.field(default_factory=no_objects)
    class_map: Optional[ClassMap] = None
    instances: Optional[Objects] = None

    @property
    def is_labelled(self) -> bool:
        return len(self.objects) > 0 or (self.class_map is not None and len(self.class_map.values) > 0)


class Exporter:
    """What a worker keeps between the blocks of one export: the plan, open rasters, and the mask of an item."""

    def __init__(self, output: str, logins: Sequence[str]) -> None:
        self.staging = Staging(Path(output))
        plan = read_plan(self.staging, logins)
        job = from_dict(plan["job"])
        if not isinstance(job, ExportTrainingData):
            raise OutputError("The plan of the export holds another job.", file=str(self.staging.plan_file))
        self.job = job
        self.traits = rules.traits(job.format)
        self.items = [Item.from_dict(one) for one in plan["items"]]
        self.blocks: Dict[int, Mapping[str, Any]] = {int(one["id"]): one for one in plan["blocks"]}
        classes = [LabelClass.from_dict(one) for one in plan["classes"]]
        self.names = {one.value: one.name for one in classes}
        self.label_type = str(plan["label_type"])
        self.bands = plan["bands"]
        self.bands2 = plan["bands2"]
        self.versions = plan["sources"]
        self.format = make(job.format)
        self._item = -1
        self._sources: Dict[str, RasterSource] = {}
        self._mask: Optional[Tuple[MaskArea, Grid]] = None

    def open_item(self, number: int) -> Item:
        """Return an item, with its rasters and its mask opened; those of another item are closed."""
        item = self.items[number]
        if number != self._item:
            self.close()
            job, self._item = self.job, number
            self._sources["image"] = RasterSource.open(item.inputs, item.grid, running=True)
            if item.second:
                self._sources["second"] = RasterSource.open(item.second, item.grid, running=True)
            for key, raster in (("labels", job.label_raster), ("instances", job.instances_raster)):
                if raster is not None:
                    self._sources[key] = RasterSource.open([raster], item.grid, running=True)
            if job.mask is not None:
                grid = label_store.label_grid(job.mask, item.grid)
                self._mask = (MaskArea.read(job.mask, grid), grid)
        return item

    def check_unchanged(self) -> None:
        """Refuse to go on if a raster that was read since the last call is not the one that was planned with.

        Raises:
            SourceLostError: so it is.
        """
        used = {one for source in self._sources.values() for one in source.used}
        for source in self._sources.values():
            source.used.clear()
        check_unchanged(used, self.versions)

    def close(self) -> None:
        """Close all rasters."""
        while self._sources:
            self._sources.popitem()[1].close()
        self._item, self._mask = -1, None

    def pixels(self, key: str, frames: Sequence[ChipFrame]) -> Optional[BlockPixels]:
        """Return the pixels of a raster for chips, or None if there is no such raster or no chip."""
        source = self._sources.get(key)
        return BlockPixels(source, frames) if source is not None and frames else None

    def inside_mask(self, frame: ChipFrame) -> bool:
        """Return whether the chip lies completely inside the mask polygons."""
        if self._mask is None:
            return True
        area, grid = self._mask
        # A thousandth of a pixel inwards: chips that end exactly on the mask's edge must not fail by rounding.
        width, height, inset = frame.width, frame.height, _INSET
        corners = [(inset, inset), (width - inset, inset), (width - inset, height - inset), (inset, height - inset)]
        points = [grid.to_map(*frame.to_grid(*one)) for one in corners]
        return area.covers_shape(shapely.Polygon(points))


def export_chips(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Task: write the chips of one block into the working folder.

    Args:
        payload: ``output`` folder, ``digest`` of the job, ``block`` number, and ``secrets``: logins in the plan's
            places.
        context: of the worker; keeps the opened export between blocks.

    Returns:
        numbers (candidates) of the chips written, class values met, and counts of objects and of what was left out.

    Raises:
        RasterError: an input cannot be read.
        OutputError: a chip cannot be written.
    """
    exporter = _exporter(payload, context)
    number = int(payload["block"])
    folder = exporter.staging.block_folder(number)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        try:
            receipt = _Block(exporter, number, folder).run()
        finally:
            exporter.check_unchanged()
        write_json(exporter.staging.block_file(number), receipt)
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(
            f"The chips cannot be written to “{exporter.staging.output}”: {error.strerror}"
            f"{space.no_room(exporter.staging.output)}.",
            stage="writing chips",
            file=str(exporter.staging.output),
            hint="Make room or choose another folder, then run the export again with “continue”.",
        ) from error
    return summary(receipt)


def _exporter(payload: Mapping[str, Any], context: TaskContext) -> Exporter:
    """Return the opened export; the worker keeps the last one until job or logins change."""
    key = (payload["output"], payload["digest"], payload["secrets"])
    known = context.state.get(_STATE)
    if known is None or known[0] != key:
        if known is not None:
            known[1].close()
        known = context.state[_STATE] = (key, Exporter(str(payload["output"]), payload["secrets"]))
    found: Exporter = known[1]
    return found


class _Block:
    """The work on one block."""

    def __init__(self, exporter: Exporter, number: int, folder: Path) -> None:
        self._exporter = exporter
        self._number = number
        self._block = exporter.blocks[number]
        self._item = exporter.open_item(int(self._block["item"]))
        self._job = exporter.job
        self._root = self._item.root
        self._folder = folder
        images = ImageWriter(self._job.chip_format, self._item.grid.crs, self._job.reference_system == rules.MAP_SPACE)
        self._sink = Sink(folder / self._root if self._root else folder, images)
        self._left_out = {"outside mask": 0, "mostly empty": 0, "without labels": 0}

    def run(self) -> Dict[str, Any]:
        """Cut, write, count; return the block's receipt."""
        chips = self._candidates()
        frames = [one.frame for one in chips]
        image, second = (self._exporter.pixels(key, frames) for key in ("image", "second"))
        bands: List[List[BandStatistics]] = [[], []]
        classes = ClassStatistics()
        rows: List[Dict[str, Any]] = []
        for chip in chips:
            if image is None:
                break
            pixels, valid = image.chip(chip.frame)
            if not self._job.all_tiles and 2 * np.count_nonzero(valid) < valid.size:
                self._left_out["mostly empty"] += 1
                continue
            others, others_valid = second.chip(chip.frame) if second is not None else (None, None)
            sample = self._sample(chip, pixels, others, len(rows))
            before = len(self._sink.files)
            written = self._exporter.format.write(sample, self._sink)
            _add_bands(bands[0], band_statistics(sample.pixels, valid))
            if sample.second is not None and others_valid is not None:
                _add_bands(bands[1], band_statistics(sample.second, others_valid))
            if written.pixels is not None:
                classes.add_pixels(written.pixels)
            else:
                classes.add_features(written.values, written.areas)
            rows.append(self._row(chip.frame, sample, written, self._sink.files[before:]))
        return {
            "chips": rows,
            "bands": [one.to_state() for one in bands[0]],
            "bands2": [one.to_state() for one in bands[1]],
            "classes": classes.to_dict(),
            "objects": sum(one["objects"] for one in rows),
            "values": sorted(classes.number_of),
            "instances": sorted(
                {int(value) for one in chips if one.instances is not None for value in one.instances.values}
            ),
            "left_out": self._left_out,
            "bytes": self._sink.size,
        }

    def _candidates(self) -> List[_Chip]:
        """Return the chips of the block that lie inside the mask and have labels, or all if all are wanted."""
        objects = self._load("labels")
        if self._exporter.traits.per_object:
            return self._object_chips(objects)
        frames = self._item.layout.frames(tuple(self._block["range"]))
        inside = [one for one in frames if self._exporter.inside_mask(one)]
        self._left_out["outside mask"] += len(frames) - len(inside)
        chips = self._labelled_chips(objects, inside)
        labelled = self._exporter.traits.labels != rules.NONE
        if labelled and not self._job.all_tiles:
            kept = [one for one in chips if one.is_labelled]
            self._left_out["without labels"] += len(chips) - len(kept)
            chips = kept
        return self._with_instances(chips)

    def _labelled_chips(self, objects: Objects, frames: List[ChipFrame]) -> List[_Chip]:
        """Return chips with their objects, or with their class raster where the format or the labels are pixels."""
        exporter, grid = self._exporter, self._item.layout.grid
        source = exporter.pixels("labels", frames)
        if source is not None:
            found = ((frame, source.chip(frame)) for frame in frames)
            kind = exporter.label_type
            return [_Chip(frame, class_map=of_raster(pixels[0], valid, kind)) for frame, (pixels, valid) in found]
        overlap = self._job.min_overlap
        if exporter.traits.pixel_statistics:
            maps = of_features(objects, frames, overlap, grid, exporter.label_type)
            return [_Chip(frame, class_map=one) for frame, one in zip(frames, maps)]
        parts = objects_in_chips(objects, frames, overlap, grid)
        return [_Chip(frame, part) for frame, part in zip(frames, parts)]

    def _load(self, kind: str) -> Objects:
        return label_store.load(label_store.block_file(self._exporter.staging.folder / kind, self._number))

    def _object_chips(self, objects: Objects) -> List[_Chip]:
        """Return one chip for each object whose centre lies in the block, and for each rotation."""
        window = block_window(self._item, self._block, True)
        centres = shapely.get_coordinates(shapely.centroid(shapely.envelope(objects.geometries))).reshape(-1, 2)
        grid = self._item.layout.grid
        x, y = np.clip(centres.T, 0, np.array([[grid.width - 1], [grid.height - 1]]))
        mine = (x >= window.col) & (x < window.right) & (y >= window.row) & (y < window.bottom)
        objects = objects.take(mine)
        chips = []
        for index, frame in object_frames(objects, self._item.layout, self._job.crop_mode):
            one = objects.take(np.array([index]))
            if not self._exporter.inside_mask(frame):
                self._left_out["outside mask"] += 1
                continue
            part = objects_in_chips(one, [frame], self._job.min_overlap, self._item.layout.grid)[0]
            if shapely.get_dimensions(one.geometries[0]) < 2:
                part = Objects(
                    np.array([shapely.box(0, 0, frame.width, frame.height)]), one.values, one.areas, one.fids
                )
            if len(part):
                chips.append(_Chip(frame, part))
            else:
                self._left_out["without labels"] += 1
        return chips

    def _with_instances(self, chips: List[_Chip]) -> List[_Chip]:
        if not self._exporter.traits.instances:
            return chips
        frames = [one.frame for one in chips]
        source = self._exporter.pixels("instances", frames)
        if source is None:
            layout = self._item.layout
            found = objects_in_chips(self._load("instances"), frames, self._job.min_overlap, layout.grid)
        else:
            found = [self._regions(source, one.frame) for one in chips]
        return [dataclasses.replace(one, instances=part) for one, part in zip(chips, found)]

    def _regions(self, source: BlockPixels, frame: ChipFrame) -> Objects:
        pixels, valid = source.chip(frame)
        return regions(of_raster(pixels[0], valid, "int32").pixels, frame.placed_on(self._item.grid.transform))

    def _sample(self, chip: _Chip, pixels: npt.NDArray[Any], second: Optional[npt.NDArray[Any]], number: int) -> Sample:
        exporter, frame = self._exporter, chip.frame
        pixels = pixels.astype(exporter.bands[self._root]["dtype"], copy=False)
        if second is not None and exporter.bands2:
            second = second.astype(exporter.bands2["dtype"], copy=False)
        if self._job.blacken:
            inside = paint(chip.objects.geometries, [1], (frame.height, frame.width), np.uint8)
            pixels = np.where(inside > 0, pixels, 0).astype(pixels.dtype)
        return Sample(
            stem=f"b{self._number:06d}c{number:06d}",
            pixels=pixels,
            second=second,
            transform=frame.placed_on(self._item.grid.transform),
            objects=chip.objects,
            class_map=chip.class_map,
            instances=chip.instances,
            names=exporter.names,
        )

    def _row(self, frame: ChipFrame, sample: Sample, written: Written, files: List[str]) -> Dict[str, Any]:
        corners = np.array([self._item.grid.to_map(*frame.to_grid(*one)) for one in frame.corners])
        found = sorted(written.pixels) if written.pixels is not None else sorted(set(written.values))
        return {
            "root": self._root,
            "item": int(self._block["item"]),
            "candidate": frame.candidate,
            "stem": sample.stem,
            "images": written.images,
            "labels": written.labels,
            "files": files,
            "size": [frame.width, frame.height],
            "bounds": [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()],
            "turn": frame.turn,
            "objects": len(written.values),
            "classes": found,
            "annotations": written.annotations,
        }


def _add_bands(total: List[BandStatistics], chip: List[BandStatistics]) -> None:
    if not total:
        total.extend(BandStatistics() for _ in chip)
    for one, other in zip(total, chip):
        one.add(other)
