"""The arrays of one group of a pixel job: classes or values, confidence and probabilities, with nodata kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ..raster.grid import Grid
from ..raster.window import Window, scaled
from .plan import Plan
from .planning import class_dtype
from .tiles import Tile

if TYPE_CHECKING:
    from ..raster.vector import MaskArea

Array = npt.NDArray[Any]
# Stored byte of a probability of 1; 255 means no data.
FULL_SCORE = 250
SCORE_NODATA = 255


class PixelOutput:
    """The arrays of one group of a pixel job: classes or values, confidence and probabilities."""

    def __init__(self, plan: Plan, job: Any, grid: Grid, mask: Optional[MaskArea], window: Window) -> None:
        self._job, self._grid, self._mask, self._window = job, grid, mask, window
        self._scale, self._values, self._blend = plan.tiles.scale, plan.values, plan.blend
        self._dtype, self._nodata = class_dtype(self._values)
        self._shape = (window.height * self._scale, window.width * self._scale)
        self._arrays: Dict[str, Array] = {}
        self._seen = np.zeros((window.height, window.width), bool)

    @property
    def filled(self) -> bool:
        """Whether any pixel with data was seen."""
        return bool(self._seen.any())

    def see(self, tile: Tile, valid: Array) -> None:
        """Note which pixels of a tile hold data and are inside the mask."""
        part = (tile.window if self._blend else tile.inner).intersection(self._window)
        if part.is_empty:
            return
        data = valid[part.slices(tile.window)]
        if self._mask is not None:
            data = data & self._mask.rasterize(part, self._grid)
        self._seen[part.slices(self._window)] |= data

    def put(self, window: Window, scores: Array) -> None:
        """Set the pixels of ``window`` from scores (channels, rows, columns), already at the output's scale."""
        rows, columns = scaled(window.slices(self._window), self._scale)
        if self._values is None:
            self._array("classes", scores.shape[0])[:, rows, columns] = scores
            return
        index, best = best_channel(scores)
        self._array("classes", 1)[0, rows, columns] = np.asarray(self._values, self._dtype).take(index)
        if getattr(self._job, "confidence_output", ""):
            self._array("confidence", 1)[0, rows, columns] = as_bytes(best)
        if getattr(self._job, "probabilities_output", ""):
            self._array("probabilities", scores.shape[0])[:, rows, columns] = as_bytes(scores)

    def _array(self, name: str, bands: int) -> Array:
        if name not in self._arrays:
            dtype, nodata = (self._dtype, self._nodata) if name == "classes" else (np.dtype(np.uint8), SCORE_NODATA)
            self._arrays[name] = np.full((bands, *self._shape), nodata, dtype)
        return self._arrays[name]

    def masked(self) -> Dict[str, Array]:
        """Return the arrays with nodata where no data was seen."""
        hidden = ~self._seen
        if self._scale > 1:
            hidden = hidden.repeat(self._scale, 0).repeat(self._scale, 1)
        for name, array in self._arrays.items():
            array[:, hidden] = self._nodata if name == "classes" else SCORE_NODATA
        return self._arrays


def best_channel(scores: Array) -> Tuple[Array, Array]:
    """Return (position, score) of each pixel's best channel; of equals the first. Ten times faster than argmax."""
    if scores.shape[0] == 1:
        return np.zeros(scores.shape[1:], np.intp), scores[0]
    best, index = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8 if scores.shape[0] <= 256 else np.uint16)
    for channel in range(1, scores.shape[0]):
        # Later channels have larger numbers, so the maximum is the last one that was better: no branch, no mask.
        np.maximum(index, np.multiply(scores[channel] > best, channel, dtype=index.dtype), out=index)
        np.maximum(best, scores[channel], out=best)
    return index, best


def as_bytes(scores: Array) -> Array:
    """Return probabilities 0..1 as bytes 0..:data:`FULL_SCORE`."""
    stored: Array = np.rint(np.clip(np.nan_to_num(scores), 0, 1) * FULL_SCORE).astype(np.uint8)
    return stored
