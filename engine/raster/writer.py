"""Writing rasters: Cloud-Optimised GeoTIFFs with colours, category names, nodata and overviews, complete or not at all.

Blocks are collected in a plain tiled GeoTIFF beside the target; the final copy puts overviews and data in the order
that readers over a network want, is opened again and compared with what was written, and only then gets its name.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple
from xml.sax.saxutils import escape  # nosec B406 - writes, never parses

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.shutil import copy as gdal_copy
from rasterio.windows import Window as RasterioWindow

from ..errors import OutputError
from .gdal import prepare_gdal
from .grid import Grid
from .output import output_errors
from .publishing import Publication, discard, hand_over, part_path, to_disk
from .window import Window

Array = npt.NDArray[Any]
BLOCK = 512
_PROBES = 16
_MAX_CATEGORY = 4096


@dataclass(frozen=True)
class Category:
    """A class of a raster: its value, name and colour (red, green, blue in 0..255) if it has one."""

    value: int
    name: str
    color: Optional[Tuple[int, int, int]] = None


@dataclass(frozen=True)
class RasterProfile:
    """What a raster to be written is like.

    Attributes:
        grid: its pixels.
        bands: number of bands.
        dtype: numpy type of the pixels.
        nodata: value of pixels without data, or None.
        categories: classes, for rasters of classes; they get colours, names and an attribute table.
        band_names: description of each band, or empty.
        factor: what stored numbers are multiplied by to get values (1: they are the values).
        metadata: text members that the file carries.
    """

    grid: Grid
    bands: int
    dtype: str
    nodata: Optional[float] = None
    categories: Tuple[Category, ...] = ()
    band_names: Tuple[str, ...] = ()
    factor: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the pixels with overviews, not compressed."""
        return self.grid.width * self.grid.height * self.bands * np.dtype(self.dtype).itemsize * 4 // 3


