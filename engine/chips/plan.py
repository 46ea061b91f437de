"""The plan of an export: what is read, on which grid, in which blocks; made once by one worker, read by all."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .. import events
from ..errors import DeepRasterError, JobError, OutputError, RasterError
from ..jobs import ITEMS_SEPARATELY, ExportTrainingData, RasterInput, VectorInput, from_dict, to_dict, value_from_dict
from ..raster.gdal import shown
from ..raster.grid import IMAGE_TRANSFORM, Grid, plan_grid
from ..raster.source import RasterSource, source_grids
from ..raster.versions import source_state
from ..raster.window import Window, split
from ..workers.task import TaskContext
from . import attribute_table, folder, rules, space
from .classes import ClassRule, LabelClass, find_classes
from .images import check_holds
from .label_store import LabelCounts, LabelLayer, block_file, store_labels
from .layout import Layout, angles_of
from .staging import Staging, write_json

_OBJECT_BLOCK = 2048


@dataclass(frozen=True)
class Item:
    """Rasters that form one image, and its grid; ``root`` is the sub-folder of the data set it goes to."""

    inputs: Tuple[RasterInput, ...]
    grid: Grid
    layout: Layout
    second: Tuple[RasterInput, ...] = ()
    root: str = ""
    name: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members."""
        return {
            "inputs": [one.__dict__ for one in self.inputs],
            "second": [one.__dict__ for one in self.second],
            "grid": self.grid.to_dict(),
            "layout": self.layout.to_dict(),
            "root": self.root,
            "name": self.name,
        }

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Item:
        """Read what :meth:`to_dict` returns."""
        rasters = [
            tuple(value_from_dict(RasterInput, one, "raster") for one in members[key]) for key in ("inputs", "second")
        ]
        grid, layout = Grid.from_dict(members["grid"]), Layout.from_dict(members["layout"])
        return cls(rasters[0], grid, layout, rasters[1], str(members["root"]), str(members["name"]))


@dataclass(frozen=True)
class Bands:
    """Bands of the chips below one root folder: ``dtype`` holds the pixels of all items."""

    count: int
    dtype: str
    names: Tuple[str, ...]
    sensors: int = 1

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members."""
        return {"count": self.count, "dtype": self.dtype, "names": self.names, "sensors": self.sensors}


@contextlib.contextmanager
def _written(output: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an :class:`OutputError`; the engine's own errors pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DeepRasterError):
            raise
        raise OutputError(
            f"The plan cannot be written to “{output}”: {error.strerror or error}{space.no_room(output)}.",
            stage="preparing the output",
            file=str(output),
            hint="Make room or choose another folder.",
        ) from error


def plan_export(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Task: open everything, find the classes, store the labels by block, and write the plan.

    Args:
        payload: ``job`` as JSON members.
        context: of the worker.

    Returns:
        number of blocks, classes, root folders, and notes for the log.

    Raises:
        JobError: parameters do not fit the rasters or labels, or nothing can be exported.
        RasterError, VectorError: an input cannot be read.
    """
    job = from_dict(payload["job"])
    if not isinstance(job, ExportTrainingData):
        raise JobError("The planning task got another job.")
    traits = rules.check_job(job)
    staging = Staging(Path(job.output))
    items = _items(job, traits)
    bands = {root: _bands([one for one in items if one.root == root], False) for root in _roots(items)}
    second = _bands(items, True) if items[0].second else None
    for one in (*bands.values(), *([second] if second else [])):
        check_holds(job.chip_format, one.count, one.dtype)
    _check_folder(job, staging.output, bands)
    context.emit(events.Progress(0.3, "Reading the labels"))
    blocks = _blocks(items, bands, traits)
    labels = _Labels(job, traits, _known_classes(staging.output))
    with _written(staging.output):
        labels.store(items, blocks, staging.folder)
    if labels.from_features and not job.all_tiles:
        blocks = [one for one in blocks if block_file(staging.folder / "labels", one["id"]).is_file()]
        if not blocks:
            raise _nothing(job, labels.counts)
    plan = {
        "job": to_dict(job),
        "items": [one.to_dict() for one in items],
        "blocks": blocks,
        "classes": [one.to_dict() for one in labels.classes],
        "instance_classes": [one.to_dict() for one in labels.instance_classes],
        "label_type": labels.label_type(items),
        "bands": {root: one.to_dict() for root, one in bands.items()},
        "bands2": second.to_dict() if second else None,
        "sources": source_state(_rasters(job)),
    }
    with _written(staging.output):
        write_json(staging.plan_file, plan)
    return {
        "blocks": len(blocks),
        "classes": plan["classes"],
        "roots": list(bands),
        "notes": [*labels.notes(), *_space(job, items, bands, traits)],
    }


