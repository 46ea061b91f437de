"""The boundaries between the regions of a strip of rows: their edges, and how edges join.

Each boundary runs along pixel edges with its region to the right, as a ring of horizontal edges from corner to corner,
joined by vertical ones. On one line, edges that run in one direction never overlap, so the k-th that begins is the k-th
that ends: listing the corners row by row pairs the ends of all horizontal edges, listing them column by column those of
the vertical ones. Regions are 4-connected.
"""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Members of an edge: columns where it begins and where it ends, line, and flags.
MEMBERS = 4
# Flags of an edge: its region may meet itself at the corner where the edge begins, or ends.
BEGINS_TOUCHING, ENDS_TOUCHING = 1, 2
# A corner's code tells which of the four pixel edges at it part two values: above, below, left and right of it.
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
# Codes of the places where vertical edges come from the strip before, and go on to the next.
_TOP, _BOTTOM = 16, 17
_CROSSING = _UP | _DOWN | _LEFT | _RIGHT


def _codes(convex: int, notch: int = 0, port: int = -1) -> Array:
    """Return a table of codes: both edges of ``convex`` (a region fills one quadrant), or exactly ``notch``, or a port.

    A notch is a corner at which a region fills all quadrants but one.
    """
    answer = np.zeros(18, bool)
    answer[:16] = [(convex and code & convex == convex) or (notch and code == notch) for code in range(16)]
    answer[port] |= port >= 0
    return answer


# Where edges to the east and to the west begin, and where they end. Regions lie to the right of the way: below edges
# to the east, on the west side of edges to the south.
_HORIZONTAL = (
    (_codes(_DOWN | _RIGHT, _UP | _RIGHT), _codes(_UP | _LEFT, _DOWN | _LEFT)),
    (_codes(_DOWN | _LEFT, _UP | _LEFT), _codes(_UP | _RIGHT, _DOWN | _RIGHT)),
)
_SOUTH_OUT, _SOUTH_IN = _codes(_DOWN | _LEFT, _DOWN | _RIGHT, _TOP), _codes(_UP | _LEFT, _UP | _RIGHT, _BOTTOM)
_NORTH_OUT, _NORTH_IN = _codes(_UP | _RIGHT, _UP | _LEFT, _BOTTOM), _codes(_DOWN | _RIGHT, _DOWN | _LEFT, _TOP)
# Where the way turns: at the end of an edge to the east or west to the south (or north), after one to the south or
# north to the east (or west).
_EAST_TO_SOUTH, _WEST_TO_SOUTH = _codes(_DOWN | _LEFT), _codes(0, _DOWN | _RIGHT)
_SOUTH_TO_EAST, _NORTH_TO_EAST = _codes(0, _UP | _RIGHT), _codes(_DOWN | _RIGHT)


