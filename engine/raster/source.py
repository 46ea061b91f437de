"""Reading rasters: one or many files as one array on a processing grid, with what is data and what is not.

Invalid are pixels outside every file, those masked by a mask band or an alpha band, and those that :mod:`.validity`
finds: not a finite number, or nodata.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Dict, List, Literal, Optional, Sequence, Set, Tuple

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from ..errors import RasterError, SourceLostError
from ..jobs import RasterInput
from .gdal import dataset_grid, gdal_errors, open_dataset, prepare_gdal, shown
from .grid import Grid, parse_crs, same_crs, transform_bounds
from .remote import attempts, is_remote, version, watched
from .validity import Mask, Pixels, finite_data
from .window import Window

ResamplingName = Literal["nearest", "bilinear"]

_MEGABYTE = 2**20
_MAX_OPEN = 64
# Addresses of a mosaic's parts that are asked how they are when reading fails.
_MOST_ADDRESSES = 8
# Warping between two grids without CRS is plain affine arithmetic; GDAL wants a name for their common plane.
_PLANE = CRS.from_epsg(3857)


def source_grids(inputs: Sequence[RasterInput]) -> Tuple[Grid, ...]:
    """Return each input's own grid.

    Raises:
        RasterError: an input cannot be opened.
    """
    grids = []
    for one in inputs:
        with open_dataset(one) as dataset:
            grids.append(dataset_grid(dataset, one.crs))
    return tuple(grids)


@dataclass(frozen=True)
class _Facts:
    """What is known of a file without holding it open."""

    grid: Grid
    indexes: Tuple[int, ...]
    dtype: np.dtype[Any]
    descriptions: Tuple[str, ...]
    nodata: Tuple[Optional[float], ...]
    block_shape: Tuple[int, int]
    masked: bool
    addresses: Tuple[str, ...]


def _facts(raster: RasterInput, dataset: Any, bands: Optional[Sequence[int]]) -> _Facts:
    colours = dataset.colorinterp
    own = tuple(one for one in dataset.indexes if colours[one - 1] != ColorInterp.alpha) or tuple(dataset.indexes)
    chosen = tuple(raster.bands) if raster.bands else own
    if bands is not None:
        if any(not 1 <= one <= len(chosen) for one in bands):
            raise RasterError(
                f"The raster “{shown(raster.path)}” offers {len(chosen)} bands, but band {max(bands)} is needed.",
                stage="reading",
                file=shown(raster.path),
                hint="Choose a raster with the bands that the job needs.",
            )
        chosen = tuple(chosen[one - 1] for one in bands)
    nodata = _nodata(raster, dataset, chosen)
    dtype = np.result_type(*(np.dtype(_numpy_type(dataset.dtypes[one - 1])) for one in chosen))
    flags = dataset.mask_flag_enums[chosen[0] - 1]
    return _Facts(
        dataset_grid(dataset, raster.crs),
        chosen,
        dtype,
        tuple(dataset.descriptions[one - 1] or "" for one in chosen),
        nodata,
        dataset.block_shapes[chosen[0] - 1],
        MaskFlags.per_dataset in flags,
        _addresses(raster.path, dataset),
    )


def _addresses(path: str, dataset: Any) -> Tuple[str, ...]:
    """Return what of the raster comes over a network: its own path, or parts of a local mosaic."""
    if is_remote(path):
        return (path,)
    return tuple(one for one in dataset.files if is_remote(one))[:_MOST_ADDRESSES] if dataset.driver == "VRT" else ()


def _numpy_type(name: str) -> str:
    return {"int8": "i1", "uint8": "u1"}.get(name, name)


def _nodata(raster: RasterInput, dataset: Any, chosen: Sequence[int]) -> Tuple[Optional[float], ...]:
    if raster.nodata is None:
        return tuple(dataset.nodatavals[one - 1] for one in chosen)
    if len(raster.nodata) == 1:
        return tuple(raster.nodata[0] for _ in chosen)
    if len(raster.nodata) != dataset.count:
        raise RasterError(
            f"The raster “{shown(raster.path)}” has {dataset.count} bands, but {len(raster.nodata)} nodata values "
            "were given.",
            file=shown(raster.path),
        )
    return tuple(raster.nodata[one - 1] for one in chosen)


class _Layer:
    """One open file on the grid of the job: read directly where the pixels coincide, warped otherwise."""

    def __init__(
        self, raster: RasterInput, facts: _Facts, grid: Grid, resampling: ResamplingName, running: bool
    ) -> None:
        self.path = raster.path
        self._raster, self._facts, self._grid, self._resampling = raster, facts, grid, resampling
        self._running = running
        self._versions: Dict[str, Any] = {one: version(one) for one in facts.addresses}
        offset = facts.grid.offset_in(grid)
        self._direct = offset is not None
        self._window = Window(*(offset or (0, 0)), facts.grid.width, facts.grid.height)
        if not self._direct:
            self._window = grid.window
        self._open()

    def _open(self) -> None:
        self._dataset = open_dataset(self._raster, self._running)
        self._reader = self._dataset
        if not self._direct:
            with gdal_errors(self.path, "brought onto the processing grid"):
                self._reader = self._warped(self._grid, self._resampling)

    def _warped(self, grid: Grid, resampling: ResamplingName) -> Any:
        both_local = not (self._facts.grid.crs and grid.crs)
        if both_local and not same_crs(self._facts.grid.crs, grid.crs):
            raise RasterError(
                f"The raster “{shown(self.path)}” cannot be combined with the others, because only one of them has a "
                "coordinate reference system.",
                stage="reading",
                file=shown(self.path),
                hint="Set the CRS of the raster that lacks it.",
            )
        # Smooth resampling must not mix nodata into its neighbours; nearest keeps values, so the check below suffices.
        known = [one for one in self._facts.nodata if one is not None and not math.isnan(one)]
        return WarpedVRT(
            self._dataset,
            src_crs=_PLANE if both_local else parse_crs(self._facts.grid.crs),
            crs=_PLANE if both_local else parse_crs(grid.crs),
            src_transform=self._facts.grid.transform,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=Resampling[resampling],
            src_nodata=known[0] if known and resampling != "nearest" else None,
            add_alpha=ColorInterp.alpha not in self._dataset.colorinterp,
        )

    def read(self, window: Window) -> Optional[Tuple[Window, Pixels, Mask]]:
        """Return the part of ``window`` that this file holds, with its pixels and mask; None if there is none."""
        part = window.intersection(self._window)
        if part.is_empty:
            return None
        if self._facts.addresses:
            return self._awaited(part)
        try:
            return self._read(part)
        except RasterError:
            # GDAL says only once why some files cannot be read, and rasterio takes silence for success: zeros.
            self.close()
            self._open()
            raise

    def _awaited(self, part: Window) -> Tuple[Window, Pixels, Mask]:
        """Read from the network, with further attempts while that makes sense; each with a file opened anew."""
        with watched(self.path):
            try:
                return self._read(part)
            except RasterError as error:
                failed = error
            for _ in attempts(self._facts.addresses, self._versions, failed, self._running):
                try:
                    self.close()
                    self._open()
                    return self._read(part)
                except SourceLostError:
                    raise
                except RasterError:
                    continue
        raise failed

    def _read(self, part: Window) -> Tuple[Window, Pixels, Mask]:
        local = part if not self._direct else part.shifted(-self._window.col, -self._window.row)
        where = RasterioWindow(local.col, local.row, local.width, local.height)
        with gdal_errors(self.path, "read"):
            pixels = self._reader.read(list(self._facts.indexes), window=where)
            mask = self._mask(where)
        return part, pixels, mask & finite_data(pixels, self._facts.nodata)

    def _mask(self, where: RasterioWindow) -> Any:
        if not self._direct:
            alpha = self._reader.colorinterp.index(ColorInterp.alpha) + 1
            return self._reader.read(alpha, window=where) > 0
        if self._facts.masked:
            return self._reader.read_masks(self._facts.indexes[0], window=where) > 0
        return np.True_

    def close(self) -> None:
        if self._reader is not self._dataset:
            self._reader.close()
        self._dataset.close()


class RasterSource:
    """One or several rasters as one mosaic on a grid; where files overlap, the first valid pixel wins.

    Use :meth:`open`. Memory depends on the window asked for and on the block cache, not on the size of the rasters; at
    most 64 files are open at a time.

    Attributes:
        grid: the grid that windows refer to.
        count: number of bands.
        dtype: numpy type of the pixels, the smallest that holds all inputs.
        descriptions: name of each band, empty if it has none.
        nodata: nodata value of each band of the first input, or None.
        block_shape: (rows, columns) in which the first input is stored.
        used: inputs that were read from; for the caller to clear.
    """

    def __init__(
        self,
        inputs: Sequence[RasterInput],
        facts: Sequence[_Facts],
        grid: Grid,
        resampling: ResamplingName,
        running: bool = False,
    ) -> None:
        self._inputs = tuple(inputs)
        self._facts = tuple(facts)
        self._resampling = resampling
        self._running = running
        self.used: Set[RasterInput] = set()
        self._layers: OrderedDict[int, _Layer] = OrderedDict()
        self._boxes = [_box(one.grid, grid) for one in facts]
        self.grid = grid
        self.count = len(facts[0].indexes)
        self.dtype = np.result_type(*(one.dtype for one in facts))
        self.descriptions = facts[0].descriptions
        self.nodata = facts[0].nodata
        self.block_shape = facts[0].block_shape

    @classmethod
    def open(
        cls,
        inputs: Sequence[RasterInput],
        grid: Optional[Grid] = None,
        bands: Optional[Sequence[int]] = None,
        resampling: ResamplingName = "nearest",
        cache_mb: int = 64,
        reach: int = 0,
        running: bool = False,
    ) -> RasterSource:
        """Open rasters for reading on ``grid`` (default: the first input's own).

        Args:
            inputs: at least one.
            grid: processing grid; an input whose pixels do not coincide with it is warped on the fly.
            bands: 1-based positions among the selected bands of each input, in the order wanted; None for all. An alpha
                band is a mask, not data, unless the input selects it.
            resampling: how pixels are made where the grids differ.
            cache_mb: block cache; raised where rows of blocks of the file need more.
            reach: columns of the widest window that will be read; 0 for windows as wide as the file.
            running: whether the job has begun, so that a server that is away is waited for longer.

        Raises:
            RasterError: an input cannot be opened or lacks bands, or the inputs differ in their number of bands.
        """
        if not inputs:
            raise RasterError("There is no raster to read.")
        facts: List[_Facts] = []
        need = cache_mb * _MEGABYTE
        for one in inputs:
            with open_dataset(one, running) as dataset:
                facts.append(_facts(one, dataset, bands))
                need = max(need, _rows_of_blocks(dataset, facts[-1], grid, reach))
            if len(facts[-1].indexes) != len(facts[0].indexes):
                raise RasterError(
                    f"“{shown(one.path)}” has {len(facts[-1].indexes)} bands, but “{shown(inputs[0].path)}” has "
                    f"{len(facts[0].indexes)}; they cannot form one mosaic.",
                    stage="reading",
                    file=shown(one.path),
                )
        prepare_gdal(need)
        return cls(inputs, facts, grid or facts[0].grid, resampling, running)

    def read(self, window: Window) -> Tuple[Pixels, Mask]:
        """Return (bands, rows, columns) pixels and (rows, columns) validity of a window that may reach outside.

        Pixels outside every file are 0 and invalid; other invalid pixels keep the value of the first file there.
        Both arrays are the caller's own.

        Raises:
            RasterError: a file cannot be read.
        """
        hits = [index for index, box in enumerate(self._boxes) if not window.intersection(box).is_empty]
        if len(hits) == 1:
            found = self._layer(hits[0]).read(window)
            if found is not None and found[0] == window:
                return np.ascontiguousarray(found[1].astype(self.dtype, copy=False)), found[2]
        pixels = np.zeros((self.count, window.height, window.width), dtype=self.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        touched = np.zeros_like(valid)
        for index in hits:
            found = self._layer(index).read(window)
            if found is None:
                continue
            part, values, mask = found
            rows, columns = part.slices(window)
            fresh = ~valid[rows, columns] & (mask | ~touched[rows, columns])
            np.copyto(pixels[:, rows, columns], values, where=fresh, casting="unsafe")
            valid[rows, columns] |= mask
            touched[rows, columns] = True
            if valid.all():
                break
        return pixels, valid

    def _layer(self, index: int) -> _Layer:
        self.used.add(self._inputs[index])
        if index in self._layers:
            self._layers.move_to_end(index)
        else:
            self._layers[index] = _Layer(
                self._inputs[index], self._facts[index], self.grid, self._resampling, self._running
            )
            if len(self._layers) > _MAX_OPEN:
                self._layers.popitem(last=False)[1].close()
        return self._layers[index]

    def close(self) -> None:
        """Close all files; the source cannot be read afterwards."""
        while self._layers:
            self._layers.popitem()[1].close()

    def __enter__(self) -> RasterSource:
        """Return the source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all files."""
        self.close()


def _rows_of_blocks(dataset: Any, facts: _Facts, grid: Optional[Grid], reach: int) -> int:
    """Return the bytes of the blocks that windows one below the other share, and of those that are read beside them."""
    rows, columns = facts.block_shape
    width = dataset.width
    if reach and (grid is None or facts.grid.offset_in(grid) is not None):
        width = min(width, reach + 2 * columns)
    return int(3 * rows * width * dataset.count * facts.dtype.itemsize)


def _box(grid: Grid, target: Grid) -> Window:
    """Return the pixels of ``target`` that ``grid`` may touch, one pixel wider where it has to be warped."""
    offset = grid.offset_in(target)
    if offset is not None:
        return Window(offset[0], offset[1], grid.width, grid.height)
    try:
        xmin, ymin, xmax, ymax = transform_bounds(grid.bounds, grid.crs, target.crs)
    except ValueError:
        return target.window
    columns, rows = target.to_pixel(np.array([xmin, xmax, xmin, xmax]), np.array([ymin, ymin, ymax, ymax]))
    left, top = math.floor(columns.min()), math.floor(rows.min())
    return Window(left, top, math.ceil(columns.max()) - left, math.ceil(rows.max()) - top).expanded(1)
