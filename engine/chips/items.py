"""The images of an export: which rasters form one, on which grid, with which bands, and the blocks they are cut in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..errors import JobError, RasterError
from ..jobs import ITEMS_SEPARATELY, ExportTrainingData, RasterInput, value_from_dict
from ..raster.gdal import shown
from ..raster.grid import IMAGE_TRANSFORM, Grid, plan_grid
from ..raster.source import RasterSource, source_grids
from ..raster.window import Window, split
from . import rules
from .layout import Layout, angles_of

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


def roots_of(items: Sequence[Item]) -> List[str]:
    """Return the root folders of items, each once."""
    return list(dict.fromkeys(one.root for one in items))


def items_of(job: ExportTrainingData) -> List[Item]:
    """Return the items of a job; those outside its extent are left out.

    Raises:
        JobError: none lies inside, or images without georeference would have to form a mosaic.
        RasterError: a raster cannot be opened.
    """
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


def bands_of(items: Sequence[Item], second: bool) -> Bands:
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


def blocks_of(items: Sequence[Item], bands: Mapping[str, Bands], traits: rules.Traits) -> List[Dict[str, Any]]:
    """Return the blocks of all items: number, item, and range of windows or, of chips per object, of pixels."""
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
