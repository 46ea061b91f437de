"""How far a pixel network looks, measured from outside: change a block of the input and see where the answer changes.

For networks whose own adapter cannot tell. With the right halo, tiles give the very pixels of one pass over the image.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Predict = Callable[[Array, Array], Array]
_TRIALS = 3


def receptive_field_halo(
    predict: Predict, bands: int, dtype: npt.DTypeLike, multiple: int = 1, limit: int = 96, high: float = 255.0
) -> Optional[int]:
    """Return the halo (a multiple of ``multiple``) that covers the network's receptive field; None above ``limit``.

    Networks that look everywhere (global pooling, attention), or whose grid follows the size of the image, show
    themselves when a cut of the image is compared with the whole, and give None.

    Args:
        predict: (1, bands, rows, columns) pixels and (1, rows, columns) validity to (1, channels, rows, columns).
        bands: bands of the input.
        dtype: type of its pixels.
        multiple: the network's stride; tiles start at multiples of it.
        limit: largest halo of interest, in pixels.
        high: pixel values of the trial images lie between 0 and this.
    """
    unit = max(multiple, 1)
    reach = max(limit // unit, 1)
    side, start = (2 * reach + 3) * unit, (reach + 1) * unit
    random = np.random.default_rng(0)
    touched = np.zeros((side, side), bool)
    image = _image(random, bands, side, high, dtype)
    whole = _answer(predict, image)
    if whole is None:
        return None
    for _ in range(_TRIALS):
        # Saturated answers hide small changes, so several strong ones are tried.
        changed = image.copy()
        block = (slice(None), slice(None), slice(start, start + unit), slice(start, start + unit))
        changed[block] = _image(random, bands, unit, high, dtype)
        other = _answer(predict, changed)
        if other is None:
            return None
        touched |= (whole != other).any(axis=(0, 1))
    halo = _blocks(touched, start, unit)
    if halo is None or halo > reach * unit or not _is_seamless(predict, image, whole, halo, unit):
        return None
    return halo


def _image(generator: np.random.Generator, bands: int, side: int, high: float, dtype: npt.DTypeLike) -> Array:
    return generator.uniform(0, high, (1, bands, side, side)).astype(dtype)


def _answer(predict: Predict, image: Array) -> Optional[Array]:
    """Return the answer to a valid image; None if it is not of the image's size."""
    answer = predict(image, np.ones((1, *image.shape[2:]), bool))
    return answer if answer.shape[2:] == image.shape[2:] else None


def _blocks(touched: Array, start: int, unit: int) -> Optional[int]:
    rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
    if not len(rows):
        return None
    first, last = min(rows[0], columns[0]), max(rows[-1], columns[-1])
    if first == 0 or last == len(touched) - 1:
        return None
    pixels = max(start - int(first), int(last) - (start + unit - 1), 0)
    return -(-pixels // unit) * unit


def _is_seamless(predict: Predict, image: Array, whole: Array, halo: int, unit: int) -> bool:
    cut = _answer(predict, np.ascontiguousarray(image[:, :, unit:, unit:]))
    if cut is None:
        return False
    begin = unit + halo
    scale = max(1e-6, float(np.abs(whole).max()))
    return bool(np.allclose(cut[:, :, halo:, halo:], whole[:, :, begin:, begin:], rtol=1e-4, atol=1e-4 * scale))
