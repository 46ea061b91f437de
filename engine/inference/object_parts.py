"""What the tiles of a detection reported, as the assembly reads it: a survey first, then row by row of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Dict, Iterator, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from .journal import WorkFolder
from .object_stream import Found
from .parts import read_part
from .plan import Item
from .polygons import rings_shape
from .seams import Objects

Array = npt.NDArray[Any]
# Lower-case name of an attribute -> its place (tile, position in the part), its name there, and its kind.
Told = Dict[str, Tuple[Tuple[int, int], str, str]]


class PartFiles:
    """The finished parts of a job."""

    def __init__(self, folder: WorkFolder, receipts: Dict[int, Dict[str, Any]]) -> None:
        self._folder, self._receipts = folder, receipts

    def read(
        self, group: int, names: Optional[Collection[str]] = None
    ) -> Optional[Tuple[Dict[str, Array], Dict[str, Any]]]:
        """Return the arrays (all, or those of ``names``) and members of a group's part; None if it found nothing."""
        receipt = self._receipts.get(group)
        if receipt is None or not receipt.get("file"):
            return None
        return read_part(self._folder.parts / str(receipt["file"]), str(receipt["sha256"]), names)


@dataclass(frozen=True)
class Survey:
    """What must be known of all objects of an item before the first one is written.

    Attributes:
        seen: (tile rows, tile columns) bool, which tiles reported an object.
        tops: (tile rows,) first line that an object of the row reaches; infinite if there are none.
        masks: whether any object has an outline.
        told: the attributes that objects carry.
    """

    seen: Array
    tops: Array
    masks: bool
    told: Told

    def limit(self, row: int) -> float:
        """Return the first line that objects of the rows of tiles below ``row`` reach."""
        return float(self.tops[row + 1 :].min(initial=np.inf))


def survey(item: Item, parts: PartFiles) -> Survey:
    """Look through all parts of an item."""
    columns = len(item.layout.columns)
    seen = np.zeros((len(item.layout.rows), columns), bool)
    tops = np.full(len(item.layout.rows), np.inf)
    masks = False
    told: Told = {}
    for group in range(item.first, item.first + item.grouping.count):
        part = parts.read(group, ("boxes", "tiles", "ring_counts", "ring_sizes", "ring_points"))
        if part is None:
            continue
        arrays, members = part
        seen.flat[arrays["tiles"]] = True
        np.minimum.at(tops, arrays["tiles"] // columns, _tops(arrays))
        masks = masks or bool(arrays["ring_counts"].any())
        _note(told, arrays["tiles"].tolist(), members["attributes"])
    return Survey(seen, tops, masks, told)


def _tops(arrays: Dict[str, Array]) -> Array:
    """Return the first line that each object reaches with its box or outline."""
    tops = arrays["boxes"][:, 1].copy()
    if len(arrays["ring_points"]):
        owner = np.repeat(np.arange(len(tops)), arrays["ring_counts"])
        np.minimum.at(tops, np.repeat(owner, arrays["ring_sizes"]), arrays["ring_points"][:, 1])
    return tops


def _note(told: Told, tiles: List[int], attributes: List[Dict[str, Any]]) -> None:
    """Note names and kinds of attributes: the spelling of the first object, and a kind that holds them all."""
    for position, (tile, values) in enumerate(zip(tiles, attributes)):
        for name, value in values.items():
            if value is None:
                continue
            kind = "integer" if isinstance(value, int) else "real" if isinstance(value, float) else "text"
            place, spelt, known = told.get(name.lower(), ((tile, position), name, kind))
            if known != kind:
                kind = "text" if "text" in (known, kind) else "real"
            if (tile, position) < place:
                place, spelt = (tile, position), name
            told[name.lower()] = (place, spelt, kind)


def tile_rows(item: Item, parts: PartFiles, shape: int) -> Iterator[Tuple[int, Found]]:
    """Yield (row of tiles, its objects in the order of tiles); one row of groups is held at a time.

    Args:
        item: of the job.
        parts: its parts.
        shape: what outlines stand for, see :class:`~.plan.Plan`.
    """
    columns, count, group = len(item.layout.columns), 0, 0
    while group < item.grouping.count:
        span = item.grouping.group(group)
        found = []
        while group < item.grouping.count and item.grouping.group(group).top == span.top:
            part = parts.read(item.first + group)
            if part is not None:
                found.append(_found(*part, shape))
            group += 1
        band = Found.join(found) if found else Found.empty()
        band = band.take(np.argsort(band.objects.tiles, kind="stable"))
        band.numbers[:] = np.arange(count, count + len(band))
        count += len(band)
        ends = np.searchsorted(band.objects.tiles, np.arange(span.top, span.bottom + 1) * columns)
        for row in range(span.top, span.bottom):
            begin, end = ends[row - span.top], ends[row - span.top + 1]
            yield row, band.take(np.arange(begin, end))


def _found(arrays: Dict[str, Array], members: Dict[str, Any], shape: int) -> Found:
    objects = Objects(*(arrays[name] for name in Objects.__dataclass_fields__))
    attributes = np.empty(len(objects), dtype=object)
    if members["attributes"]:
        attributes[:] = members["attributes"]
    return Found(objects, np.zeros(len(objects), np.int64), _outlines(arrays, shape), attributes)


def _outlines(arrays: Dict[str, Array], shape: int) -> Array:
    """Return what ``shape`` says of each object, in pixels; None where the network gives a box only."""
    answer = np.empty(len(arrays["scores"]), dtype=object)
    ends = np.cumsum(arrays["ring_sizes"])
    rings = np.split(arrays["ring_points"], ends[:-1]) if len(ends) else []
    start = 0
    for i, count in enumerate(arrays["ring_counts"].tolist()):
        answer[i] = rings_shape(rings[start : start + count], shape) if count else None
        start += count
    return answer