def _rasters(job: ExportTrainingData) -> List[RasterInput]:
    further = [one for one in (job.label_raster, job.instances_raster) if one is not None]
    return [*job.inputs, *job.inputs2, *further]


def _space(
    job: ExportTrainingData, items: Sequence[Item], bands: Mapping[str, Bands], traits: rules.Traits
) -> List[str]:
    """Return a warning if all windows become chips and will hardly fit on the disk."""
    if job.mask is not None or not (job.all_tiles or traits.labels == rules.NONE):
        return []
    size = 0
    for one in items:
        columns, rows = one.layout.shape
        per_pixel = bands[one.root].count * np.dtype(bands[one.root].dtype).itemsize
        size += columns * rows * len(one.layout.angles) * one.layout.tile[0] * one.layout.tile[1] * per_pixel
    found = space.warning(Path(job.output), size)
    return [found] if found else []


def _roots(items: Sequence[Item]) -> List[str]:
    return list(dict.fromkeys(one.root for one in items))


def _items(job: ExportTrainingData, traits: rules.Traits) -> List[Item]:
    if job.format == "CycleGAN":
        return [*_domain(job, job.inputs, "A"), *_domain(job, job.inputs2, "B")]
    return _domain(job, job.inputs, "", job.inputs2)


def _domain(
    job: ExportTrainingData, inputs: Sequence[RasterInput], root: str, second: Sequence[RasterInput] = ()
) -> List[Item]:
    """Return the items of a list of rasters: one mosaic, or one each."""
    grids = source_grids(inputs)
    bare = [one for one in grids if not one.crs and one.transform == IMAGE_TRANSFORM]
    if job.processing_mode != ITEMS_SEPARATELY:
        if len(grids) > 1 and bare:
            raise JobError(
                "Images without georeference all lie at the same place, so they cannot form a mosaic.",
                stage="planning the chips",
                hint="Process the items separately.",
            )
        return [_item(job, inputs, grids, root, second)]
    if len(bare) > 1 and (job.labels is not None or job.label_raster is not None):
        raise JobError(
            "Images without georeference all lie at the same place, so one layer of labels would label each of them.",
            stage="planning the chips",
            hint="Export each image with its own labels into the same folder; chips are added to what is there.",
        )
    found: List[Item] = []
    last: Optional[JobError] = None
    for index, one in enumerate(inputs):
        try:
            found.append(_item(job, [one], [grids[index]], root, second[index : index + 1]))
        except JobError as error:  # an item outside the extent
            last = error
    if not found and last is not None:
        raise last
    return found


def _item(
    job: ExportTrainingData,
    inputs: Sequence[RasterInput],
    grids: Sequence[Grid],
    root: str,
    second: Sequence[RasterInput],
) -> Item:
    grid = plan_grid(grids, job.extent, job.cell_size, job.reference_system == rules.PIXEL_SPACE)
    tile = (job.tile_size_x, job.tile_size_y)
    stride = (job.stride_x or tile[0], job.stride_y or tile[1])
    layout = Layout(grid.window, tile, stride, angles_of(job.rotation))
    name = inputs[0].name or Path(shown(inputs[0].path)).stem
    return Item(tuple(inputs), grid, layout, tuple(second), root, name)