class RasterWriter:
    """Writes one raster block by block; use as a context manager and call :meth:`finish` at the end.

    Without :meth:`finish`, or when something fails, nothing appears under the target's name and part files are removed.

    Args:
        target: path of the GeoTIFF.
        profile: what it is like.
    """

    def __init__(self, target: Path, profile: RasterProfile) -> None:
        self._target, self._profile = Path(target), profile
        self._flat, self._part = part_path(self._target, "flat"), part_path(self._target)
        self._side = self._target.with_name(self._target.name + ".aux.xml")
        self._side_part, self._handed = part_path(self._side), False
        self._probes: List[Tuple[Window, int]] = []
        self._count = 0
        self._dataset: Any = None

    def __enter__(self) -> RasterWriter:
        profile = self._profile
        prepare_gdal()
        with output_errors(self._target), _quiet():
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._dataset = rasterio.open(
                self._flat, "w", driver="GTiff", width=profile.grid.width, height=profile.grid.height,
                count=profile.bands, dtype=profile.dtype, nodata=profile.nodata, crs=profile.grid.crs or None,
                transform=profile.grid.transform, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, interleave="band",
                bigtiff="if_safer", sparse_ok=False, **_quick_codec(),
            )  # fmt: skip
            self._describe()
        return self

    def _describe(self) -> None:
        profile, dataset = self._profile, self._dataset
        dataset.update_tags(**profile.metadata)
        for band, name in enumerate(profile.band_names, start=1):
            dataset.set_band_description(band, name)
        if profile.factor != 1.0:
            dataset.scales = (profile.factor,) * profile.bands
        colours = colour_table(profile.categories, profile.nodata)
        if colours and profile.bands == 1 and profile.dtype in ("uint8", "uint16"):
            dataset.write_colormap(1, colours)

    def write(self, window: Window, pixels: Array) -> None:
        """Write (bands, rows, columns) at ``window``; windows aligned to :data:`BLOCK` compress each block once.

        Raises:
            OutputError: the disk is full, or the file is gone.
        """
        pixels = np.ascontiguousarray(pixels, dtype=self._profile.dtype)
        with output_errors(self._target):
            self._dataset.write(pixels, window=rasterio_window(window))
        # A sample of what was written, thinned out as the file grows, is compared with the finished file.
        if self._count % (1 + self._count // 64) == 0:
            self._probes.append((window, zlib.crc32(pixels.data.cast("B"))))
        self._count += 1

    def finish(self, outputs: Optional[Publication] = None) -> None:
        """Make overviews and the final layout, verify, and give the file its name.

        Args:
            outputs: gives the file its name later, together with others; None to do it here.

        Raises:
            OutputError: it cannot be written, or differs from what was written.
        """
        with output_errors(self._target), _quiet():
            factors = overview_factors(self._profile.grid.width, self._profile.grid.height)
            if factors:
                smooth = not self._profile.categories and np.dtype(self._profile.dtype).kind == "f"
                self._dataset.build_overviews(factors, Resampling.average if smooth else Resampling.nearest)
            self._dataset.close()
            self._dataset = None
            gdal_copy(
                str(self._flat), str(self._part), driver="COG", COMPRESS="DEFLATE", LEVEL="1", BLOCKSIZE=str(BLOCK),
                BIGTIFF="IF_SAFER", OVERVIEWS="FORCE_USE_EXISTING" if factors else "NONE",
                PREDICTOR="YES" if np.dtype(self._profile.dtype).kind == "f" else "NO",
            )  # fmt: skip
            self._verify()
            to_disk(self._part)
            self._hand_over(outputs)
        discard(self._flat)

    def _verify(self) -> None:
        profile, step = self._profile, max(1, len(self._probes) // _PROBES)
        with rasterio.open(self._part) as dataset:
            same = (dataset.width, dataset.height, dataset.count) == (
                profile.grid.width, profile.grid.height, profile.bands,
            )  # fmt: skip
            same &= bool(dataset.crs) == bool(profile.grid.crs)
            for window, checksum in self._probes[::step]:
                same = same and zlib.crc32(dataset.read(window=rasterio_window(window)).data.cast("B")) == checksum
        if not same:
            raise OutputError(
                f"“{self._target}” was written, but reading it again gives something else.",
                stage="verifying the output",
                file=str(self._target),
                hint="Check the disk, then start the same job again.",
            )

    def _hand_over(self, outputs: Optional[Publication]) -> None:
        """Have the file and its side file named, now or together with other outputs."""
        files, obsolete = [(self._part, self._target)], [self._target.with_name(self._target.name + ".ovr")]
        if self._profile.categories:
            self._side_part.write_text(attribute_table(self._profile.categories), encoding="utf-8")
            to_disk(self._side_part)
            files.append((self._side_part, self._side))
        else:
            obsolete.append(self._side)
        self._handed = True
        hand_over(files, obsolete, outputs)

    def __exit__(self, *_: object) -> None:
        if self._dataset is not None:
            with contextlib.suppress(Exception):
                self._dataset.close()
            self._dataset = None
        discard(self._flat, *(() if self._handed else (self._part, self._side_part)))
        discard(*self._target.parent.glob(f"{glob.escape(self._part.name)}.*"))


@functools.lru_cache(maxsize=1)
def _quick_codec() -> Dict[str, Any]:
    """Return how the file is compressed that is read once more: three times as fast as deflate where GDAL can."""
    quick = {"compress": "zstd", "zstd_level": 1}
    try:
        with MemoryFile() as memory, memory.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", **quick):
            return quick
    except RasterioError:
        return {"compress": "deflate", "zlevel": 1}


def overview_factors(width: int, height: int) -> List[int]:
    """Return the reductions (2, 4, ...) down to the first overview that fits into one block."""
    factors, factor = [], 1
    while max(width, height) / factor > BLOCK:
        factor *= 2
        factors.append(factor)
    return factors


def colour_table(categories: Sequence[Category], nodata: Optional[float]) -> Dict[int, Tuple[int, int, int, int]]:
    """Return value -> (red, green, blue, alpha); classes without colour get one of their own; nodata is transparent."""
    table = {}
    for position, one in enumerate(categories):
        if one.value >= 0:
            table[one.value] = (*(one.color or default_colour(position)), 255)
    if table and nodata is not None and nodata >= 0:
        table[int(nodata)] = (0, 0, 0, 0)
    return table


def default_colour(position: int) -> Tuple[int, int, int]:
    """Return a colour that differs from its neighbours', by steps of the golden angle around the colour wheel."""
    hue = position * 0.6180339887 % 1.0 * 6
    rise = round((hue % 1.0) * 160) + 60
    fall = 280 - rise
    wheel = ((220, rise, 60), (fall, 220, 60), (60, 220, rise), (60, fall, 220), (rise, 60, 220), (220, 60, fall))
    return wheel[int(hue)]


def attribute_table(categories: Sequence[Category]) -> str:
    """Return GDAL's side file (``.aux.xml``) with category names and a raster attribute table."""
    names = {one.value: one.name for one in categories}
    last = max(names, default=-1)
    lines = ["<PAMDataset>", '  <PAMRasterBand band="1">']
    if 0 <= last <= _MAX_CATEGORY:
        lines.append("    <CategoryNames>")
        lines += [f"      <Category>{escape(names.get(value, ''))}</Category>" for value in range(last + 1)]
        lines.append("    </CategoryNames>")
    lines.append('    <GDALRasterAttributeTable tableType="thematic">')
    columns = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
    for index, (name, kind, usage) in enumerate(columns):
        lines.append(
            f'      <FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        )
    for index, one in enumerate(categories):
        cells = (one.value, one.name, *(one.color or default_colour(index)))
        row = "".join(f"<F>{escape(str(cell))}</F>" for cell in cells)
        lines.append(f'      <Row index="{index}">{row}</Row>')
    lines += ["    </GDALRasterAttributeTable>", "  </PAMRasterBand>", "</PAMDataset>", ""]
    return "\n".join(lines)


def rasterio_window(window: Window) -> RasterioWindow:
    """Return the window as rasterio takes it."""
    return RasterioWindow(window.col, window.row, window.width, window.height)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
