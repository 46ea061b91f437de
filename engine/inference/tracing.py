"""Regions of a raster that comes in strips of rows: what is closed is handed out, what is open is held.

A boundary that reaches the lower side of a strip waits as an open chain; in the next strip it counts as one element
among the edges. Rings of one region find each other through runs of pixels: the left-most side of each hole bounds a
run whose other end belongs to a ring further to the left, so that all lead to the outer ring.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import numpy.typing as npt

from .edges import MEMBERS, StripEdges

Array = npt.NDArray[Any]
# Corners of one pass, which bound the memory that it takes.
_MOST_CORNERS = 300_000


@dataclass(frozen=True)
class Rings:
    """All rings of some regions.

    Attributes:
        edges: (n, 4) int32 horizontal edges: columns of begin and end, line, flags; rings one after the other.
        lengths: (rings,) number of edges of each.
        regions: (rings,) number of the region of each, from 0 to ``len(values) - 1``.
        values: (regions,) pixel value of each.
    """

    edges: Array
    lengths: Array
    regions: Array
    values: Array


@dataclass
class _Region:
    """A region that goes on below: its value, and those of its rings that are closed, as bytes and lengths."""

    value: Any
    edges: List[bytes] = field(default_factory=list)
    lengths: List[Array] = field(default_factory=list)

    def hold(self, edges: bytes, lengths: Array) -> None:
        self.edges.append(edges)
        self.lengths.append(lengths)

    def take(self, other: _Region) -> None:
        self.edges += other.edges
        self.lengths += other.lengths


@dataclass(frozen=True)
class _Chains:
    """Open chains: columns where they come up and go down again, number of the region, and bytes of their edges.

    Bytes come in order, in lists that may hold such lists, so that joining two long chains costs nothing.
    """

    heads: Array
    tails: Array
    regions: Array
    edges: List[List[Any]]


class Tracer:
    """Follows the boundaries of the regions of a raster, strip by strip from the top.

    Args:
        width: columns of the raster.
        outside: value of pixels that belong to no region, as beyond the raster.
        dtype: of the pixels.
    """

    def __init__(self, width: int, outside: float, dtype: npt.DTypeLike) -> None:
        self._outside, self._line = outside, 0
        self._above = np.full(width + 2, outside, dtype)
        none = np.zeros(0, np.int64)
        self._chains = _Chains(none, none, none, [])
        self._open: List[_Region] = []

    def add(self, rows: Array) -> List[Rings]:
        """Take the next rows (rows, columns) and return the rings of the regions that are complete."""
        padded = np.empty((len(rows) + 1, len(self._above)), self._above.dtype)
        padded[0], padded[:, 0], padded[:, -1] = self._above, self._outside, self._outside
        padded[1:, 1:-1] = rows
        strip = StripEdges(padded, self._outside, self._line)
        corners = strip.corners()
        if len(corners) > _MOST_CORNERS and len(rows) > 1:
            del padded, strip, corners
            middle = len(rows) // 2
            return self.add(rows[:middle]) + self.add(rows[middle:])
        strip.join(corners)
        found = self._advance(strip)
        self._above = padded[-1].copy()
        self._line += len(rows)
        return [found] if len(found.lengths) else []

    def finish(self) -> List[Rings]:
        """Return the rings of the regions that reach the lower side of the raster."""
        return self.add(np.full((1, len(self._above) - 2), self._outside, self._above.dtype))

    def _advance(self, strip: StripEdges) -> Rings:
        old = self._chains
        following, exits, firsts = strip.links(old.heads, old.tails)
        paths = _follow(strip, following, firsts, old)
        count, opened = len(paths.lengths), len(firsts)
        root = _regions(strip, paths, old, count + len(self._open))
        going_on, number = np.unique(root[:opened], return_inverse=True)
        # Any element of a region knows its value: where it leaves the strip, where it was held, or its first edge.
        values = np.zeros(len(root), self._above.dtype)
        values[root[count:]] = [one.value for one in self._open]
        values[root[:count][paths.whole]] = strip.values[paths.order[paths.starts[paths.whole]]]
        values[root[:opened]] = strip.leaving(exits)
        regions = {one: _Region(values[one]) for one in going_on.tolist()}
        done: Dict[int, _Region] = {}
        for one, region in zip(root[count:].tolist(), self._open):
            (regions.get(one) or done.setdefault(one, _Region(region.value))).take(region)
        for path in (np.flatnonzero(~paths.whole[opened:]) + opened).tolist():
            ring, one = _flat(paths.pieces(path, old)), int(root[path])
            (regions.get(one) or done.setdefault(one, _Region(values[one]))).hold(ring, _count(ring))
        closed = np.flatnonzero(paths.whole[opened:]) + opened
        stays = np.isin(root[closed], going_on)
        for one, some in _by_root(closed[stays], root):
            regions[one].hold(paths.records_of(some).tobytes(), paths.lengths[some])
        self._chains = _Chains(
            strip.exits[exits], strip.exits[paths.tails], number, [paths.pieces(path, old) for path in range(opened)]
        )
        self._open = list(regions.values())
        closed = closed[~stays]
        edges = [paths.records_of(closed)]
        lengths, roots = [paths.lengths[closed]], [root[closed]]
        for one, region in done.items():
            edges += [np.frombuffer(part, np.int32).reshape(-1, MEMBERS) for part in region.edges]
            lengths += region.lengths
            roots.append(np.full(sum(map(len, region.lengths)), one))
        found, numbers = np.unique(np.concatenate(roots), return_inverse=True)
        return Rings(np.concatenate(edges), np.concatenate(lengths), numbers, values[found])


@dataclass(frozen=True)
class _Paths:
    """What the elements of a strip form: first the open chains, then rings.

    Attributes:
        order: elements, path by path in the order of the way.
        records: of the edges in ``order``; zeros for chains of the strip above.
        lengths: elements of each path.
        starts: where each path begins in ``order``.
        tails: for open chains, number of the exit where they go down.
        whole: which paths consist of edges of this strip alone.
        path: of each element.
        edges: number of edges among the elements.
    """

    order: Array
    records: Array
    lengths: Array
    starts: Array
    tails: Array
    whole: Array
    path: Array
    edges: int

    def records_of(self, paths: Array) -> Array:
        """Return the records of whole paths, one path after the other."""
        lengths = self.lengths[paths]
        begins = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(self.starts[paths] - begins, lengths)
        found: Array = self.records[rows]
        return found

    def pieces(self, path: int, old: _Chains) -> List[Any]:
        """Return the bytes of a path's edges in order, those of the chains that it takes up included."""
        start = int(self.starts[path])
        stop = start + int(self.lengths[path])
        if self.whole[path]:
            return [self.records[start:stop].tobytes()]
        elements = self.order[start:stop]
        found: List[Any] = []
        begin = 0
        for place in np.flatnonzero(elements >= self.edges).tolist():
            if place > begin:
                found.append(self.records[start + begin : start + place].tobytes())
            found.append(old.edges[elements[place] - self.edges])
            begin = place + 1
        if begin < len(elements):
            found.append(self.records[start + begin : stop].tobytes())
        return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def _follow(strip: StripEdges, following: Array, firsts: Array, old: _Chains) -> _Paths:
    """Walk along all elements, from the first ones of open chains and then around the rings."""
    edges = len(following) - len(old.edges)
    after, seen = following.tolist(), bytearray(len(following))
    for one in np.flatnonzero(~strip.inside).tolist():
        seen[one] = 1
    order: List[int] = []
    lengths: List[int] = []
    tails: List[int] = []
    for one in firsts.tolist():
        begin = len(order)
        while one >= 0:
            seen[one] = 1
            order.append(one)
            one = after[one]
        lengths.append(len(order) - begin)
        tails.append(-1 - one)
    walk_rings(after, seen, order, lengths)
    elements, counts = np.array(order, np.int64), np.array(lengths, np.int64)
    path = np.full(len(following), -1, np.int64)
    path[elements] = np.repeat(np.arange(len(counts)), counts)
    records, is_edge = np.zeros((len(elements), MEMBERS), np.int32), elements < edges
    records[is_edge] = strip.records(elements[is_edge])
    whole = np.ones(len(counts), bool)
    whole[path[edges:]] = False
    return _Paths(elements, records, counts, np.cumsum(counts) - counts, np.array(tails, np.int64), whole, path, edges)


