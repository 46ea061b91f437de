"""Cosine-weighted joining of overlapping tiles, for networks whose context is not known exactly."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Tuple

import numpy as np
import numpy.typing as npt

from ..raster.window import Window, scaled
from .tiles import Span, Tile


@lru_cache(maxsize=64)
def ramp(span: Span, overlap: int, length: int) -> npt.NDArray[np.float32]:
    """Return the weights of a span's pixels: 1 in the middle, falling to 0 over ``overlap`` pixels as sin squared.

    Edges of the grid (0 and ``length``) keep the weight 1, because nothing follows there.
    """
    weights = np.ones(span.size, dtype=np.float32)
    if overlap <= 0:
        return weights
    rise = np.sin(np.pi / 2 * np.clip((np.arange(span.size) + 0.5) / overlap, 0, 1)) ** 2
    if span.start > 0:
        weights *= rise.astype(np.float32)
    if span.stop < length:
        weights *= rise[::-1].astype(np.float32)
    return weights


class Blender:
    """Weighted sums of the scores of one window; memory follows the window, never the raster.

    Args:
        window: pixels to fill.
        channels: number of scores a pixel.
        scale: output pixels per input pixel.
    """

    def __init__(self, window: Window, channels: int, scale: int = 1) -> None:
        self._window, self._scale = window, scale
        self._sums = np.zeros((channels, window.height * scale, window.width * scale), dtype=np.float32)
        self._weights = np.zeros((window.height * scale, window.width * scale), dtype=np.float32)

    def add(self, tile: Tile, scores: npt.NDArray[np.float32], weights: Tuple[Any, Any]) -> None:
        """Add a tile's scores (channels, rows, columns) with the weights of its rows and columns.

        Tiles must come in the order of their index, so that sums are the same whatever the grouping.
        """
        common = tile.window.intersection(self._window)
        if common.is_empty:
            return
        rows, columns = common.slices(tile.window)
        weight = weights[0][rows, None] * weights[1][None, columns]
        if self._scale > 1:
            weight = np.kron(weight, np.ones((self._scale, self._scale), dtype=np.float32))
        into, out = scaled(common.slices(self._window), self._scale), scaled((rows, columns), self._scale)
        self._sums[:, into[0], into[1]] += scores[:, out[0], out[1]] * weight
        self._weights[into] += weight

    def result(self) -> npt.NDArray[np.float32]:
        """Return the weighted means; 0 where no tile was added."""
        weights = np.where(self._weights > 0, self._weights, 1)
        return np.asarray(self._sums / weights, dtype=np.float32)
