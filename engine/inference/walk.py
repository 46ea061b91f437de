"""In which order groups are handed out, so that neighbours go to the same worker: standard library alone.

Neighbouring groups share the blocks of the file under their common edge, and a worker that goes on where it was still
has them decoded. The order changes how much is read, never what comes out.
"""

from __future__ import annotations

import bisect
from collections import deque
from typing import Deque, Iterable, Iterator, List, Sequence, Set, Tuple

# How many finished groups are remembered to go on from.
_REMEMBERED = 64


class Walk:
    """Unfinished groups as stretches of a way that runs down one column of groups after the other.

    Who finishes a group gets the next one of its way; who has none begins in the middle of the longest stretch, so
    that the one who is on it can go on undisturbed for as long as possible.
    """

    def __init__(self, items: Iterable[Sequence[int]], done: Set[int]) -> None:
        """Begin.

        Args:
            items: (first group, rows of groups, columns of groups) of each item of the job.
            done: groups that are finished already.
        """
        self._items: List[Tuple[int, int, int]] = [(int(a), int(b), int(c)) for a, b, c in items]
        self._firsts = [first for first, _, _ in self._items]
        self._ended: Deque[int] = deque(maxlen=_REMEMBERED)
        self._stretches: List[Tuple[int, int]] = []
        total = sum(rows * columns for _, rows, columns in self._items)
        taken = sorted(self._place(one) for one in done)
        begin = 0
        for place in (*taken, total):
            if place > begin:
                self._stretches.append((begin, place))
            begin = place + 1

    def finished(self, group: int) -> None:
        """Note that a group is done; the next one asked for follows it if it can."""
        self._ended.append(self._place(group))

    def __iter__(self) -> Iterator[int]:
        while self._stretches:
            yield self._group(self._next())

    def _next(self) -> int:
        while self._ended:
            wanted = self._ended.pop() + 1
            for position, (begin, end) in enumerate(self._stretches):
                if begin == wanted:
                    self._put(position, [(begin + 1, end)])
                    return begin
        position = max(range(len(self._stretches)), key=lambda i: self._stretches[i][1] - self._stretches[i][0])
        begin, end = self._stretches[position]
        # Nobody is on the very first stretch yet; on any other, somebody is just before its beginning.
        place = begin if begin == 0 else (begin + end) // 2
        self._put(position, [(begin, place), (place + 1, end)])
        return place

    def _put(self, position: int, parts: List[Tuple[int, int]]) -> None:
        self._stretches[position : position + 1] = [one for one in parts if one[0] < one[1]]

    def _place(self, group: int) -> int:
        """Return the place on the way of a group's number, which counts row by row."""
        first, rows, columns = self._item(group)
        row, column = divmod(group - first, columns)
        return first + column * rows + row

    def _group(self, place: int) -> int:
        first, rows, columns = self._item(place)
        column, row = divmod(place - first, rows)
        return first + row * columns + column

    def _item(self, number: int) -> Tuple[int, int, int]:
        """Return the item of a group or a place; both begin with the item's first number."""
        return self._items[bisect.bisect_right(self._firsts, number) - 1]
