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
# Columns that lie together in a file.
_CELL = 512


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
        # A file holds one cell of columns after the other, so that a tile is read in few long pieces; each row of a
        # cell holds the pixels of all bands, then a byte of validity for each column.
        self._cells = -(-source.grid.width // _CELL)
        self._pixel_bytes = source.count * _CELL * source.dtype.itemsize
        self._cell_bytes = self._pixel_bytes + _CELL
        self._row_bytes = self._cells * self._cell_bytes
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
        held = np.empty((part.height, self._cell_bytes), np.uint8)
        count, height = len(pixels), min(self._rows, self._grid.height - number * self._rows)
        with self._open(number) as file:
            for cell in range(part.col // _CELL, (part.right - 1) // _CELL + 1):
                file.seek((cell * height + part.row) * self._cell_bytes)
                if file.readinto(held) != held.nbytes:
                    raise RasterError(f"“{file.name}” is shorter than it was written.", stage="reading", file=file.name)
                left, right = max(part.col, cell * _CELL), min(part.right, (cell + 1) * _CELL)
                there, here = slice(left - cell * _CELL, right - cell * _CELL), slice(left - part.col, right - part.col)
                values = held[:, : self._pixel_bytes].view(pixels.dtype).reshape(part.height, count, _CELL)
                pixels[:, :, here] = values[:, :, there].transpose(1, 0, 2)
                valid[:, here] = held[:, self._pixel_bytes :][:, there]

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
                with output_errors(path):
                    for cell in range(self._cells):
                        file.seek((cell * (bottom - top) + window.row - top) * self._cell_bytes)
                        file.write(self._packed(pixels, valid, slice(cell * _CELL, (cell + 1) * _CELL)).data)
        os.replace(part, path)
        self._own.add(number)

    def _packed(self, pixels: Pixels, valid: Mask, columns: slice) -> npt.NDArray[np.uint8]:
        """Return the rows of a cell as they lie in the file."""
        rows = np.zeros((len(valid), self._cell_bytes), np.uint8)
        values = rows[:, : self._pixel_bytes].view(pixels.dtype).reshape(len(valid), len(pixels), _CELL)
        part = pixels[:, :, columns]
        values[:, :, : part.shape[2]] = part.transpose(1, 0, 2)
        rows[:, self._pixel_bytes :][:, : part.shape[2]] = valid[:, columns]
        return rows

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
