"""Reading the pixels of tiles in a worker: one open source an item, one reader thread that is always a row ahead."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import RasterError
from ..jobs import RasterInput
from ..raster.gdal import cache_limit, limit_cache
from ..raster.grid import Grid
from ..raster.source import RasterSource
from ..raster.window import Window
from ..workers.task import TaskContext
from .bands import BandSource, is_in_rows

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
# Blocks that a worker keeps decoded; raised for files whose rows of blocks are larger.
CACHE_MB = 8


class PairSource:
    """Two dates on one grid as one raster: the bands of the first, then those of the second; valid where both are."""

    def __init__(self, first: RasterSource, second: RasterSource, bands: Optional[Sequence[int]]) -> None:
        self._first, self._second = first, second
        self.used = second.used = first.used
        self._bands = None if bands is None else [one - 1 for one in bands]
        self._dtype = np.result_type(first.dtype, second.dtype)

    def read(self, window: Window) -> Tuple[Pixels, Mask]:
        """Return (bands, rows, columns) pixels and validity."""
        one, valid = self._first.read(window)
        other, also = self._second.read(window)
        pixels = np.concatenate([one, other]).astype(self._dtype, copy=False)
        return (pixels if self._bands is None else np.ascontiguousarray(pixels[self._bands])), valid & also

    def close(self) -> None:
        """Close both."""
        self._first.close()
        self._second.close()


def open_source(
    inputs: Sequence[RasterInput],
    second: Sequence[RasterInput],
    grid: Grid,
    bands: Optional[Sequence[int]],
    resampling: str,
    reach: int = 0,
    folder: Optional[Path] = None,
) -> Any:
    """Return the source of an item, and give the process the block cache that it needs.

    Args:
        inputs: files of the item.
        second: files of the second date.
        grid: processing grid.
        bands: 1-based bands to read, or None for all.
        resampling: how pixels are made where grids differ.
        reach: columns of the widest window that will be read; 0 for windows as wide as the file.
        folder: for decoded rows of files whose rows are wider than windows; None to do without.
    """
    smooth: Any = resampling
    limit_cache(CACHE_MB * 2**20)
    if not second:
        source = RasterSource.open(inputs, grid, bands, smooth, CACHE_MB, reach, running=True)
        if folder is None or len(inputs) > 1 or reach >= grid.width or not is_in_rows(source.block_shape):
            return source
        return BandSource(source, folder)
    pair = PairSource(
        RasterSource.open(inputs, grid, None, smooth, CACHE_MB, reach, running=True),
        RasterSource.open(second, grid, None, smooth, CACHE_MB, reach, running=True),
        bands,
    )
    limit_cache(2 * cache_limit())
    return pair


class Reader:
    """The reader thread of a worker, kept between tasks; GDAL data sets belong to it alone."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._key: Any = None
        self._source: Any = None
        self._seconds = self._waited = 0.0

    @classmethod
    def of(cls, context: TaskContext) -> Reader:
        """Return the worker's reader."""
        reader = context.state.get("inference.reader")
        if not isinstance(reader, Reader):
            reader = context.state["inference.reader"] = cls()
        return reader

    def use(self, key: Any, opening: Callable[[], Any]) -> None:
        """Read from the source that ``opening`` returns from now on; it stays open while ``key`` is the same."""
        if key != self._key:
            self._thread.submit(self._open, key, opening).result()
        self._source.used.clear()

    def _open(self, key: Any, opening: Callable[[], Any]) -> None:
        self._close()
        self._source = opening()
        self._key = key

    def read(self, window: Window) -> Future[Tuple[Pixels, Mask]]:
        """Begin to read a window."""
        return self._thread.submit(self._read, window)

    def _read(self, window: Window) -> Tuple[Pixels, Mask]:
        start = time.thread_time()
        try:
            pixels, valid = self._source.read(window)
            return pixels, valid
        finally:
            self._seconds += time.thread_time() - start

    def result(self, future: Future[Tuple[Pixels, Mask]]) -> Any:
        """Wait for a window; one that cannot be read gives its RasterError in place of pixels."""
        start = time.monotonic()
        try:
            return future.result()
        except RasterError as error:
            return error
        finally:
            self._waited += time.monotonic() - start

    def take_times(self) -> Tuple[float, float]:
        """Return the processor seconds of reading and the seconds of waiting for it since the last time."""
        found = (self._seconds, self._waited)
        self._seconds = self._waited = 0.0
        return found

    @property
    def used(self) -> Set[RasterInput]:
        """Inputs that were read from since the last :meth:`use`."""
        found: Set[RasterInput] = self._source.used if self._source is not None else set()
        return found

    def rest(self) -> None:
        """Close the source and forget its blocks, as no task will read from it soon."""
        self._thread.submit(self._close).result()

    def _close(self) -> None:
        self._key = None
        if self._source is not None:
            self._source.close()
            self._source = None


def read_ahead(reader: Reader, windows: List[Optional[Window]]) -> Any:
    """Yield (pixels, valid) of each window in turn, None for None; while one is used, the next one is read.

    A window that cannot be read gives its RasterError in place of pixels.
    """
    futures: List[Optional[Future[Tuple[Pixels, Mask]]]] = [None] * len(windows)

    def start(position: int) -> None:
        window = windows[position] if position < len(windows) else None
        if window is not None:
            futures[position] = reader.read(window)

    try:
        start(0)
        for position in range(len(windows)):
            start(position + 1)
            future = futures[position]
            futures[position] = None
            yield None if future is None else reader.result(future)
    finally:
        for one in futures:
            if one is not None:
                one.cancel()
