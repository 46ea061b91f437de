"""What all outputs share: room on the disk, part files, and a final name that is given to complete files only."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Iterator, Optional, Tuple

from ..errors import OutputError
from .grid import parse_crs

# Endings of vector files that can be written.
GEOJSON = (".geojson", ".json")
VECTOR_ENDINGS = (".gpkg", ".fgb", ".shp", *GEOJSON)
# Room that is asked for beyond the estimate.
_RESERVE = 1.2
# Virus scanners and indexers hold fresh files open for moments on Windows.
_REPLACE_PATIENCE = 5.0


def part_path(target: Path, tag: str = "part") -> Path:
    """Return the name under which ``target`` is written, in the same folder so that renaming is one step."""
    return target.with_name(f".{target.stem}.{tag}{target.suffix}")


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


def require_room(target: Path, size: int) -> None:
    """Refuse a job whose output cannot fit, before any work is done.

    Args:
        target: file or folder that will be written.
        size: bytes expected.

    Raises:
        OutputError: too little space, or the folder cannot be written to.
    """
    folder = existing_parent(target)
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"The folder “{folder}” cannot be written to.",
            stage="preparing the output",
            file=str(target),
            hint="Choose another place for the output.",
        )
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


def to_disk(path: Path) -> None:
    """Bring a file's content to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def give_name(part: Path, target: Path) -> None:
    """Give a complete part file its final name; an older file of that name is replaced in one step.

    Raises:
        OutputError: another program holds the old file open.
    """
    deadline = time.monotonic() + _REPLACE_PATIENCE
    while True:
        try:
            os.replace(part, target)
            break
        except PermissionError as error:
            if time.monotonic() > deadline:
                raise OutputError(
                    f"“{target}” is in use by another program and cannot be replaced.",
                    stage="writing",
                    file=str(target),
                    hint="Remove it from the project or close the program, then start the same job again.",
                ) from error
            time.sleep(0.2)
    if os.name != "nt":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def discard(*paths: Path) -> None:
    """Remove files that may be there."""
    for one in paths:
        with contextlib.suppress(OSError):
            one.unlink()


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.4g} TB"
