"""What all outputs share: the endings that can be written, room on the disk, and errors that name both."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Tuple

from ..errors import OutputError
from .grid import parse_crs

# Endings of vector files that can be written.
GEOJSON = (".geojson", ".json")
VECTOR_ENDINGS = (".gpkg", ".fgb", ".shp", *GEOJSON)
# Room that is asked for beyond the estimate.
_RESERVE = 1.2


def check_ending(target: Path, crs: str) -> None:
    """Refuse vector files that cannot be written, before any work is done.

    Args:
        target: path whose ending names the format.
        crs: WKT of the features, or empty.

    Raises:
        OutputError: the ending names an unknown format, or one that cannot tell where the features lie.
    """
    ending = target.suffix.lower()
    if ending not in VECTOR_ENDINGS:
        raise OutputError(
            f"“{target}” does not end like a vector file that can be written.",
            stage="preparing the output",
            file=str(target),
            hint="Choose a name that ends with .gpkg (recommended), .fgb, .shp or .geojson.",
        )
    if ending in GEOJSON and authority(crs) is None:
        raise OutputError(
            "GeoJSON can only name coordinate systems that have a number, such as EPSG:32632; this layer has none.",
            stage="preparing the output",
            file=str(target),
            hint="Choose a GeoPackage (.gpkg) as output.",
        )


def authority(crs: str) -> Optional[Tuple[str, str]]:
    """Return the authority and number of a coordinate system; None if it has none."""
    known = parse_crs(crs)
    found: Optional[Tuple[str, str]] = None if known is None else known.to_authority()
    return found


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above ``path`` that exists."""
    for one in path.absolute().parents:
        if one.is_dir():
            return one
    return Path(path.anchor or ".")


def require_room(sizes: Mapping[Path, int]) -> None:
    """Refuse a job whose outputs cannot fit, before any work is done.

    Args:
        sizes: files or folders that will be written, and the bytes expected of each.

    Raises:
        OutputError: too little space, or a folder cannot be written to.
    """
    disks: Dict[int, Tuple[Path, int]] = {}
    for target, size in sizes.items():
        folder = existing_parent(target)
        if not os.access(folder, os.W_OK):
            raise OutputError(
                f"The folder “{folder}” cannot be written to.",
                stage="preparing the output",
                file=str(target),
                hint="Choose another place for the output.",
            )
        disk = os.stat(folder).st_dev
        disks[disk] = (disks.get(disk, (target, 0))[0], disks.get(disk, (target, 0))[1] + size)
    for target, size in disks.values():
        folder = existing_parent(target)
        free, needed = shutil.disk_usage(folder).free, int(size * _RESERVE)
        if needed > free:
            raise OutputError(
                f"The output needs up to {_bytes(needed)}, but only {_bytes(free)} are free on the disk of “{folder}”.",
                stage="preparing the output",
                file=str(target),
                hint="Make space, choose another disk, a smaller extent or a larger cell size.",
            )


@contextlib.contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn what the system and GDAL raise while writing into an :class:`OutputError` that names file and free space."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if not isinstance(error, (OSError, ValueError, RuntimeError)) and "rasterio" not in type(error).__module__:
            raise
        if not target.parent.is_dir():
            raise OutputError(f"“{target}” cannot be written, its folder is gone.", file=str(target)) from error
        raise OutputError(
            f"“{target}” cannot be written: {str(error).strip().rstrip('.') or type(error).__name__}.",
            stage="writing",
            file=str(target),
            hint=f"{_bytes(shutil.disk_usage(target.parent).free)} are free there. Make space or choose another place; "
            "finished parts are kept, and the same job goes on from there.",
        ) from error


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.4g} TB"
