"""Rasters that are stored in rows as wide as themselves: each row is decoded once, however narrow the tiles are.

Rows as wide as the raster cannot be held in memory for a tile's height, and decoding them for each tile anew would
cost more than the network. So they are decoded in bands of rows into files, out of which tiles are cut. A worker keeps
the bands that it may need again, and no more.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Set, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import RasterError, SourceLostError
from ..jobs import RasterInput
from ..raster.output import output_errors
from ..raster.source import RasterSource
from ..raster.window import Window

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
# Bytes of a file, and of the rows that are decoded at a time.
_BAND, _CHUNK = 64 * 2**20, 4 * 2**20


def is_in_rows(block: Tuple[int, int]) -> bool:
    """Return whether a file with such blocks (rows, columns) is stored in rows rather than in tiles."""
    return block[0] * 4 < block[1]


class BandSource:
    """A source of which windows are read through files that hold all columns of some rows.

    Args:
        source: what is decoded.
        folder: of the files; may not exist yet. Those of other workers are used if they are there.
    """

    def __init__(self, source: RasterSource, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._grid = source.grid
        width, size = source.grid.width, source.dtype.itemsize
        # A row of a file: each band's pixels, then a byte of validity for each column.
        self._pixel_bytes = source.count * width * size
        self._row_bytes = self._pixel_bytes + width
        step = source.block_shape[0]
        self._rows = max(step, _BAND // self._row_bytes // step * step)
        self._chunk = max(step, _CHUNK // self._row_bytes // step * step)
        self._own: Set[int] = set()

    @property
    def used(self) -> Set[RasterInput]:
        """Inputs that were read from."""
        return self._source.used

    def read(self, window: Window) -> Tuple[Pixels, Mask]:
        """Return (bands, rows, columns) pixels and validity of a window that may reach outside.

        Raises:
            RasterError: the window itself cannot be read.
        """
        try:
            return self._read(window)
        except SourceLostError:
            raise
        except RasterError:
            # One damaged row must not take its whole band away.
            return self._source.read(window)

    def _read(self, window: Window) -> Tuple[Pixels, Mask]:
        pixels = np.zeros((self._source.count, window.height, window.width), self._source.dtype)
        valid = np.zeros((window.height, window.width), bool)
        inside = window.intersection(self._grid.window)
        if inside.is_empty:
            return pixels, valid
        first, last = inside.row // self._rows, (inside.bottom - 1) // self._rows
        self._forget({one for one in self._own if one < first})
        for number in range(first, last + 1):
            top = number * self._rows
            part = inside.intersection(Window(0, top, self._grid.width, self._rows))
            rows, columns = part.slices(window)
            self._copy(number, part.shifted(0, -top), pixels[:, rows, columns], valid[rows, columns])
        return pixels, valid

    def _copy(self, number: int, part: Window, pixels: Pixels, valid: Mask) -> None:
        """Copy ``part`` of a band (rows counted from its top)."""
        size = pixels.itemsize
        line = np.empty(part.width, pixels.dtype)
        flags = np.empty(part.width, bool)
        with self._open(number) as file:
            for row in range(part.height):
                start = (part.row + row) * self._row_bytes
                for band in range(len(pixels)):
                    file.seek(start + (band * self._grid.width + part.col) * size)
                    file.readinto(line)
                    pixels[band, row] = line
                file.seek(start + self._pixel_bytes + part.col)
                file.readinto(flags)
                valid[row] = flags

    def _open(self, number: int) -> Any:
        path = self._path(number)
        with contextlib.suppress(FileNotFoundError):
            return path.open("rb", buffering=0)
        self._decode(number, path)
        return path.open("rb", buffering=0)

    def _decode(self, number: int, path: Path) -> None:
        top = number * self._rows
        bottom = min(top + self._rows, self._grid.height)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        width, most = self._grid.width, self._chunk
        chunks = [Window(0, row, width, min(most, bottom - row)) for row in range(top, bottom, most)]
        with contextlib.ExitStack() as stack:
            with output_errors(path):
                self._folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(part.open("wb"))
            for window in chunks:
                pixels, valid = self._source.read(window)
                rows = np.empty((window.height, self._row_bytes), np.uint8)
                rows[:, : self._pixel_bytes] = (
                    np.ascontiguousarray(pixels.transpose(1, 0, 2)).view(np.uint8).reshape(window.height, -1)
                )
                rows[:, self._pixel_bytes :] = valid
                with output_errors(path):
                    file.write(rows)
        os.replace(part, path)
        self._own.add(number)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.rows"

    def _forget(self, numbers: Set[int]) -> None:
        for number in numbers:
            self._own.discard(number)
            with contextlib.suppress(OSError):
                self._path(number).unlink()

    def close(self) -> None:
        """Close the source and remove the files that this worker made."""
        self._forget(set(self._own))
        self._source.close()
