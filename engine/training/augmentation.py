"""Samples and what is done to them at random: crops, zoom, flips, quarter turns, and changes of light.

Every function takes the random generator of its sample, so a sample depends on seed, epoch and position alone: the
same training gives the same samples, whatever stopped and resumed it. Colours change before normalisation, in raster
values, because brightness is a factor there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import JobError

IGNORED = -1
# Objects that a crop leaves less than this share of are no longer told from their surroundings.
_LEAST_SHARE = 0.4
_TRIES = 4

Floats = npt.NDArray[np.float32]


@dataclass
class Sample:
    """One training image with everything that is known about it.

    Attributes:
        pixels: (bands, rows, columns) raster values in the chips' type; float32 from the first change on.
        valid: (rows, columns) bool.
        boxes: (n, 4) float32 xmin, ymin, xmax, ymax in pixels.
        labels: (n,) int64, positions in the classes.
        masks: (n, rows, columns) bool, or None.
        targets: (rows, columns) int64, positions in the classes, :data:`IGNORED` where nothing is labelled; or None.
        label: position of the image's class; :data:`IGNORED` if it has none.
        name: of the chip.
    """

    pixels: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    boxes: Floats
    labels: npt.NDArray[np.int64]
    masks: Optional[npt.NDArray[np.bool_]] = None
    targets: Optional[npt.NDArray[np.int64]] = None
    label: int = IGNORED
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class Augmentation:
    """How much samples are changed; zero (for zoom: one) switches a change off.

    Attributes:
        zoom: largest factor of enlargement, and of reduction.
        flip: left to right.
        turn: top to bottom, and quarter turns; not for images with an up and a down.
        brightness, contrast, gamma, saturation: natural logarithms of the largest factor.
        bands: the same for each band alone.
    """

    zoom: float = 1.4
    flip: float = 1.0
    turn: float = 1.0
    brightness: float = 0.25
    contrast: float = 0.25
    gamma: float = 0.35
    saturation: float = 0.35
    bands: float = 0.08


NOTHING = Augmentation(1.0, 0, 0, 0, 0, 0, 0, 0)


def parse(text: str, *, pixel_space: bool = False) -> Augmentation:
    """Return the changes that ``AUGMENTATION`` asks for: DEFAULT, NONE, or ``zoom=1.2;brightness=0.1;turn=0``.

    Args:
        text: as given; what is not named has its default.
        pixel_space: the images have an up and a down (not from above), so by default they are not turned.

    Raises:
        JobError: a name is unknown or a value no number.
    """
    usual = Augmentation(turn=0.0) if pixel_space else Augmentation()
    word = text.strip()
    if word.upper() in ("", "DEFAULT"):
        return usual
    if word.upper() == "NONE":
        return NOTHING
    names = {one.name for one in fields(Augmentation)}
    changes: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in word.split(";"))):
        name, _, value = (piece.strip().lower() for piece in part.partition("="))
        try:
            number = float({"true": "1", "false": "0"}.get(value, value))
        except ValueError:
            number = math.nan
        low, high = (1.0, 4.0) if name == "zoom" else (0.0, 2.0)
        if name not in names or not low <= number <= high:
            raise JobError(
                f"AUGMENTATION has '{part}', which is not understood.",
                stage="checking the training",
                hint=f"Give DEFAULT, NONE, or name=value pairs with the names {', '.join(sorted(names))}.",
            )
        changes[name] = number
    return replace(usual, **changes)


def random_sample(whole: Sample, side: int, changes: Augmentation, white: float, rng: np.random.Generator) -> Sample:
    """Return a crop of ``side`` x ``side`` pixels with random changes.

    Args:
        whole: the chip; not changed.
        side: of the result, in pixels.
        changes: how much.
        white: raster value of white; 0 if values may be negative, when light is no factor.
        rng: of this sample.
    """
    zoom = math.exp(rng.uniform(-1, 1) * math.log(changes.zoom)) if changes.zoom > 1 else 1.0
    extent = max(8, round(side / zoom))
    for _ in range(_TRIES):
        row, column = (_offset(length, extent, rng) for length in whole.size)
        piece = crop(whole, row, column, extent)
        # Most crops shall hold something to learn from; some shall not.
        if _is_labelled(piece) or rng.random() < 0.15:
            break
    piece = resize(replace(piece, pixels=piece.pixels.astype(np.float32)), side)
    if changes.flip and rng.random() < 0.5:
        piece = mirrored(piece)
    if changes.turn:
        for _ in range(int(rng.integers(4))):
            piece = turned(piece)
    return relit(piece, changes, white, rng)


def _offset(length: int, extent: int, rng: np.random.Generator) -> int:
    if length <= extent:
        return -((extent - length) // 2)
    return int(rng.integers(0, length - extent + 1))


def _is_labelled(sample: Sample) -> bool:
    if sample.targets is not None:
        return bool((sample.targets != IGNORED).any())
    return len(sample.boxes) > 0 or sample.label != IGNORED


def central(whole: Sample, side: int) -> Sample:
    """Return the middle of a chip, ``side`` x ``side`` pixels; what the chip lacks has no data."""
    row, column = ((length - side) // 2 for length in whole.size)
    return crop(whole, row, column, side)


def padded(whole: Sample, multiple: int) -> Sample:
    """Return the chip with rows and columns without data below and to the right, up to a multiple."""
    rows, columns = (math.ceil(length / multiple) * multiple for length in whole.size)
    return whole if (rows, columns) == whole.size else crop(whole, 0, 0, rows, columns)


def crop(whole: Sample, row: int, column: int, rows: int, columns: Optional[int] = None) -> Sample:
    """Return a window, which may reach beyond the image; objects are cut at its edges or left out."""
    columns = rows if columns is None else columns
    top, left = max(row, 0), max(column, 0)
    bottom, right = max(top, min(row + rows, whole.size[0])), max(left, min(column + columns, whole.size[1]))
    into = (slice(top - row, bottom - row), slice(left - column, right - column))
    source = (slice(top, bottom), slice(left, right))

    def cut(array: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        result = np.full((*array.shape[:-2], rows, columns), fill, dtype=array.dtype)
        result[(..., *into)] = array[(..., *source)]
        return result

    shift = np.array([column, row, column, row], dtype=np.float32)
    limits = np.array([right - column, bottom - row] * 2, dtype=np.float32)
    boxes = whole.boxes - shift
    inside = np.clip(boxes, np.array([left - column, top - row] * 2, dtype=np.float32), limits)
    keep = _area(inside) > _LEAST_SHARE * _area(boxes)
    masks = None
    if whole.masks is not None:
        masks = cut(whole.masks, 0)
        keep &= masks.any(axis=(1, 2))
        masks = masks[keep]
    return replace(
        whole,
        pixels=cut(whole.pixels, 0),
        valid=cut(whole.valid, 0),
        boxes=inside[keep],
        labels=whole.labels[keep],
        masks=masks,
        targets=None if whole.targets is None else cut(whole.targets, IGNORED),
    )


def _area(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def resize(sample: Sample, side: int) -> Sample:
    """Return the square sample scaled to ``side`` pixels; pixels are averaged, labels are picked."""
    if sample.size == (side, side):
        return sample
    factor = side / sample.size[0]
    # Pillow rather than torch: samples are made beside the training, and torch would start its threads a second time.
    pixels = np.stack(
        [np.asarray(Image.fromarray(band).resize((side, side), Image.Resampling.BILINEAR)) for band in sample.pixels]
    )

    def pick(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        places = np.minimum(((np.arange(side) + 0.5) / factor).astype(np.int64), array.shape[-1] - 1)
        return np.ascontiguousarray(array[..., places[:, None], places[None, :]])

    return replace(
        sample,
        pixels=pixels,
        valid=pick(sample.valid),
        boxes=sample.boxes * np.float32(factor),
        masks=None if sample.masks is None else pick(sample.masks),
        targets=None if sample.targets is None else pick(sample.targets),
    )


def mirrored(sample: Sample) -> Sample:
    """Return the sample with left and right exchanged."""
    width, boxes = sample.size[1], sample.boxes
    swapped = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return _rearranged(sample, swapped, lambda array: array[..., ::-1])


def turned(sample: Sample) -> Sample:
    """Return the sample turned by a quarter, counter-clockwise."""
    width, boxes = sample.size[1], sample.boxes
    rotated = np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], axis=1)
    return _rearranged(sample, rotated, lambda array: np.rot90(array, axes=(-2, -1)))


def _rearranged(sample: Sample, boxes: Floats, change: Any) -> Sample:
    def moved(array: Optional[npt.NDArray[Any]]) -> Any:
        return None if array is None else np.ascontiguousarray(change(array))

    return replace(
        sample,
        pixels=moved(sample.pixels),
        valid=moved(sample.valid),
        boxes=boxes,
        masks=moved(sample.masks),
        targets=moved(sample.targets),
    )


def relit(sample: Sample, changes: Augmentation, white: float, rng: np.random.Generator) -> Sample:
    """Return the sample under other light; factors are e to the power of a uniform number."""
    bands = len(sample.pixels)

    def factor(width: float) -> float:
        return math.exp(rng.uniform(-width, width))

    gamma, light, contrast, colour = (
        factor(width) for width in (changes.gamma, changes.brightness, changes.contrast, changes.saturation)
    )
    each = np.exp(rng.uniform(-changes.bands, changes.bands, (bands, 1, 1))).astype(np.float32)
    if not any((changes.gamma, changes.brightness, changes.contrast, changes.saturation, changes.bands)):
        return sample
    pixels = sample.pixels
    if white > 0:
        pixels = white * np.clip(pixels / white, 0, None) ** np.float32(gamma)
        pixels = pixels * (each * np.float32(light))
    if sample.valid.any():
        middle = pixels[:, sample.valid].mean(axis=1)[:, None, None]
        overall = middle.mean() if white > 0 else middle
        pixels = (pixels - overall) * np.float32(contrast) + overall
    if bands > 1 and white > 0:
        grey = pixels.mean(axis=0, keepdims=True)
        pixels = grey + (pixels - grey) * np.float32(colour)
    if white > 0:
        pixels = np.clip(pixels, 0, white)
    return replace(sample, pixels=np.ascontiguousarray(pixels, dtype=np.float32))
