"""Which features of a layer lie on which raster, stored in pieces so that a worker holds a few thousand at a time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from .. import jobs
from ..raster.grid import Grid
from .journal import WorkFolder
from .parts import read_part, write_part
from .plan import raster_inputs

Array = npt.NDArray[Any]
# Features of one part of the work, and of one stored piece.
GROUP = 64
_PIECE = 64 * GROUP


@dataclass(frozen=True)
class Chips:
    """One raster and the features to be classified on it; without features, the raster itself.

    Attributes:
        name: of the raster among several, or empty.
        inputs: files of the raster.
        grid: its pixels.
        first: number of its first part within the job.
        count: number of features; None if the raster itself is classified.
        begin: number of the first feature that is at hand here.
        positions: ids in the layer of the features at hand.
        shapes: their geometries in pixels of the grid.
    """

    name: str
    inputs: Tuple[jobs.RasterInput, ...]
    grid: Grid
    first: int
    count: Optional[int] = None
    begin: int = 0
    positions: Optional[Array] = None
    shapes: Optional[Array] = None

    @property
    def groups(self) -> int:
        """Number of parts of this raster's work."""
        return 1 if self.count is None else -(-self.count // GROUP)

    def group(self, number: int) -> Optional[Tuple[Array, Array]]:
        """Return ids and geometries of a part's features; None if the raster itself is classified."""
        if self.positions is None or self.shapes is None:
            return None
        part = slice(number * GROUP - self.begin, (number + 1) * GROUP - self.begin)
        return self.positions[part], self.shapes[part]


def store(one: Chips, work: WorkFolder) -> Dict[str, Any]:
    """Write the features of a raster beside the plan; return the members that stand for it there."""
    members: Dict[str, Any] = {
        "name": one.name,
        "inputs": [dataclasses.asdict(raster) for raster in one.inputs],
        "grid": one.grid.to_dict(),
        "first": one.first,
        "count": one.count,
        "pieces": [],
    }
    if one.positions is None or one.shapes is None:
        return members
    for begin in range(0, len(one.positions), _PIECE):
        texts = shapely.to_wkb(one.shapes[begin : begin + _PIECE])
        arrays: Dict[str, Array] = {
            "positions": one.positions[begin : begin + _PIECE].astype(np.int64),
            "sizes": np.array([len(text) for text in texts], np.int64),
            "wkb": np.frombuffer(b"".join(texts), np.uint8),
        }
        path = work.path / f"shapes_{one.first}_{begin}.part"
        members["pieces"].append(write_part(path, arrays, {}))
    return members


def piece_of(members: Dict[str, Any], group: int) -> int:
    """Return the number of the stored piece that holds the features of a part of the job."""
    return (group - int(members["first"])) * GROUP // _PIECE


def recall(members: Dict[str, Any], folder: Path, piece: Optional[int] = None) -> Chips:
    """Return the raster that members stand for, with the features of one stored piece, or none."""
    chips = Chips(
        members["name"], raster_inputs(members["inputs"]), Grid.from_dict(members["grid"]),
        members["first"], members["count"],
    )  # fmt: skip
    if piece is None or not members["pieces"]:
        return chips
    stored = members["pieces"][piece]
    arrays, _ = read_part(folder / stored["file"], stored["sha256"])
    ends = np.cumsum(arrays["sizes"])
    data = arrays["wkb"].tobytes()
    texts = [data[end - size : end] for end, size in zip(ends.tolist(), arrays["sizes"].tolist())]
    shapes = shapely.from_wkb(np.array(texts, dtype=object))
    return dataclasses.replace(chips, begin=piece * _PIECE, positions=arrays["positions"], shapes=shapes)
