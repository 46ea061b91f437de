"""GDAL in a worker: its settings, its data sets, and its errors as sentences."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from typing import Any, Dict, Iterator

import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ..errors import RasterError
from ..jobs import RasterInput
from .grid import IMAGE_TRANSFORM, Grid, parse_crs
from .remote import attempts, hushed, is_remote, watched
from .remote import shown as shown

_MEGABYTE = 2**20
_MAX_CACHE = 512 * _MEGABYTE
# Blocks that stay decoded if nobody asks for more; a reader that needs more knows its windows.
_CACHE = 16 * _MEGABYTE
# Rasters from the network fail in bounded time and are tried again, here and in .remote; a variable of the same name
# sets it otherwise. A slow line may take long, one that gives less than 1,000 bytes a second is taken for dead.
_SETTINGS = {
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 1,
}
_FIXED = {
    # Code inside VRT files never runs.
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # What is known of a remote file is forgotten when it is closed: the next job must see it as it is then.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsicurl?:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/:/vsioss/:/vsiswift/",
}
_local = threading.local()


class _Process:
    """What GDAL has once in a process, not once in a thread."""

    cache = 0


_process = _Process()


def _settings() -> Dict[str, Any]:
    return {**{name: value for name, value in _SETTINGS.items() if name not in os.environ}, **_FIXED}


def prepare_gdal(cache_bytes: int = _CACHE) -> None:
    """Give this thread GDAL settings that suit a worker, and the process a block cache of so many bytes at least."""
    size = min(max(cache_bytes, _process.cache) or _CACHE, _MAX_CACHE)
    if getattr(_local, "environment", None) is None:
        # Kept for the life of the thread: opening and closing several sources in any order must not change settings.
        _local.environment = rasterio.Env(**_settings(), GDAL_CACHEMAX=size)
        _local.environment.__enter__()
    elif size > _process.cache:
        rasterio.env.setenv(GDAL_CACHEMAX=size)
    _process.cache = size


def limit_cache(cache_bytes: int) -> None:
    """Set the process's block cache to that size, larger or smaller; what is left over is given back as blocks come."""
    prepare_gdal(0)
    _process.cache = min(cache_bytes, _MAX_CACHE)
    rasterio.env.setenv(GDAL_CACHEMAX=_process.cache)


def cache_limit() -> int:
    """Return the size of the process's block cache in bytes."""
    return _process.cache


@contextlib.contextmanager
def gdal_errors(path: str, doing: str) -> Iterator[None]:
    """Turn what GDAL raises inside the block into a :class:`RasterError` that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (RasterioError, OSError, ValueError) as error:
        if isinstance(error, RasterError):
            raise
        said = hushed(_reason(error), path).strip().rstrip(".") or type(error).__name__
        raise RasterError(
            f"The raster “{shown(path)}” cannot be {doing}: {said}.",
            stage="reading",
            file=shown(path),
            hint="Check that the file exists, is complete and is a raster that GDAL reads.",
        ) from (error if shown(path) == path else None)  # GDAL's own words would carry the login into the log


def _reason(error: BaseException) -> str:
    """Return what GDAL said first; rasterio only points at it."""
    while "previous exception" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def open_dataset(raster: RasterInput, running: bool = False) -> Any:
    """Return the rasterio dataset of an input.

    Args:
        raster: the input.
        running: whether work may be lost, so that a server that is away is waited for longer.

    Raises:
        RasterError: it cannot be opened, holds no band, holds complex numbers, or lacks a band that is asked for.
    """
    prepare_gdal(0)
    dataset = _awaited(raster, running) if is_remote(raster.path) else _opened(raster)
    problem = _problem(raster, dataset)
    if problem:
        dataset.close()
        raise RasterError(f"The raster “{shown(raster.path)}” {problem}", stage="reading", file=shown(raster.path))
    return dataset


def _opened(raster: RasterInput) -> Any:
    options = dict(one.split("=", 1) for one in raster.open_options if "=" in one)
    with gdal_errors(raster.path, "opened"):
        return rasterio.open(raster.path, **options)


def _awaited(raster: RasterInput, running: bool) -> Any:
    """Open a remote raster, with further attempts while that makes sense."""
    with watched(raster.path):
        try:
            return _opened(raster)
        except RasterError as error:
            failed = error
        for _ in attempts([raster.path], {}, failed, running):
            with contextlib.suppress(RasterError):
                return _opened(raster)
    raise failed


def _problem(raster: RasterInput, dataset: Any) -> str:
    if dataset.count == 0:
        return "holds no band of its own, only data sets inside it. Choose one of them as a layer."
    if any("complex" in str(one) for one in dataset.dtypes):
        return "holds complex numbers. Export its amplitude first."
    missing = [one for one in raster.bands or () if not 1 <= one <= dataset.count]
    if missing:
        return f"has {dataset.count} bands and no band {missing[0]}."
    return ""


def dataset_grid(dataset: Any, crs: str = "") -> Grid:
    """Return the grid of an open dataset; ``crs`` replaces its own."""
    found = parse_crs(crs) if crs else (parse_crs(dataset.crs.to_wkt()) if dataset.crs else None)
    transform = dataset.transform
    if transform == Affine.identity() and found is None:
        transform = IMAGE_TRANSFORM
    return Grid(found.to_wkt() if found else "", transform, dataset.width, dataset.height)
