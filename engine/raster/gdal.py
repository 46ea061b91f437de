"""GDAL in a worker: its settings, its data sets, and its errors as sentences."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from typing import Any, Iterator

import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ..errors import RasterError
from ..jobs import RasterInput
from .grid import IMAGE_TRANSFORM, Grid, parse_crs

_MEGABYTE = 2**20
_MAX_CACHE = 512 * _MEGABYTE
_SETTINGS = {
    # Rasters from the network fail in bounded time and are tried again; code inside VRT files never runs.
    "GDAL_HTTP_TIMEOUT": 30,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}
_local = threading.local()


def shown(path: str) -> str:
    """Return a path or URL as it may be shown and logged: without user, password and query."""
    return re.sub(r"(\w+://)[^/@\s]*@", r"\1", re.sub(r"(https?://[^?\s]*)\?\S*", r"\1", path))


def prepare_gdal(cache_bytes: int = 64 * _MEGABYTE) -> None:
    """Give this thread GDAL settings that suit a worker; the block cache only ever grows (bytes, at most 512 MB)."""
    size = min(max(cache_bytes, getattr(_local, "cache", 0)), _MAX_CACHE)
    if getattr(_local, "environment", None) is None:
        # Kept for the life of the thread: opening and closing several sources in any order must not change settings.
        _local.environment = rasterio.Env(**_SETTINGS, GDAL_CACHEMAX=size)
        _local.environment.__enter__()
    elif size > _local.cache:
        rasterio.env.setenv(GDAL_CACHEMAX=size)
    _local.cache = size


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
        said = str(error).replace(path, shown(path)).strip() or type(error).__name__
        raise RasterError(
            f"The raster “{shown(path)}” cannot be {doing}: {said}.",
            stage="reading",
            file=shown(path),
            hint="Check that the file exists, is complete and is a raster that GDAL reads.",
        ) from error


def open_dataset(raster: RasterInput) -> Any:
    """Return the rasterio dataset of an input.

    Raises:
        RasterError: it cannot be opened, holds no band, holds complex numbers, or lacks a band that is asked for.
    """
    prepare_gdal()
    options = dict(one.split("=", 1) for one in raster.open_options if "=" in one)
    with gdal_errors(raster.path, "opened"):
        dataset = rasterio.open(raster.path, **options)
    problem = _problem(raster, dataset)
    if problem:
        dataset.close()
        raise RasterError(f"The raster “{shown(raster.path)}” {problem}", stage="reading", file=shown(raster.path))
    return dataset


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
