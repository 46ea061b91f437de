"""Which pixels hold data, judged by their values alone; pure numpy.

A nodata value that could be a measurement (not negative, in an integer raster) makes a pixel invalid only where all
bands hold it, because a black pixel of an image is often 0 in one band and data in the others; any other nodata value
makes it invalid where one band holds it.
"""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def finite_data(pixels: Pixels, nodata: Sequence[Optional[float]]) -> Mask:
    """Return where ``pixels`` (bands, rows, columns) hold data, by value; ``nodata`` has one value per band."""
    valid = np.ones(pixels.shape[1:], dtype=bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    known = [(band, float(value)) for band, value in zip(pixels, nodata) if value is not None and math.isfinite(value)]
    if not known:
        return valid
    holds = [_equals(band, value) for band, value in known]
    measurable = pixels.dtype.kind in "ui" and all(value >= 0 for _, value in known)
    if measurable and len(known) == len(pixels):
        return np.asarray(valid & ~np.logical_and.reduce(holds))
    if measurable:
        return valid
    return np.asarray(valid & ~np.logical_or.reduce(holds))


def _equals(band: Pixels, value: float) -> Mask:
    if band.dtype.kind in "ui":
        limits = np.iinfo(band.dtype)
        if not value.is_integer() or not limits.min <= value <= limits.max:
            return np.zeros(band.shape, dtype=bool)
        return np.asarray(band == band.dtype.type(int(value)))
    return np.asarray(band == band.dtype.type(value))
