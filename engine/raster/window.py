"""Rectangles of pixels as small immutable values; pure integer arithmetic, no file and no array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional, Sequence, Tuple


@dataclass(frozen=True, order=True)
class Window:
    """Pixels ``col .. col + width - 1`` by ``row .. row + height - 1`` of a grid; may reach beyond it."""

    col: int
    row: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column to the right of the window."""
        return self.col + self.width

    @property
    def bottom(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def is_empty(self) -> bool:
        """Whether no pixel lies in the window."""
        return self.width <= 0 or self.height <= 0

    def expanded(self, left: int, top: Optional[int] = None) -> Window:
        """Return the window grown by ``left`` columns on both sides and ``top`` rows (default: the same)."""
        top = left if top is None else top
        return Window(self.col - left, self.row - top, self.width + 2 * left, self.height + 2 * top)

    def intersection(self, other: Window) -> Window:
        """Return the common pixels; an empty window (width and height 0) if there are none."""
        col, row = max(self.col, other.col), max(self.row, other.row)
        width, height = min(self.right, other.right) - col, min(self.bottom, other.bottom) - row
        return Window(col, row, width, height) if width > 0 and height > 0 else Window(col, row, 0, 0)

    def shifted(self, col: int, row: int) -> Window:
        """Return the window moved by ``col`` columns and ``row`` rows."""
        return Window(self.col + col, self.row + row, self.width, self.height)

    def slices(self, origin: Optional[Window] = None) -> Tuple[slice, slice]:
        """Return (rows, columns) slices into an array whose pixel (0, 0) is ``origin``'s (default: the grid's)."""
        col, row = (origin.col, origin.row) if origin else (0, 0)
        return slice(self.row - row, self.bottom - row), slice(self.col - col, self.right - col)


def around(windows: Sequence[Window]) -> Window:
    """Return the smallest window that holds all ``windows``, of which there must be one at least."""
    col, row = min(one.col for one in windows), min(one.row for one in windows)
    right, bottom = max(one.right for one in windows), max(one.bottom for one in windows)
    return Window(col, row, right - col, bottom - row)


def split(whole: Window, width: int, height: int) -> Iterator[Window]:
    """Cut ``whole`` into windows of at most ``width`` x ``height`` pixels, row by row; they partition it."""
    for row in range(whole.row, whole.bottom, height):
        for col in range(whole.col, whole.right, width):
            yield Window(col, row, min(width, whole.right - col), min(height, whole.bottom - row))


def scaled(slices: Tuple[slice, slice], factor: int) -> Tuple[slice, slice]:
    """Return (rows, columns) slices into an array with ``factor`` times as many pixels on each side."""
    rows, columns = slices
    return slice(rows.start * factor, rows.stop * factor), slice(columns.start * factor, columns.stop * factor)
