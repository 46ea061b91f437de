"""Pixels of chips: read once per block where chips are dense, one by one where they are sparse, turned where asked."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..raster.source import RasterSource
from ..raster.window import Window, around
from .layout import BLOCK_BYTES
from .objects import ChipFrame

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
# Below this share of the pixels around all chips, reading chip by chip decodes less.
_DENSE = 0.5


class BlockPixels:
    """The pixels of one source for the chips of a block."""

    def __init__(self, source: RasterSource, frames: Sequence[ChipFrame]) -> None:
        self._source = source
        self._window: Optional[Window] = None
        windows = [one.window for one in frames]
        if len(windows) > 1:
            whole = around(windows)
            size = whole.width * whole.height
            wanted = sum(one.width * one.height for one in windows)
            fits = size * source.count * source.dtype.itemsize <= 2 * BLOCK_BYTES
            if fits and wanted >= _DENSE * size:
                self._window = whole
                self._pixels, self._valid = source.read(whole)

    def chip(self, frame: ChipFrame) -> Tuple[Pixels, Mask]:
        """Return (bands, rows, columns) and (rows, columns) of a chip; they may be views of the block."""
        window = frame.window
        pixels, valid = self._read(window)
        if frame.is_shift:
            return pixels, valid
        return _turned(frame, window, pixels, valid)

    def _read(self, window: Window) -> Tuple[Pixels, Mask]:
        if self._window is None:
            return self._source.read(window)
        rows, columns = window.slices(self._window)
        return self._pixels[:, rows, columns], self._valid[rows, columns]


def _turned(frame: ChipFrame, window: Window, pixels: Pixels, valid: Mask) -> Tuple[Pixels, Mask]:
    """Return the nearest pixel of ``window`` under the centre of each pixel of the chip."""
    x, y = np.meshgrid(np.arange(frame.width) + 0.5, np.arange(frame.height) + 0.5)
    one = frame.placement
    # Centres that fall on an edge between pixels, as those of quarter turns may, must not waver with rounding.
    column = np.floor(one.a * x + one.b * y + one.c - window.col + 1e-9).astype(np.int64)
    row = np.floor(one.d * x + one.e * y + one.f - window.row + 1e-9).astype(np.int64)
    column, row = column.clip(0, window.width - 1), row.clip(0, window.height - 1)
    return pixels[:, row, column], valid[row, column]
