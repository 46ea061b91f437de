"""The plan of an inference job as it lies in the work folder: what is read, how it is cut, and who it is for.

The plan is made once, by the task ``plan_inference``; every worker reads it. It is JSON, and this module is its edge.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .. import jobs
from ..errors import JobError
from ..models.base import TilePlan
from ..package.reading import ClassInfo
from ..raster.gdal import shown
from ..raster.grid import Grid
from ..raster.secrets import fill
from ..workers.task import TaskContext
from .journal import PLAN, WorkFolder
from .tiles import Grouping, Span, TileGroup, TileLayout


@dataclass(frozen=True)
class Item:
    """One raster of the job (a mosaic counts as one) and how it is cut.

    Attributes:
        name: of the item, for results; empty for a mosaic.
        inputs: files of the mosaic.
        second: files of the second date, for change detection.
        grid: processing grid.
        layout: its tiles.
        grouping: how tiles are joined to groups.
        first: number of its first group within the job.
        in_rows: whether its files are stored in rows as wide as themselves.
    """

    name: str
    inputs: Tuple[jobs.RasterInput, ...]
    second: Tuple[jobs.RasterInput, ...]
    grid: Grid
    layout: TileLayout
    grouping: Grouping
    first: int
    in_rows: bool = False

    @property
    def way(self) -> Tuple[int, int]:
        """Rows and columns of groups for :mod:`.walk`: down the columns, but along the rows where those are stored."""
        found = self.grouping
        return (found.count, 1) if self.in_rows else (found.rows, found.columns)

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members; :meth:`from_dict` is the inverse."""
        return {
            "name": self.name,
            "inputs": [dataclasses.asdict(one) for one in self.inputs],
            "second": [dataclasses.asdict(one) for one in self.second],
            "grid": self.grid.to_dict(),
            "columns": [dataclasses.astuple(one) for one in self.layout.columns],
            "rows": [dataclasses.astuple(one) for one in self.layout.rows],
            "grouping": dataclasses.astuple(self.grouping),
            "first": self.first,
            "in_rows": self.in_rows,
        }

    @classmethod
    def from_dict(cls, members: Dict[str, Any]) -> Item:
        """Build an item from the members that :meth:`to_dict` returns."""
        return cls(
            members["name"],
            raster_inputs(members["inputs"]),
            raster_inputs(members["second"]),
            Grid.from_dict(members["grid"]),
            TileLayout(tuple(Span(*one) for one in members["columns"]), tuple(Span(*one) for one in members["rows"])),
            Grouping(*members["grouping"]),
            members["first"],
            bool(members.get("in_rows")),
        )


def raster_inputs(members: Sequence[Dict[str, Any]]) -> Tuple[jobs.RasterInput, ...]:
    """Return the raster inputs of JSON objects."""
    return tuple(jobs.value_from_dict(jobs.RasterInput, dict(one), "input") for one in members)


