"""A picture of a sample of chips with their labels drawn over them, so that a person sees whether labels fit."""

from __future__ import annotations

import colorsys
import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

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

_COLUMNS, _ROWS, _SIDE, _GAP, _LINE = 6, 4, 192, 6, 20
_BACKGROUND, _TEXT = (28, 30, 34), (235, 235, 235)
_TINT = 110
# Colours that differ for people with colour blindness too (Okabe and Ito).
_PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
_LEGEND_CLASSES, _LEGEND_TEXT = 35, 40
Colour = Tuple[int, int, int]
Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def write(root: Path, before: Path) -> None:
    """Write ``contact_sheet.png`` with up to 24 chips spread over the data set.

    A chip that cannot be drawn is left out: the sheet is for looking at, the chips themselves are checked elsewhere.

    Args:
        root: folder with the new chips, and with side files that tell of all chips; the sheet goes there.
        before: folder with the chips of earlier exports, if there are any.
    """
    try:
        data = open_chips(root)
    except DeepRasterError:
        return
    with contextlib.suppress(DeepRasterError):
        earlier = open_chips(before)
        both = tuple(sorted((*earlier.chips, *data.chips), key=lambda one: one.stem))
        data = dataclasses.replace(data, chips=both, bands=earlier.bands, width=earlier.width, height=earlier.height)
    count = _COLUMNS * _ROWS
    chips = data.chips if len(data) <= count else [data.chips[len(data) * step // count] for step in range(count)]
    colours = {one.value: one.color or _colour(index) for index, one in enumerate(data.classes)}
    pictures = _pictures(data, chips, colours)
    if pictures:
        sheet = _sheet(pictures, data, colours)
        path = root / folder.CONTACT_SHEET
        part = path.with_name(path.name + ".part")
        part.write_bytes(encode_png(np.moveaxis(np.asarray(sheet), 2, 0)))
        os.replace(part, path)


def _colour(index: int) -> Colour:
    """Return a colour of its own for each class: after the palette, hues as far from each other as can be."""
    if index < len(_PALETTE):
        return _PALETTE[index]
    step = index - len(_PALETTE)
    red, green, blue = colorsys.hsv_to_rgb(step * 0.618034 % 1, (0.55, 0.95)[step % 2], (1.0, 0.75)[step // 2 % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def _pictures(data: ChipDataset, chips: Sequence[Chip], colours: Dict[int, Colour]) -> List[Image.Image]:
    found: List[Tuple[Chip, Pixels, Mask]] = []
    prepare_gdal()
    bands = _shown_bands(data)
    # Listing a folder of thousands of chips for each of them would take longer than reading it.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
        for chip in chips:
            with contextlib.suppress(DeepRasterError):
                pixels, valid = data.image(chip)
                found.append((chip, pixels[bands], valid))
        limits = stretch_limits([(pixels, valid) for _, pixels, valid in found])
        pictures = []
        for chip, pixels, _ in found:
            with contextlib.suppress(DeepRasterError):
                pictures.append(_picture(data, chip, stretched(pixels, limits), colours))
    return pictures


def _shown_bands(data: ChipDataset) -> List[int]:
    """Return the positions of red, green and blue by the bands' names, else those of the first three or the first."""
    names = [one.name.strip().lower() for one in data.statistics]
    if {"red", "green", "blue"} <= set(names):
        return [names.index(one) for one in ("red", "green", "blue")]
    return [0, 1, 2] if data.bands >= 3 else [0, 0, 0]


def _picture(data: ChipDataset, chip: Chip, pixels: npt.NDArray[np.uint8], colours: Dict[int, Colour]) -> Image.Image:
    picture = Image.fromarray(pixels)
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.NEAREST)
    _draw(picture, data, chip, colours, scale)
    return picture


def stretch_limits(chips: Sequence[Tuple[Pixels, Mask]]) -> npt.NDArray[np.float64]:
    """Return (bands, 2) values to show black and white: the 2nd and the 98th percentile of all chips together.

    The same for all chips, so that they can be compared. 8 bits stay as they are.
    """
    if not chips or chips[0][0].dtype == np.uint8:
        return np.array([[0.0, 255.0]] * 3)
    samples = [pixels[:, valid & np.isfinite(pixels).all(axis=0)][:, ::7] for pixels, valid in chips]
    values = np.concatenate([one.astype(np.float64) for one in samples], axis=1)
    if not values.shape[1]:
        return np.array([[0.0, 1.0]] * 3)
    return np.asarray(np.percentile(values, (2, 98), axis=1).T)


def stretched(pixels: Pixels, limits: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return (rows, columns, 3) for the eye of three bands."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
    low, high = limits.T[:, :, None, None]
    scaled = (np.nan_to_num(pixels.astype(np.float64)) - low) / np.maximum(high - low, 1e-12)
    return np.ascontiguousarray(np.moveaxis((scaled.clip(0, 1) * 255).astype(np.uint8), 0, 2))


def _draw(picture: Image.Image, data: ChipDataset, chip: Chip, colours: Dict[int, Colour], scale: float) -> None:
    pen = ImageDraw.Draw(picture)
    if data.format in ("Classified_Tiles", "Panoptic_Segmentation"):
        values = data.class_map(chip)
        _tint(picture, values, values, colours)
    elif data.format in MASK_FORMATS:
        values = objects = np.zeros((data.height, data.width), dtype=np.int64)
        found = data.instances(chip)
        for number, (mask, value) in enumerate(zip(found.masks, found.labels.tolist()), 1):
            values, objects = np.where(mask, value, values), np.where(mask, number, objects)
        _tint(picture, values, objects, colours)
    elif data.format in ("Labeled_Tiles", "MultiLabeled_Tiles", "Imagenet"):
        pen.text((4, 3), ", ".join(data.names(chip))[:40], fill=_TEXT, stroke_width=2, stroke_fill=(0, 0, 0))
    elif data.format not in ("Export_Tiles", "CycleGAN"):
        boxes = data.boxes(chip)
        for (left, top, right, bottom), value in zip((boxes.boxes * scale).tolist(), boxes.labels.tolist()):
            corners = (left, top, max(left, right - 1), max(top, bottom - 1))
            colour = colours.get(value, _TEXT)
            # A rim of the opposite brightness, so that the box is seen on any ground.
            rim = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
            pen.rectangle(corners, outline=rim)
            inner = tuple(one + d for one, d in zip(corners, (1, 1, -1, -1)))
            if inner[0] <= inner[2] and inner[1] <= inner[3]:
                pen.rectangle(inner, outline=colour, width=2)


def _tint(
    picture: Image.Image, values: npt.NDArray[np.int64], objects: npt.NDArray[np.int64], colours: Dict[int, Colour]
) -> None:
    """Lay the classes' colours half transparent over the picture, and opaque along the edges of objects."""
    size = picture.size
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in zip(size[::-1], values.shape))
    # The nearest pixel, before anything is made of it.
    values, objects = values[rows[:, None], columns], objects[rows[:, None], columns]
    edge = np.zeros(values.shape, dtype=bool)
    edge[:, 1:] = objects[:, 1:] != objects[:, :-1]
    edge[1:] |= objects[1:] != objects[:-1]
    edge[:, :-1] |= edge[:, 1:]
    edge[:-1] |= edge[1:]
    known = np.array(sorted(colours), dtype=np.int64)
    place = np.searchsorted(known, values).clip(0, max(0, len(known) - 1))
    here = known[place] == values if len(known) else np.zeros(values.shape, dtype=bool)
    layer = np.array([colours[one] for one in known.tolist()] or [(0, 0, 0)], dtype=np.uint8)[place]
    mask = np.where(here, np.where(edge, 255, _TINT), 0).astype(np.uint8)
    picture.paste(Image.fromarray(layer), (0, 0), Image.fromarray(mask))


def _sheet(pictures: Sequence[Image.Image], data: ChipDataset, colours: Dict[int, Colour]) -> Image.Image:
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    legend = _legend(data, colours)
    width = max(columns, 3) * (_SIDE + _GAP) + _GAP
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    entry = max((int(pen.textlength(name)) for name, _ in legend), default=0) + 36
    across = max(1, (width - _GAP) // entry)
    lines = -(-len(legend) // across)
    sheet = Image.new("RGB", (width, rows * (_SIDE + _GAP) + 2 * _GAP + lines * _LINE), _BACKGROUND)
    for index, one in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(one, (_GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _GAP)))
    pen = ImageDraw.Draw(sheet)
    for index, (name, colour) in enumerate(legend):
        column, row = divmod(index, lines)
        x, y = _GAP + column * entry, rows * (_SIDE + _GAP) + _GAP + row * _LINE
        pen.rectangle((x, y + 3, x + 12, y + 15), fill=colour)
        pen.text((x + 18, y + 3), name, fill=_TEXT)
    return sheet


def _legend(data: ChipDataset, colours: Dict[int, Colour]) -> List[Tuple[str, Colour]]:
    """Return the classes with the number of their chips; of too many, those on most chips, in their own order."""
    chips = _chips_of(data.accumulated)
    shown = data.classes
    if len(shown) > _LEGEND_CLASSES:
        frequent = sorted(shown, key=lambda one: -chips.get(one.value, 0))[: _LEGEND_CLASSES - 1]
        shown = tuple(one for one in shown if one in frequent)
    found = []
    for one in shown:
        name = one.name if len(one.name) <= _LEGEND_TEXT else f"{one.name[: _LEGEND_TEXT // 2]}…{one.name[-15:]}"
        number = chips.get(one.value)
        found.append((name if number is None else f"{name}: {number}", colours[one.value]))
    if len(data.classes) > len(shown):
        found.append((f"and {len(data.classes) - len(shown)} more", _BACKGROUND))
    return found


def _chips_of(accumulated: Mapping[str, Any]) -> Dict[int, int]:
    """Return the number of chips of each class value, as the export counted them."""
    counted = accumulated.get("FeatureStats") or accumulated.get("ClassPixelStats") or {}
    values = [int(one["ClassValue"]) for one in accumulated.get("Classes") or ()]
    return dict(zip(values, counted.get("NumImagesPerClass") or ()))