def _bands(items: Sequence[Item], second: bool) -> Bands:
    """Return the bands that all items share.

    Raises:
        RasterError: items differ in their number of bands.
    """
    counts, types, names = [], [], []
    for one in items:
        with RasterSource.open(one.second if second else one.inputs, one.grid) as source:
            counts.append(source.count)
            types.append(source.dtype)
            names.append(source.descriptions)
    different = [one for one, count in zip(items, counts) if count != counts[0]]
    if different:
        raise RasterError(
            f"The image “{different[0].name}” has another number of bands than “{items[0].name}”.",
            stage="planning the chips",
            hint="Export images with the same bands, or select the same bands of all.",
        )
    dtype = np.result_type(*types)
    sensors = sum(len(one.second if second else one.inputs) for one in items)
    return Bands(counts[0], str(dtype if dtype != np.float16 else np.dtype(np.float32)), names[0], sensors)


def _check_folder(job: ExportTrainingData, output: Path, bands: Mapping[str, Bands]) -> None:
    """Refuse to append chips with other bands to a folder."""
    if job.existing == rules.REPLACE:
        return
    for root, one in bands.items():
        there = folder.read_json(output / root / folder.STATISTICS).get("NumBands")
        if there is not None and int(there) != one.count:
            raise JobError(
                f"The chips in the output folder have {there} bands, but the raster has {one.count}.",
                stage="planning the chips",
                file=str(output),
                hint="Choose another folder, or replace what is there.",
            )


def _known_classes(output: Path) -> List[LabelClass]:
    members = folder.read_json(output / folder.DEFINITION).get("Classes") or []
    return [LabelClass(int(one["Value"]), str(one["Name"])) for one in members if one.get("Value") is not None]


def _blocks(items: Sequence[Item], bands: Mapping[str, Bands], traits: rules.Traits) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = []
    for number, item in enumerate(items):
        own = bands[item.root]
        ranges = [tuple(block) for block in item.layout.blocks(own.count * np.dtype(own.dtype).itemsize)]
        if traits.per_object:
            parts = split(item.grid.window, _OBJECT_BLOCK, _OBJECT_BLOCK)
            ranges = [(part.col, part.row, part.width, part.height) for part in parts]
        for one in ranges:
            found.append({"id": len(found), "item": number, "range": one})
    return found


def block_window(item: Item, block: Mapping[str, Any], per_object: bool) -> Window:
    """Return the pixels of a block: those its chips may touch, or those its objects' centres lie in."""
    return Window(*block["range"]) if per_object else item.layout.block_window(tuple(block["range"]))


