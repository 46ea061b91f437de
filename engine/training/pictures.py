"""Pictures of samples for the report: what is there beside what the network says. PNG through Pillow."""

from __future__ import annotations

import base64
import io
from typing import Any, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from .augmentation import IGNORED, Sample

Picture = npt.NDArray[np.uint8]

# For classes without a colour of their own; told apart by people who see fewer colours as well (Okabe and Ito 2008).
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_LOWEST_SCORE = 0.3
_LARGEST = 384


def colors(given: Sequence[tuple[int, int, int] | None]) -> list[tuple[int, int, int]]:
    """Return one colour per class."""
    return [one if one is not None else PALETTE[place % len(PALETTE)] for place, one in enumerate(given)]


def photo(pixels: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Picture:
    """Return (rows, columns, 3) of the first three bands (one: grey), stretched between the 2nd and 98th percentile."""
    shown = pixels[:3] if len(pixels) >= 3 else np.repeat(pixels[:1], 3, axis=0)
    result = np.zeros((*valid.shape, 3), dtype=np.uint8)
    if valid.any():
        low, high = np.percentile(shown[:, valid], (2, 98), axis=1)
        scaled = (shown - low[:, None, None]) / np.maximum(high - low, 1e-9)[:, None, None]
        result[:] = (np.clip(scaled, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        result[~valid] = 0
    return result


def truth_and_prediction(
    sample: Sample, found: Mapping[str, npt.NDArray[Any]], palette: Sequence[tuple[int, int, int]]
) -> Picture:
    """Return both pictures of a sample side by side: left what is labelled, right what the network says."""
    ground = photo(sample.pixels, sample.valid)
    left, right = ground.copy(), ground.copy()
    if sample.targets is not None:
        left = _painted(left, sample.targets, palette)
        right = _painted(right, found["classes"], palette)
    elif "boxes" in found:
        _draw_boxes(left, sample.boxes, sample.labels, palette)
        good = found["scores"] >= min(_LOWEST_SCORE, float(found["scores"].max(initial=0)))
        _draw_boxes(right, found["boxes"][good], found["labels"][good], palette)
    else:
        _frame(left, palette[sample.label])
        _frame(right, palette[int(found["label"])])
    gap = np.full((ground.shape[0], 6, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _painted(ground: Picture, places: npt.NDArray[np.int64], palette: Sequence[tuple[int, int, int]]) -> Picture:
    table = np.array([*palette, (0, 0, 0)], dtype=np.float32)
    mixed = (ground * 0.45 + table[places] * 0.55).astype(np.uint8)
    return np.where((places == IGNORED)[..., None], ground, mixed)


def _draw_boxes(
    ground: Picture,
    boxes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    palette: Sequence[tuple[int, int, int]],
) -> None:
    rows, columns = ground.shape[:2]
    for box, label in zip(boxes, labels, strict=True):
        x0, y0, x1, y1 = (round(float(one)) for one in box)
        x0, x1 = max(0, min(x0, columns - 1)), max(0, min(x1 - 1, columns - 1))
        y0, y1 = max(0, min(y0, rows - 1)), max(0, min(y1 - 1, rows - 1))
        color = palette[int(label)]
        ground[y0 : y1 + 1, [x0, x1]] = color
        ground[[y0, y1], x0 : x1 + 1] = color


def _frame(ground: Picture, color: tuple[int, int, int]) -> None:
    wide = max(2, min(ground.shape[:2]) // 16)
    ground[:wide], ground[-wide:], ground[:, :wide], ground[:, -wide:] = color, color, color, color


def stacked(pictures: Sequence[Picture]) -> bytes:
    """Return one PNG with the pictures below each other."""
    width = max(one.shape[1] for one in pictures)
    rows = []
    for one in pictures:
        page = np.full((one.shape[0] + 6, width, 3), 255, dtype=np.uint8)
        page[: one.shape[0], : one.shape[1]] = one
        rows.append(page)
    image = Image.fromarray(np.concatenate(rows))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def small(picture: Picture) -> Picture:
    """Return the picture at a size that suits a page."""
    factor = max(1, -(-picture.shape[0] // _LARGEST))
    return np.ascontiguousarray(picture[::factor, ::factor])


def data_url(png: bytes) -> str:
    """Return the picture as text for a page that stands alone."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