def walk_rings(after: List[int], seen: bytearray, order: List[int], lengths: List[int]) -> None:
    """Append the members that are not yet seen, ring by ring in the order of the way, and the length of each ring."""
    first = seen.find(0)
    while first >= 0:
        begin, one = len(order), first
        while not seen[one]:
            seen[one] = 1
            order.append(one)
            one = after[one]
        lengths.append(len(order) - begin)
        first = seen.find(0, first)


def _regions(strip: StripEdges, paths: _Paths, old: _Chains, count: int) -> Array:
    """Return for each path, and each open region of the strip above, a number that those of one region share."""
    # Outer rings that are whole are what others lead to; all others ask whose run of pixels they end.
    asks = ~paths.whole
    asks[: len(paths.tails)] = True
    asks |= ring_areas(paths.records, paths.starts) < 0
    elements = paths.order[np.repeat(asks, paths.lengths)]
    right, left = strip.across_runs(elements[elements < paths.edges])
    links = np.arange(paths.edges, len(paths.path))
    return components(
        np.concatenate([paths.path[links], paths.path[right]]),
        np.concatenate([len(paths.lengths) + old.regions, paths.path[left]]),
        count,
    )


def ring_areas(edges: Array, starts: Array) -> Array:
    """Return the areas of rings of edges, in pixels; those of holes are negative."""
    if not len(starts):
        return np.zeros(0, np.int64)
    below = edges[:, 2] * (edges[:, 0] - edges[:, 1]).astype(np.int64)
    areas: Array = np.add.reduceat(below, starts)
    return areas


def components(one: Array, other: Array, count: int) -> Array:
    """Return for each of ``count`` members the smallest member that pairs (``one``, ``other``) connect it with."""
    root = np.arange(count)
    while True:
        apart = root[one] != root[other]
        if not apart.any():
            return root
        one, other = one[apart], other[apart]
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        np.minimum.at(root, high, low)
        while True:
            further = root[root]
            if (further == root).all():
                break
            root = further


def _by_root(paths: Array, root: Array) -> Iterator[Tuple[int, Array]]:
    """Yield (root, its paths)."""
    paths = paths[np.argsort(root[paths], kind="stable")]
    roots = root[paths]
    starts = np.flatnonzero(np.append(True, roots[1:] != roots[:-1])) if len(paths) else np.zeros(0, np.int64)
    for begin, end in zip(starts, np.append(starts[1:], len(paths))):
        yield int(roots[begin]), paths[begin:end]


def _flat(pieces: List[Any]) -> bytes:
    """Return the bytes that nested lists hold, in order."""
    found: List[bytes] = []
    waiting: List[Any] = [pieces]
    while waiting:
        one = waiting.pop()
        if isinstance(one, bytes):
            found.append(one)
        else:
            waiting.extend(reversed(one))
    return b"".join(found)


def _count(ring: bytes) -> Array:
    return np.array([len(ring) // (4 * MEMBERS)], np.int64)