class StripEdges:
    """The edges of one strip.

    Elements of a boundary are the strip's edges, numbered from 0, and after them the open chains of the strip above,
    each of which comes up into that strip at one place and goes down again, into this one, at another.

    Args:
        padded: the strip's rows (rows, columns) with the row above and a frame of ``outside`` left and right.
        outside: value of pixels that belong to no region.
        line: number of the line at the top of the strip.
    """

    def __init__(self, padded: Array, outside: float, line: int) -> None:
        self._stride, self._pixels, self._outside = padded.shape[1], padded.ravel(), outside
        self._height, self._line = len(padded) - 1, line
        self._across, self._along = self._changes()
        self._code = np.empty(0, np.uint8)

    def _changes(self) -> Tuple[Array, Array]:
        """Return where a pixel differs from the one to its left, and (but the first row) from the one above."""
        across = np.zeros(self._pixels.size, bool)
        np.not_equal(self._pixels[1:], self._pixels[:-1], out=across[1:])
        along = np.zeros(self._pixels.size - self._stride + 1, bool)
        np.not_equal(self._pixels[self._stride :], self._pixels[: -self._stride], out=along[1:])
        return across, along

    def corners(self) -> Array:
        """Return where the edges turn or meet: positions of the pixel above right of each corner, row by row."""
        up, down = self._across[: -self._stride], self._across[self._stride :]
        left, right = self._along[:-1], self._along[1:]
        corner = up ^ down
        corner |= left ^ right
        corner |= up & left
        return np.flatnonzero(corner)

    def join(self, spots: Array) -> None:
        """Find the edges between the corners ``spots`` (of :meth:`corners`)."""
        stride, across, along = self._stride, self._across.view(np.uint8), self._along.view(np.uint8)
        code = across[spots] | across[spots + stride] << 1 | along[spots] << 2 | along[spots + 1] << 3
        self._entries = np.flatnonzero(across[:stride])
        self.exits = np.flatnonzero(across[-stride:])
        self._spots, self._first = spots, len(self._entries)
        self._code = np.concatenate(
            [np.full(len(self._entries), _TOP, np.uint8), code, np.full(len(self.exits), _BOTTOM, np.uint8)]
        )
        self._rows, columns = np.divmod(spots, stride)
        self._columns = np.concatenate([self._entries, columns, self.exits])
        self._horizontal()
        self._vertical()

    def _horizontal(self) -> None:
        code = self._code
        begins, ends = ([np.flatnonzero(one[code]) for one in pair] for pair in _HORIZONTAL)
        self._easts = len(begins[0])
        self._begin, self._end = np.concatenate(begins), np.concatenate(ends)
        east = np.arange(len(self._begin)) < self._easts
        spots = self._spots[self._begin - self._first]
        # The region is below an edge to the east, and above one to the west.
        self.values = self._pixels[np.where(east, spots + self._stride, spots - 1)]
        turns = self._code[self._end]
        self._south = np.where(east, _EAST_TO_SOUTH[turns], _WEST_TO_SOUTH[turns])

    def _vertical(self) -> None:
        narrow = np.uint16 if self._stride < 1 << 16 else np.int64
        order = np.argsort(self._columns.astype(narrow), kind="stable")
        code = self._code[order]
        self._south_out, self._south_in = order[_SOUTH_OUT[code]], order[_SOUTH_IN[code]]
        self._north_out, self._north_in = order[_NORTH_OUT[code]], order[_NORTH_IN[code]]

    @property
    def inside(self) -> Array:
        """Which edges bound a region at all."""
        answer: Array = self.values != self._outside
        return answer

    def links(self, heads: Array, tails: Array) -> Tuple[Array, Array, Array]:
        """Join all elements.

        Args:
            heads: columns where the open chains come up into the strip above.
            tails: columns where they come down again.

        Returns:
            The element that follows each element, or -1 - i at the i-th of :attr:`exits`; which of the exits begin an
            open chain, and the first element of each of those.
        """
        edges, code = len(self._begin), self._code
        begins_east, begins_west = np.zeros((2, len(code)), np.int64)
        begins_east[self._begin[: self._easts]] = np.arange(self._easts)
        begins_west[self._begin[self._easts :]] = np.arange(self._easts, edges)
        into = self._south_in
        element = np.where(_SOUTH_TO_EAST[code[into]], begins_east[into], begins_west[into])
        last = self._first + len(self._spots)
        leaving = into >= last
        element[leaving] = last - 1 - into[leaving]
        after_south = np.zeros(len(code), np.int64)
        after_south[self._south_out] = element
        into = self._north_in
        self._north = np.where(_NORTH_TO_EAST[code[into]], begins_east[into], begins_west[into])
        chain = np.zeros(len(self._entries), np.int64)
        chain[np.searchsorted(self._entries, heads)] = edges + np.arange(len(heads))
        entering = into < self._first
        self._north[entering] = chain[into[entering]]
        after_north = np.zeros(len(code), np.int64)
        after_north[self._north_out] = self._north
        following = np.where(self._south, after_south[self._end], after_north[self._end])
        following = np.concatenate([following, after_south[np.searchsorted(self._entries, tails)]])
        bounding = np.flatnonzero(self.leaving(np.arange(len(self.exits))) != self._outside)
        return following, bounding, after_north[last + bounding]

    def leaving(self, exits: Array) -> Array:
        """Return the pixel values of the regions whose boundaries come up at ``exits``."""
        values: Array = self._pixels[self.exits[exits] - self._stride]
        return values

    def across_runs(self, edges: Array) -> Tuple[Array, Array]:
        """Return (edges, elements) that bound the same run of pixels of a row, from the right and from the left.

        Args:
            edges: candidates; those that do not turn south at their end are left out.
        """
        edges = edges[self._south[edges]]
        verticals = np.flatnonzero(self._across[self._stride :])
        spots = self._spots[self._end[edges] - self._first]
        left = verticals[np.searchsorted(verticals, spots) - 1]
        rows, columns = np.divmod(left, self._stride)
        into = self._north_in
        corner = (into >= self._first) & (into < self._first + len(self._spots))
        lines = np.zeros(len(into), np.int64)
        lines[corner] = self._rows[into[corner] - self._first] + 1
        steps = self._height + 2
        place = np.searchsorted(self._columns[into] * steps + lines, columns * steps + rows + 1, side="right") - 1
        return edges, self._north[place]

    def records(self, edges: Array) -> Array:
        """Return the members of edges: (n, 4) int32, see :data:`MEMBERS`."""
        begin, end = self._begin[edges], self._end[edges]
        at_begin, at_end = self._spots[begin - self._first], self._spots[end - self._first]
        found = np.empty((len(edges), MEMBERS), np.int32)
        found[:, 0], found[:, 1] = self._columns[begin] - 1, self._columns[end] - 1
        found[:, 2] = self._rows[begin - self._first] + self._line
        # Where four edges meet, pixels that touch by that corner alone may be of one region.
        pixels, stride = self._pixels, self._stride
        found[:, 3] = (self._code[begin] == _CROSSING) & (pixels[at_begin - 1] == pixels[at_begin + stride])
        touching = (self._code[end] == _CROSSING) & (pixels[at_end] == pixels[at_end + stride - 1])
        found[:, 3] += ENDS_TOUCHING * touching
        return found
