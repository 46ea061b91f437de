"""Where chips lie: the sliding window, its rotations, chips around objects, and the blocks in which they are cut.

A block is what one task does: neighbouring chips that share decoded blocks of the raster, small enough to be read at
once. Chips are numbered by ``candidate``: windows from left to right and top to bottom, each followed by its rotations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import shapely

from ..raster.window import Window
from . import rules
from .objects import ChipFrame, Objects, turned

_BLOCK_SIDE = 2048
_BLOCK_CHIPS = 64
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Layout:
    """The chips of one processing grid.

    Attributes:
        grid: all pixels of the grid.
        tile: width and height of a chip in pixels.
        stride: step between chips, columns and rows.
        angles: rotations in degrees; the first is 0.
    """

    grid: Window
    tile: Tuple[int, int]
    stride: Tuple[int, int]
    angles: Tuple[float, ...] = (0.0,)

    @property
    def shape(self) -> Tuple[int, int]:
        """Columns and rows of windows: as many as it takes to reach the far edges."""
        columns = max(0, math.ceil((self.grid.width - self.tile[0]) / self.stride[0])) + 1
        rows = max(0, math.ceil((self.grid.height - self.tile[1]) / self.stride[1])) + 1
        return columns, rows

    @property
    def margin(self) -> int:
        """Pixels by which a turned chip may reach beyond its window."""
        if len(self.angles) == 1:
            return 0
        return math.ceil((math.hypot(*self.tile) - min(self.tile)) / 2) + 1

    def blocks(self, bytes_per_pixel: int) -> Iterator[Tuple[int, int, int, int]]:
        """Yield ranges of windows (first column, end, first row, end), row by row."""
        columns, rows = self.shape
        across, down = (self._per_block(side, bytes_per_pixel) for side in (0, 1))
        while across * down * len(self.angles) > _BLOCK_CHIPS and down > 1:
            down -= 1
        for row in range(0, rows, down):
            for column in range(0, columns, across):
                yield column, min(column + across, columns), row, min(row + down, rows)

    def _per_block(self, side: int, bytes_per_pixel: int) -> int:
        limit = min(_BLOCK_SIDE, math.isqrt(BLOCK_BYTES // max(1, bytes_per_pixel)))
        return max(1, min(16, (limit - self.tile[side]) // self.stride[side] + 1))

    def block_window(self, block: Tuple[int, int, int, int]) -> Window:
        """Return the pixels that the chips of a block may touch."""
        left, right, top, bottom = block
        width = (right - 1 - left) * self.stride[0] + self.tile[0]
        height = (bottom - 1 - top) * self.stride[1] + self.tile[1]
        return Window(left * self.stride[0], top * self.stride[1], width, height).expanded(self.margin)

    def frames(self, block: Tuple[int, int, int, int]) -> List[ChipFrame]:
        """Return the chips of a block in the order of their numbers."""
        left, right, top, bottom = block
        columns, _ = self.shape
        found = []
        for row in range(top, bottom):
            for column in range(left, right):
                window = Window(column * self.stride[0], row * self.stride[1], *self.tile)
                number = (row * columns + column) * len(self.angles)
                for turn, angle in enumerate(self.angles):
                    found.append(ChipFrame(number + turn, *self.tile, turned(window, angle), turn))
        return found

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members."""
        size = [self.grid.width, self.grid.height]
        return {"grid": size, "tile": self.tile, "stride": self.stride, "angles": self.angles}

    @classmethod
    def from_dict(cls, members: Dict[str, Any]) -> Layout:
        """Read what :meth:`to_dict` returns."""
        width, height = members["grid"]
        tile, stride = members["tile"], members["stride"]
        return cls(Window(0, 0, width, height), (tile[0], tile[1]), (stride[0], stride[1]), tuple(members["angles"]))


def angles_of(rotation: float) -> Tuple[float, ...]:
    """Return 0 and every multiple of ``rotation`` below 360 degrees."""
    if rotation <= 0:
        return (0.0,)
    return tuple(step * rotation for step in range(math.ceil(360 / rotation - 1e-9)))


def object_windows(objects: Objects, layout: Layout, crop_mode: str) -> List[Window]:
    """Return the window of each object: of the tile's size about its centre, or the pixels that its box touches."""
    bounds = np.asarray(shapely.bounds(objects.geometries)).reshape(-1, 4)
    windows = []
    for xmin, ymin, xmax, ymax in bounds.tolist():
        if crop_mode == rules.BOUNDING_BOX:
            col, row = math.floor(xmin + 1e-6), math.floor(ymin + 1e-6)
            box = Window(col, row, max(1, math.ceil(xmax - 1e-6) - col), max(1, math.ceil(ymax - 1e-6) - row))
            windows.append(box.intersection(layout.grid))
            continue
        width, height = layout.tile
        windows.append(
            Window(
                math.floor((xmin + xmax - width) / 2 + 0.5), math.floor((ymin + ymax - height) / 2 + 0.5), width, height
            )
        )
    return windows


def object_frames(objects: Objects, layout: Layout, crop_mode: str) -> List[Tuple[int, ChipFrame]]:
    """Return (position of the object, chip) for every object and rotation; numbers follow the feature ids."""
    found = []
    turns = len(layout.angles)
    for index, window in enumerate(object_windows(objects, layout, crop_mode)):
        if window.is_empty:
            continue
        number = int(objects.fids[index]) * turns
        for turn, angle in enumerate(layout.angles):
            frame = ChipFrame(number + turn, window.width, window.height, turned(window, angle), turn)
            found.append((index, frame))
    return found
