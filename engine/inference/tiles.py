"""How a grid is cut into tiles, and tiles into groups that are one unit of work: integer arithmetic alone.

The *layout* of tiles depends on the network and the grid only, never on the machine, so that results do not change
with the number of workers. *Groups* of neighbouring tiles, which share one read, may follow the machine: they change
nothing.
Inner windows of the tiles partition the grid. No tile begins left of or above the grid, so that the edges of the grid
are where a pass over the whole image has them; only functions that answer for the inside of their halo alone get tiles
that do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, Tuple

from ..errors import JobError
from ..models.base import TilePlan
from ..raster.window import Window

# Input pixels per raster pixel that a network of free tile size may cost.
REDUNDANCY = 1.15
# Sides of free tiles: below, calls cost more than pixels; above, activations need gigabytes.
MIN_SIDE, MAX_SIDE = 512, 2048
# Tiles that a raster gives at least, if they can have :data:`MIN_SIDE`.
_FEWEST = 8
# Bytes of a worker for rows of tiles that are read, and for what a group keeps until it is finished.
READ_BUDGET, KEPT_BUDGET = 32 * 2**20, 16 * 2**20
# Pixels of a group: enough that its part file costs little, and the same for large rasters as for small ones.
_GROUP_PIXELS = 3 * 2**19
# Blocks across a group if those under its edges are to be a small part of them.
_SHARED_ONCE = 10


@dataclass(frozen=True)
class Span:
    """One tile along one axis: pixels from ``start`` on, of which ``inner_start .. inner_stop - 1`` count."""

    start: int
    size: int
    inner_start: int
    inner_stop: int

    @property
    def stop(self) -> int:
        """First pixel after the span."""
        return self.start + self.size


@dataclass(frozen=True)
class Tile:
    """One image for the network.

    Attributes:
        index: position in the layout, row by row.
        window: pixels that the network sees; may reach beyond the grid.
        inner: pixels that the tile alone may write.
    """

    index: int
    window: Window
    inner: Window


def ceil_to(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


def floor_to(value: int, multiple: int) -> int:
    """Return the largest multiple that is not above ``value``."""
    return value // multiple * multiple


def fixed_spans(length: int, size: int, halo: int, multiple: int = 1) -> Tuple[Span, ...]:
    """Cut an axis for a network of fixed input size; the last tile is shifted inside instead of padded.

    Args:
        length: pixels of the axis.
        size: pixels of a tile, halo included.
        halo: context on both sides.
        multiple: tiles start at multiples of this (the network's stride), where the tile size allows it.

    Raises:
        JobError: the halo leaves nothing of the tile.
    """
    step = size - 2 * halo
    if step < 1 or halo < 0:
        raise JobError(
            f"A padding of {halo} pixels leaves nothing of a tile of {size} pixels.",
            hint=f"Give a padding below {(size + 1) // 2} in the model arguments.",
        )
    step = floor_to(step, multiple) or step
    if length <= size:
        return (Span(0, size, 0, length),)
    count = math.ceil((length - 2 * halo) / step)
    spans = []
    for i in range(count):
        last = i == count - 1
        start = min(i * step, ceil_to(length - size, multiple)) if last else i * step
        inner_start = i * step + halo if i else 0
        spans.append(Span(start, size, inner_start, length if last else (i + 1) * step + halo))
    return tuple(spans)


def outer_spans(length: int, size: int, halo: int) -> Tuple[Span, ...]:
    """Cut an axis for a function that answers for the inside of its halo alone: the halo lies outside the grid.

    This is how ArcGIS hands tiles to Python raster functions.
    """
    step = size - 2 * halo
    if step < 1:
        raise JobError(f"A padding of {halo} pixels leaves nothing of a tile of {size} pixels.")
    return tuple(Span(begin - halo, size, begin, min(begin + step, length)) for begin in range(0, length, step))


def free_spans(length: int, size: int, halo: int, multiple: int = 1, align: int = 1) -> Tuple[Span, ...]:
    """Cut an axis for a network of free input size into tiles of nearly equal length.

    Starts and sizes are multiples of ``multiple`` and the halo is cut at the grid's edges, so that a fully
    convolutional network of that stride sees at each pixel what it sees in one pass over the whole image.

    Args:
        length: pixels of the axis.
        size: largest size of a tile, halo included.
        halo: context on both sides.
        multiple: sides and starts are multiples of this.
        align: inner windows start at multiples of this (the file's blocks) if tiles are large enough for it.
    """
    most = floor_to(size - 2 * halo, multiple)
    if most < 1:
        raise JobError(f"A padding of {halo} pixels leaves nothing of a tile of {size} pixels.")
    count = max(1, math.ceil(length / most)) if length > size else 1
    step = ceil_to(math.ceil(length / count), multiple)
    if align % multiple == 0 and step > align and count > 1:
        # Rounding down would make more tiles, and more halo costs more than blocks decoded twice.
        step = ceil_to(step, align) if ceil_to(step, align) <= most else step
    padded, spans = ceil_to(length, multiple), []
    for begin in range(0, length, step):
        end = min(begin + step, length)
        start = max(0, floor_to(begin - halo, multiple))
        stop = min(padded, ceil_to(end + halo, multiple))
        spans.append(Span(start, stop - start, begin, end))
    return tuple(spans)


def free_side(plan: TilePlan, limit: int = MAX_SIDE, memory: int = 0) -> int:
    """Return the tile side for a network of free size that keeps redundant work below :data:`REDUNDANCY`.

    Args:
        plan: of the network; its own size is the least.
        limit: largest side of interest.
        memory: largest side that memory allows; 0 for any. It alone may ask for less than the network's own size.
    """
    side = max(plan.width, plan.height, MIN_SIDE)
    if plan.halo:
        side = max(side, math.ceil(2 * plan.halo / (1 - REDUNDANCY**-0.5)))
    side = min(side, max(limit, 4 * plan.halo, plan.width, plan.height))
    side = min(side, memory) if memory else side
    return ceil_to(max(side, 2 * plan.halo + plan.multiple), plan.multiple)


@dataclass(frozen=True)
class TileLayout:
    """All tiles of a grid, as the product of two axes."""

    columns: Tuple[Span, ...]
    rows: Tuple[Span, ...]

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.columns) * len(self.rows)

    def tile(self, row: int, column: int) -> Tile:
        """Return the tile at a row and a column of tiles."""
        x, y = self.columns[column], self.rows[row]
        return Tile(
            row * len(self.columns) + column,
            Window(x.start, y.start, x.size, y.size),
            Window(x.inner_start, y.inner_start, x.inner_stop - x.inner_start, y.inner_stop - y.inner_start),
        )

    def __iter__(self) -> Iterator[Tile]:
        for row in range(len(self.rows)):
            for column in range(len(self.columns)):
                yield self.tile(row, column)

    @property
    def overlaps(self) -> bool:
        """Whether neighbouring tiles look at the same pixels."""
        return any(len(one) > 1 and one[0].stop > one[1].start for one in (self.columns, self.rows))

    @property
    def redundancy(self) -> float:
        """Input pixels of the network per pixel of the grid."""
        work = sum(one.size for one in self.columns) * sum(one.size for one in self.rows)
        return work / (self.columns[-1].inner_stop * self.rows[-1].inner_stop)


def plan_tiles(width: int, height: int, plan: TilePlan, *, side_limit: int = 0, align: int = 1) -> TileLayout:
    """Cut a grid of ``width`` x ``height`` pixels for a network.

    Args:
        width: columns of the grid.
        height: rows of the grid.
        plan: what the network wants.
        side_limit: largest side of a tile of free size that memory allows; 0 for any.
        align: side of the file's blocks.
    """
    if plan.outer:
        return TileLayout(outer_spans(width, plan.width, plan.halo), outer_spans(height, plan.height, plan.halo))
    if plan.fixed:
        return TileLayout(
            fixed_spans(width, plan.width, plan.halo, plan.multiple),
            fixed_spans(height, plan.height, plan.halo, plan.multiple),
        )
    # A few large tiles of a small raster would leave processors idle.
    few = max(MIN_SIDE, math.isqrt(width * height // _FEWEST) + 2 * plan.halo)
    side = free_side(plan, min(MAX_SIDE, few), side_limit)
    return TileLayout(
        free_spans(width, side, plan.halo, plan.multiple, align),
        free_spans(height, side, plan.halo, plan.multiple, align),
    )


@dataclass(frozen=True)
class TileGroup:
    """A rectangle of tiles done in one go: tile rows ``top .. bottom - 1``, columns ``left .. right - 1``."""

    index: int
    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Grouping:
    """Groups of ``down`` x ``across`` tiles over a layout, row by row; computed, never listed."""

    tile_rows: int
    tile_columns: int
    down: int
    across: int

    @property
    def rows(self) -> int:
        """Rows of groups."""
        return math.ceil(self.tile_rows / self.down)

    @property
    def columns(self) -> int:
        """Columns of groups."""
        return math.ceil(self.tile_columns / self.across)

    @property
    def count(self) -> int:
        """Number of groups."""
        return self.rows * self.columns

    def group(self, index: int) -> TileGroup:
        """Return one group."""
        row, column = divmod(index, self.columns)
        top, left = row * self.down, column * self.across
        return TileGroup(
            index, top, min(top + self.down, self.tile_rows), left, min(left + self.across, self.tile_columns)
        )


def plan_groups(
    layout: TileLayout,
    *,
    read_bytes: int,
    kept_bytes: int,
    at_least: int,
    block: Tuple[int, int] = (1, 1),
    row_wise: bool = False,
) -> Grouping:
    """Join tiles into groups of similar size.

    Tiles that overlap share blocks of the file with their neighbours. Down a column of groups a worker still has them
    decoded (see :mod:`.walk`); to the left and right they are decoded twice, so there the groups are wide.

    Args:
        layout: the tiles.
        read_bytes: bytes that one pixel of a row of tiles occupies; the next row is read meanwhile.
        kept_bytes: bytes that one pixel of a group occupies until the group is finished.
        at_least: number of groups wanted, so that all workers have something to do.
        block: (rows, columns) in which the file is stored.
        row_wise: whether it is stored in rows as wide as itself.
    """
    columns, rows = len(layout.columns), len(layout.rows)
    pixels = max(one.size for one in layout.columns) * max(one.size for one in layout.rows)
    read, kept = max(1, 2 * pixels * read_bytes), max(1, pixels * kept_bytes)
    share = max(1, columns * rows // max(1, at_least))
    step = max(1, layout.columns[0].inner_stop)
    room = max(1, min(READ_BUDGET // read, KEPT_BUDGET // kept))
    if row_wise and columns <= room:
        # A whole row of tiles together decodes each row of the file once, even if processors wait at the end.
        across = columns
    elif layout.overlaps and not row_wise:
        across = min(share, math.ceil(_SHARED_ONCE * block[1] / step))
    else:
        # Groups narrower than a block would have it decoded by each of them.
        across = max(math.isqrt(min(share, max(1, _GROUP_PIXELS // pixels))), 1 if row_wise else block[1] // step)
    across = max(1, min(columns, across, room))
    across = math.ceil(columns / math.ceil(columns / across))
    down = min(share // across, _GROUP_PIXELS // (across * pixels), KEPT_BUDGET // (across * kept))
    return Grouping(rows, columns, max(1, min(rows, down)), across)


def group_inner(layout: TileLayout, group: TileGroup) -> Window:
    """Return the pixels that the group's tiles may write."""
    col, row = layout.columns[group.left].inner_start, layout.rows[group.top].inner_start
    right, bottom = layout.columns[group.right - 1].inner_stop, layout.rows[group.bottom - 1].inner_stop
    return Window(col, row, right - col, bottom - row)


def widest(layout: TileLayout, grouping: Grouping) -> int:
    """Return the columns of the widest window that a group reads."""
    spans, across = layout.columns, grouping.across
    lanes = (spans[left : left + across] for left in range(0, len(spans), across))
    return max(lane[-1].stop - lane[0].start for lane in lanes)


def touching(spans: Tuple[Span, ...], start: int, stop: int) -> range:
    """Return the positions of the spans that hold a pixel of ``start .. stop - 1``; they are neighbours."""
    found = [i for i, one in enumerate(spans) if one.start < stop and one.stop > start]
    return range(found[0], found[-1] + 1) if found else range(0)
