"""A picture of a sample of chips with their labels drawn over them, so that a person sees whether labels fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image, ImageDraw

from ..errors import DeepRasterError
from ..raster.gdal import prepare_gdal
from . import folder
from .dataset import Chip, ChipDataset, open_chips
from .images import encode_png
from .label_files import MASK_FORMATS

_COLUMNS, _ROWS, _SIDE, _GAP, _LEGEND = 6, 4, 192, 6, 22
_BACKGROUND, _TEXT = (28, 30, 34), (235, 235, 235)
# Colours that differ for people with colour blindness too (Okabe and Ito).
_PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
_LEGEND_CLASSES = 12
Colour = Tuple[int, int, int]


def write(root: Path) -> None:
    """Write ``contact_sheet.png`` with up to 24 chips spread over the data set.

    A chip that cannot be drawn is left out: the sheet is for looking at, the chips themselves are checked elsewhere.
    """
    try:
        data = open_chips(root)
    except DeepRasterError:
        return
    count = _COLUMNS * _ROWS
    chips = data.chips if len(data) <= count else [data.chips[len(data) * step // count] for step in range(count)]
    colours = {one.value: one.color or _PALETTE[index % len(_PALETTE)] for index, one in enumerate(data.classes)}
    pictures = _pictures(data, chips, colours)
    if pictures:
        sheet = _sheet(pictures, data, colours)
        path = root / folder.CONTACT_SHEET
        part = path.with_name(path.name + ".part")
        part.write_bytes(encode_png(np.moveaxis(np.asarray(sheet), 2, 0)))
        os.replace(part, path)


def _pictures(data: ChipDataset, chips: Sequence[Chip], colours: Dict[int, Colour]) -> List[Image.Image]:
    found = []
    prepare_gdal()
    # Listing a folder of thousands of chips for each of them would take longer than reading it.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
        for chip in chips:
            try:
                found.append(_picture(data, chip, colours))
            except DeepRasterError:
                continue
    return found


def _picture(data: ChipDataset, chip: Chip, colours: Dict[int, Colour]) -> Image.Image:
    pixels, valid = data.image(chip)
    picture = Image.fromarray(stretched(pixels, valid))
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.NEAREST)
    _draw(picture, data, chip, colours, scale)
    return picture


def stretched(pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return (rows, columns, 3) for the eye, from the first three bands or the first.

    8 bits stay as they are; other types are stretched from the 2nd to the 98th percentile of each band.
    """
    bands = pixels[[0, 1, 2]] if len(pixels) >= 3 else pixels[[0, 0, 0]]
    if bands.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(bands, 0, 2))
    result = np.zeros((*valid.shape, 3), dtype=np.uint8)
    for index, band in enumerate(bands):
        values = band[valid & np.isfinite(band)]
        if len(values):
            low, high = np.percentile(values, (2, 98))
            scaled = (np.nan_to_num(band.astype(np.float64)) - low) / max(high - low, 1e-12)
            result[:, :, index] = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return result


def _draw(picture: Image.Image, data: ChipDataset, chip: Chip, colours: Dict[int, Colour], scale: float) -> None:
    pen = ImageDraw.Draw(picture)
    if data.format in ("Classified_Tiles", "Panoptic_Segmentation"):
        _tint(picture, data.class_map(chip), colours)
    elif data.format in MASK_FORMATS:
        found = data.instances(chip)
        for mask, value in zip(found.masks, found.labels.tolist()):
            _tint(picture, mask * np.int64(value), colours)
    elif data.format in ("Labeled_Tiles", "MultiLabeled_Tiles", "Imagenet"):
        pen.text((4, 3), ", ".join(data.names(chip))[:40], fill=_TEXT, stroke_width=2, stroke_fill=(0, 0, 0))
    elif data.format not in ("Export_Tiles", "CycleGAN"):
        boxes = data.boxes(chip)
        for (left, top, right, bottom), value in zip((boxes.boxes * scale).tolist(), boxes.labels.tolist()):
            corners = (left, top, max(left, right - 1), max(top, bottom - 1))
            colour = colours.get(value, _TEXT)
            # A rim of the opposite brightness, so that the box is seen on any ground.
            rim = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
            pen.rectangle(corners, outline=rim, width=3)
            inner = tuple(one + d for one, d in zip(corners, (1, 1, -1, -1)))
            if inner[0] <= inner[2] and inner[1] <= inner[3]:
                pen.rectangle(inner, outline=colour)


def _tint(picture: Image.Image, values: npt.NDArray[np.int64], colours: Dict[int, Colour]) -> None:
    """Lay the classes' colours half transparent over the picture."""
    size = picture.size
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in zip(size[::-1], values.shape))
    values = values[rows[:, None], columns]  # the nearest pixel, before anything is made of it
    mask = np.zeros(values.shape, dtype=np.uint8)
    layer = np.zeros((*values.shape, 3), dtype=np.uint8)
    for value, colour in colours.items():
        here = values == value
        mask[here], layer[here] = 110, colour
    picture.paste(Image.fromarray(layer), (0, 0), Image.fromarray(mask))


def _sheet(pictures: Sequence[Image.Image], data: ChipDataset, colours: Dict[int, Colour]) -> Image.Image:
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    legend = _legend(data, colours)
    width = max(columns * (_SIDE + _GAP) + _GAP, 3 * (_SIDE + _GAP) + _GAP)
    lines = -(-len(legend) // max(1, width // 160))
    sheet = Image.new("RGB", (width, rows * (_SIDE + _GAP) + _GAP + lines * _LEGEND), _BACKGROUND)
    for index, one in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(one, (_GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _GAP)))
    pen = ImageDraw.Draw(sheet)
    for index, (name, colour) in enumerate(legend):
        row, column = divmod(index, max(1, width // 160))
        x, y = _GAP + column * 160, rows * (_SIDE + _GAP) + _GAP + row * _LEGEND
        pen.rectangle((x, y + 3, x + 12, y + 15), fill=colour)
        pen.text((x + 18, y + 3), name[:20], fill=_TEXT)
    return sheet


def _legend(data: ChipDataset, colours: Dict[int, Colour]) -> List[Tuple[str, Colour]]:
    found = [(one.name, colours[one.value]) for one in data.classes[:_LEGEND_CLASSES]]
    if len(data.classes) > _LEGEND_CLASSES:
        found.append((f"and {len(data.classes) - _LEGEND_CLASSES} more", _BACKGROUND))
    return found
