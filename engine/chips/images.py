"""Chips as image files: TIFF, PNG, JPEG or MRF, with their georeference."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Tuple
from xml.sax.saxutils import escape  # nosec B406 - writes, never parses

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from isal import isal_zlib
from PIL import Image

from ..errors import JobError
from ..raster.gdal import gdal_errors, prepare_gdal
from ..raster.grid import IMAGE_TRANSFORM, parse_crs
from . import tiff

Pixels = npt.NDArray[Any]
SUFFIX = {"TIFF": ".tif", "PNG": ".png", "JPEG": ".jpg", "MRF": ".mrf"}
_WORLD_SUFFIX = {"PNG": ".pgw", "JPEG": ".jgw"}
JPEG_QUALITY = 90


def check_holds(chip_format: str, bands: int, dtype: str) -> None:
    """Check that a chip format can hold such pixels.

    Raises:
        JobError: it cannot.
    """
    if chip_format not in SUFFIX:
        raise JobError(f"There is no chip format “{chip_format}”.", hint=f"Known are {', '.join(SUFFIX)}.")
    if chip_format in ("PNG", "JPEG") and bands not in (1, 3):
        raise JobError(
            f"{chip_format} chips hold 1 or 3 bands, but the raster has {bands}.",
            hint="Choose TIFF chips, or select 1 or 3 bands of the raster.",
        )
    allowed = {"PNG": ("uint8", "uint16"), "JPEG": ("uint8",)}.get(chip_format)
    if allowed and dtype not in allowed:
        raise JobError(
            f"{chip_format} chips hold {' or '.join(allowed)} pixels, but the raster has {dtype}.",
            hint="Choose TIFF chips, which keep every type.",
        )


@dataclass(frozen=True)
class ImageWriter:
    """Writes chips of one format.

    Attributes:
        chip_format: TIFF, PNG, JPEG or MRF.
        crs: WKT, or empty.
        georeferenced: whether world files are written beside formats that hold no georeference (not in pixel space).
    """

    chip_format: str
    crs: str
    georeferenced: bool = True

    @property
    def suffix(self) -> str:
        """Suffix of the image files, with the dot."""
        return SUFFIX[self.chip_format]

    def write(self, stem: Path, pixels: Pixels, transform: Affine) -> Tuple[Path, ...]:
        """Write ``stem`` + suffix and its side files; return all files, the image first.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        path = stem.with_name(stem.name + self.suffix)
        if self.chip_format == "MRF":
            return self._write_mrf(path, pixels, transform)
        encoder = _ENCODERS.get(self.chip_format)
        path.write_bytes(encoder(pixels) if encoder else tiff.encode(pixels, self.crs, transform))
        return (path, *self._side_files(stem, path, transform))

    def _side_files(self, stem: Path, path: Path, transform: Affine) -> Tuple[Path, ...]:
        if self.chip_format not in _WORLD_SUFFIX or not self.georeferenced:
            return ()
        if not self.crs and transform == IMAGE_TRANSFORM:
            return ()
        world = stem.with_name(stem.name + _WORLD_SUFFIX[self.chip_format])
        world.write_text(world_file(transform), encoding="ascii", newline="\r\n")
        if not self.crs:
            return (world,)
        aux = path.with_name(path.name + ".aux.xml")
        aux.write_text(f"<PAMDataset>\n  <SRS>{escape(self.crs)}</SRS>\n</PAMDataset>\n", encoding="utf-8")
        return world, aux

    def _write_mrf(self, path: Path, pixels: Pixels, transform: Affine) -> Tuple[Path, ...]:
        prepare_gdal()
        bands, rows, columns = pixels.shape
        profile = {"driver": "MRF", "count": bands, "height": rows, "width": columns, "dtype": pixels.dtype}
        profile.update(compress="DEFLATE", blocksize=max(64, min(512, -(-max(rows, columns) // 64) * 64)))
        profile.update(crs=parse_crs(self.crs), transform=transform)
        with gdal_errors(str(path), "written"), rasterio.open(path, "w", **profile) as out:
            out.write(pixels)
        beside = [path.with_suffix(one) for one in (".idx", ".pzp")]
        beside.append(path.with_name(path.name + ".aux.xml"))
        return (path, *(one for one in beside if one.exists()))


def world_file(transform: Affine) -> str:
    """Return the six lines of a world file: the centre of the upper left pixel and the steps."""
    x = (transform.a + transform.b) / 2 + transform.c
    y = (transform.d + transform.e) / 2 + transform.f
    return "".join(f"{one:.10f}\n" for one in (transform.a, transform.d, transform.b, transform.e, x, y))


def encode_png(pixels: Pixels) -> bytes:
    """Return (1 or 3, rows, columns) of 8 or 16 bits as PNG, as fast as OpenCV and with GDAL's bit depth."""
    bands, rows, columns = pixels.shape
    size = bands * pixels.dtype.itemsize
    lines = np.empty((rows, 1 + columns * size), dtype=np.uint8)
    lines[:, 0] = 1  # filter “Sub”: each byte less that of the pixel to the left
    if pixels.dtype == np.uint8:
        lines[:, 1:] = tiff.interleave(tiff.differences(pixels)).reshape(rows, -1)
    else:
        image = tiff.interleave(pixels).astype(pixels.dtype.newbyteorder(">"), copy=False)
        raw = image.reshape(rows, columns * bands).view(np.uint8)
        lines[:, 1 : 1 + size] = raw[:, :size]
        np.subtract(raw[:, size:], raw[:, :-size], out=lines[:, 1 + size :])
    data = tiff.deflate(lines)
    header = struct.pack(">IIBBBBB", columns, rows, 8 * pixels.dtype.itemsize, 2 if bands == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name)))


def encode_jpeg(pixels: Pixels) -> bytes:
    """Return (1 or 3, rows, columns) of 8 bits as JPEG."""
    image = tiff.interleave(pixels)
    buffer = io.BytesIO()
    Image.fromarray(image if len(pixels) == 3 else image[:, :, 0]).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


_ENCODERS: Dict[str, Callable[[Pixels], bytes]] = {"PNG": encode_png, "JPEG": encode_jpeg}