class _Labels:
    """The labels of an export while it is planned."""

    def __init__(self, job: ExportTrainingData, traits: rules.Traits, known: Sequence[LabelClass]) -> None:
        self._job = job
        self._traits = traits
        self.from_features = job.labels is not None
        self.counts = LabelCounts()
        self.classes: List[LabelClass] = []
        self.instance_classes: List[LabelClass] = []
        self._layers: Dict[str, LabelLayer] = {}
        zero = not traits.zero_is_background
        known = known if job.existing != rules.REPLACE else ()
        if job.labels is not None:
            rule, self.classes = find_classes(job.labels, job.class_field, zero, known)
            points = traits.per_object and job.crop_mode == rules.FIXED_SIZE and not job.blacken
            self._layers["labels"] = self._layer(job.labels, rule, points)
        elif job.label_raster is not None:
            self.classes = attribute_table.read_classes(job.label_raster)
            _check_class_raster(job.label_raster)
        if job.instances is not None:
            rule, self.instance_classes = self._instance_classes(job.instances)
            self._layers["instances"] = self._layer(job.instances, rule, False)
        elif job.instances_raster is not None:
            self.instance_classes = attribute_table.read_classes(job.instances_raster)
            _check_class_raster(job.instances_raster)
        names = {one.value: one for one in self.classes}
        self.instance_classes = [names.get(one.value, one) for one in self.instance_classes]
        self.classes.extend(one for one in self.instance_classes if one.value not in names)

    def _layer(self, vector: VectorInput, rule: ClassRule, points_allowed: bool) -> LabelLayer:
        return LabelLayer(vector, rule, self._job.buffer_radius, points_allowed)

    def _instance_classes(self, vector: VectorInput) -> Tuple[ClassRule, List[LabelClass]]:
        """Return the classes of the instance data: by the labels' class field where it has one, else by the rules."""
        try:
            return find_classes(vector, self._job.class_field, False, self.classes)
        except JobError:
            return find_classes(vector, "", False, self.classes)

    def store(self, items: Sequence[Item], blocks: Sequence[Mapping[str, Any]], staging: Path) -> None:
        """Store the objects of every block."""
        for kind, layer in self._layers.items():
            for number, item in enumerate(items):
                mine = [
                    (int(one["id"]), block_window(item, one, self._traits.per_object))
                    for one in blocks
                    if one["item"] == number
                ]
                found = store_labels(layer, item.grid, mine, staging / kind)
                if kind == "labels":
                    self._add(found)
        if self.from_features and self.counts.values:
            self.classes = [
                one for one in self.classes if one.value in self.counts.values or one in self.instance_classes
            ]

    def _add(self, found: LabelCounts) -> None:
        self.counts.read += found.read
        self.counts.stored += found.stored
        self.counts.without_class += found.without_class
        self.counts.dropped = max(self.counts.dropped, found.dropped)
        self.counts.repaired += found.repaired
        for value, number in found.values.items():
            self.counts.values[value] = self.counts.values.get(value, 0) + number

    def label_type(self, items: Sequence[Item]) -> str:
        """Return the smallest unsigned type that holds every class value of features, or the class raster's own."""
        if self._job.label_raster is not None:
            with RasterSource.open([self._job.label_raster], items[0].grid) as source:
                return str(source.dtype) if source.dtype.kind in "ui" and source.dtype.itemsize <= 4 else "int32"
        highest = max((one.value for one in self.classes), default=1)
        return str(np.min_scalar_type(highest)) if highest < 2**32 else "int64"

    def notes(self) -> List[str]:
        """Return sentences on features that were left out or repaired."""
        found = []
        for number, one, several in (
            (self.counts.without_class, "has no class and is left out", "have no class and are left out"),
            (
                self.counts.dropped,
                "has no geometry that can be used and is left out",
                "have no geometry that can be used and are left out",
            ),
            (self.counts.repaired, "had an invalid geometry, which was repaired", ""),
        ):
            if number:
                found.append(f"1 feature {one}." if number == 1 else f"{number} features {several or one}.")
        return found


def _check_class_raster(raster: RasterInput) -> None:
    with RasterSource.open([raster]) as source:
        if source.count != 1:
            raise JobError(
                f"A class raster has one band, but “{shown(raster.path)}” has {source.count}.",
                stage="reading the labels",
                file=shown(raster.path),
                hint="Select its class band.",
            )


def _nothing(job: ExportTrainingData, counts: LabelCounts) -> JobError:
    path = shown(job.labels.path) if job.labels is not None else ""
    if counts.without_class and counts.without_class == counts.read:
        return JobError(
            f"No feature of “{path}” has a class.", stage="reading the labels", hint="Fill the class field."
        )
    return JobError(
        f"No feature of “{path}” lies on the raster within the processing extent.",
        stage="reading the labels",
        file=path,
        hint="Check that the layer is not empty, its subset filter, its CRS and the extent; or export all tiles.",
    )