@dataclass(frozen=True)
class Plan:
    """The whole job, as workers see it.

    Attributes:
        identity: hash of all that the result depends on.
        job: the job itself, as JSON object.
        tiles: what the network wants.
        bands: 1-based bands to read, or None for all.
        resampling: how pixels are made where grids differ.
        blend: whether tiles overlap and are blended.
        values: class values of a pixel classifier's channels; None for values that are not classes.
        items: rasters of the job.
        sources: version of each input, as :mod:`..raster.versions` notes it.
        classes: of the network.
        shape: of objects, as package functions number them: 1 point, 2 multipoint, 3 line, 4 polygon.
        declared: (name, kind) of the fields that a package's function declares for its objects.
        memory: what was measured and decided: bytes of a ``worker``, of its ``rest`` and of each ``pixel`` of a call,
            and how many ``workers`` fit.
    """

    identity: str
    job: Dict[str, Any]
    tiles: TilePlan
    bands: Optional[Tuple[int, ...]]
    resampling: str
    blend: bool
    values: Optional[Tuple[int, ...]]
    items: Tuple[Item, ...]
    sources: Dict[str, Any]
    classes: Tuple[ClassInfo, ...]
    shape: int = 4
    declared: Tuple[Tuple[str, str], ...] = ()
    memory: Dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def groups(self) -> int:
        """Number of groups of all items."""
        return sum(one.grouping.count for one in self.items)

    def find(self, group: int) -> Tuple[int, TileGroup]:
        """Return the position of the item and the group in it of a group of the job."""
        for position in range(len(self.items) - 1, -1, -1):
            item = self.items[position]
            if group >= item.first:
                return position, item.grouping.group(group - item.first)
        raise IndexError(group)

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members; :meth:`from_dict` is the inverse."""
        return {
            "identity": self.identity,
            "job": self.job,
            "tiles": dataclasses.asdict(self.tiles),
            "bands": self.bands,
            "resampling": self.resampling,
            "blend": self.blend,
            "values": self.values,
            "items": [one.to_dict() for one in self.items],
            "sources": self.sources,
            "classes": [dataclasses.astuple(one) for one in self.classes],
            "shape": self.shape,
            "declared": self.declared,
            "memory": self.memory,
        }

    @classmethod
    def from_dict(cls, members: Dict[str, Any]) -> Plan:
        """Build a plan from the members that :meth:`to_dict` returns."""
        return cls(
            members["identity"],
            members["job"],
            TilePlan(**members["tiles"]),
            None if members["bands"] is None else tuple(members["bands"]),
            members["resampling"],
            members["blend"],
            None if members["values"] is None else tuple(members["values"]),
            tuple(Item.from_dict(one) for one in members["items"]),
            members["sources"],
            tuple(ClassInfo(value, name, tuple(color) if color else None) for value, name, color in members["classes"]),
            members["shape"],
            tuple((name, kind) for name, kind in members["declared"]),
            dict(members.get("memory", {})),
        )


def cached_plan(payload: Dict[str, Any], context: TaskContext) -> Plan:
    """Return the plan that a task's payload leads to; the worker keeps the last one until file or logins change."""
    folder, secrets = Path(payload["work"]), payload.get("secrets", [])
    stamp = (str(folder), (folder / PLAN).stat().st_mtime_ns, secrets)
    kept = context.state.get("inference.plan")
    if kept is None or kept[0] != stamp:
        plan = Plan.from_dict(fill(WorkFolder(folder).read_plan() or {}, secrets))
        kept = context.state["inference.plan"] = (stamp, plan)
    found: Plan = kept[1]
    return found


def resolve_bands(wanted: Sequence[Union[int, str]], descriptions: Sequence[str]) -> Optional[Tuple[int, ...]]:
    """Return the 1-based bands that the network wants; None if it does not say.

    Args:
        wanted: 0-based numbers or names of bands, in the network's order; empty if it does not say.
        descriptions: names of the bands that the input offers.

    Raises:
        JobError: the input lacks a band.
    """
    if not wanted:
        return None
    names = {name.strip().lower(): position for position, name in enumerate(descriptions, start=1) if name.strip()}
    bands: List[int] = []
    for one in wanted:
        band = names.get(one.strip().lower(), 0) if isinstance(one, str) else one + 1
        if not 1 <= band <= len(descriptions):
            missing = f"the band “{one}”" if isinstance(one, str) else f"{one + 1} bands"
            raise JobError(
                f"The model needs {missing}, but the raster offers {len(descriptions)} bands"
                + (f" ({', '.join(filter(None, descriptions))})." if names else "."),
                stage="reading",
                hint="Choose a raster with the bands that the model was trained on, or set its band order.",
            )
        bands.append(band)
    return tuple(bands)


def item_names(inputs: Sequence[jobs.RasterInput]) -> List[str]:
    """Return a name for each input, of its own or from its path; equal ones are numbered."""
    names: List[str] = []
    for one in inputs:
        name = base = one.name or Path(shown(one.path).rstrip("/")).stem or "raster"
        number = 1
        while name.lower() in {other.lower() for other in names}:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names
