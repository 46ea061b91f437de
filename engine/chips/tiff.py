"""A small writer of GeoTIFF chips: one tile (or a few), DEFLATE with predictor, georeferenced.

Why not GDAL: a chip is 200 kB, and creating, describing and closing a GDAL data set costs more than compressing it. The
tags that describe the CRS are taken from a file that GDAL wrote once, so they are GDAL's own. Bands of 8-bit images
with 1, 3 or 4 bands are interleaved by pixel, which every image library reads; others are stored band by band.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
from affine import Affine
from isal import isal_zlib
from rasterio.io import MemoryFile

from ..raster.gdal import prepare_gdal
from ..raster.grid import IMAGE_TRANSFORM, parse_crs

Pixels = npt.NDArray[Any]
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d", _ASCII: "s"}
_OFFSETS, _LENGTHS = 324, 325
_GEO_KEYS = (34735, 34736, 34737)
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}
Tag = Tuple[int, int, bytes]  # type, count, packed values


def encode(pixels: Pixels, crs: str = "", transform: Optional[Affine] = None, nodata: Optional[float] = None) -> bytes:
    """Return a GeoTIFF.

    Args:
        pixels: (bands, rows, columns), integers of 8 to 64 bits or floats of 32 or 64 bits.
        crs: WKT or empty.
        transform: (column, row) to map; None or the transform of a bare image: no georeference.
        nodata: nodata value to declare.
    """
    bands, rows, columns = pixels.shape
    interleaved = pixels.dtype == np.uint8 and bands in (1, 3, 4)
    width, height = _tile_side(columns), _tile_side(rows)
    predictor = _predictor(pixels.dtype)
    data = [_compressed(one, predictor) for one in _tiles(pixels, width, height, interleaved)]
    place = _place(crs, transform)
    head, at = _header(pixels.shape, pixels.dtype.str, (width, height), len(data), crs, tuple(place), nodata)
    header = bytearray(head)
    offset = len(header)
    for number, one in enumerate(data):
        struct.pack_into("<I", header, at[_OFFSETS] + 4 * number, offset)
        struct.pack_into("<I", header, at[_LENGTHS] + 4 * number, len(one))
        offset += len(one)
    for key, values in place.items():
        struct.pack_into(f"<{len(values)}d", header, at[key], *values)
    return b"".join([header, *data])


def _tile_side(pixels: int) -> int:
    """Return the side of tiles, a multiple of 16: one tile for usual chips, 256 for large ones."""
    return -(-pixels // 16) * 16 if pixels <= 1024 else 256


def _tiles(pixels: Pixels, width: int, height: int, interleaved: bool) -> List[Pixels]:
    """Return tiles in file order, each (bands, rows, columns); the last ones are filled with zeros."""
    bands, rows, columns = pixels.shape
    across, down = -(-columns // width), -(-rows // height)
    if (across * width, down * height) != (columns, rows):
        pixels = np.pad(pixels, ((0, 0), (0, down * height - rows), (0, across * width - columns)))
    planes = [pixels] if interleaved else [pixels[band : band + 1] for band in range(bands)]
    return [
        plane[:, row : row + height, column : column + width]
        for plane in planes
        for row in range(0, down * height, height)
        for column in range(0, across * width, width)
    ]


def _predictor(dtype: np.dtype[Any]) -> int:
    if dtype.kind == "f":
        return 3
    return 2 if dtype.itemsize <= 4 else 1


def _compressed(tile: Pixels, predictor: int) -> bytes:
    if predictor == 2:
        data = interleave(differences(tile))
    elif predictor == 3:
        data = _float_predicted(tile[0])
    else:
        data = np.ascontiguousarray(tile)
    return deflate(data)


def deflate(data: Pixels) -> bytes:
    """Return a zlib stream of a contiguous array's bytes: three times as fast as zlib's fastest, and no larger."""
    return bytes(isal_zlib.compress(data.data.cast("B") if data.size else b"", 1))


def differences(pixels: Pixels) -> Pixels:
    """Return each pixel of (bands, rows, columns) less the one to its left; before they are interleaved it is fast."""
    result = np.empty(pixels.shape, dtype=pixels.dtype)
    result[:, :, 0] = pixels[:, :, 0]
    np.subtract(pixels[:, :, 1:], pixels[:, :, :-1], out=result[:, :, 1:])
    return result


def interleave(pixels: Pixels) -> Pixels:
    """Return (rows, columns, bands) of (bands, rows, columns), contiguous."""
    bands, rows, columns = pixels.shape
    if bands == 1:
        return pixels.reshape(rows, columns, 1)
    result = np.empty((rows, columns, bands), dtype=pixels.dtype)
    for band in range(bands):  # three times as fast as one transposed copy
        result[:, :, band] = pixels[band]
    return result


def _float_predicted(tile: Pixels) -> Pixels:
    """Return a plane of floats as bytes, most significant bytes of a row first, each less the one before it."""
    rows, columns = tile.shape
    size = tile.dtype.itemsize
    parts = np.ascontiguousarray(tile).astype(tile.dtype.newbyteorder(">")).view(np.uint8)
    planes = np.ascontiguousarray(parts.reshape(rows, columns, size).transpose(0, 2, 1)).reshape(rows, columns * size)
    result = planes.copy()
    np.subtract(planes[:, 1:], planes[:, :-1], out=result[:, 1:])
    return result


def _pack(kind: int, *values: Any) -> Tag:
    return kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def _ascii(text: str) -> Tag:
    data = text.encode("ascii", "replace") + b"\0"
    return _ASCII, len(data), data


def _tags(shape: Tuple[int, int, int], dtype: np.dtype[Any], tile: Tuple[int, int]) -> Dict[int, Tag]:
    bands, rows, columns = shape
    interleaved = dtype == np.uint8 and bands in (1, 3, 4)
    rgb = interleaved and bands >= 3
    extra = bands - (3 if rgb else 1)
    tags = {
        256: _pack(_LONG, columns),
        257: _pack(_LONG, rows),
        258: _pack(_SHORT, *[dtype.itemsize * 8] * bands),
        259: _pack(_SHORT, 8),
        262: _pack(_SHORT, 2 if rgb else 1),
        277: _pack(_SHORT, bands),
        284: _pack(_SHORT, 1 if interleaved else 2),
        317: _pack(_SHORT, _predictor(dtype)),
        322: _pack(_LONG, tile[0]),
        323: _pack(_LONG, tile[1]),
        339: _pack(_SHORT, *[_SAMPLE_FORMAT[dtype.kind]] * bands),
    }
    if extra:
        tags[338] = _pack(_SHORT, *[0] * extra)
    return tags


def _place(crs: str, transform: Optional[Affine]) -> Dict[int, Tuple[float, ...]]:
    """Return the tags that say where the chip lies, the only ones that differ from chip to chip."""
    if transform is None or (not crs and transform == IMAGE_TRANSFORM):
        return {}
    one = transform
    if one.b == 0 and one.d == 0 and one.a > 0 and one.e < 0:
        return {33550: (one.a, -one.e, 0.0), 33922: (0.0, 0.0, 0.0, one.c, one.f, 0.0)}
    last = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    return {34264: (one.a, one.b, 0.0, one.c, one.d, one.e, 0.0, one.f, *last)}


@lru_cache(maxsize=64)
def _header(
    shape: Tuple[int, int, int],
    dtype: str,
    tile: Tuple[int, int],
    count: int,
    crs: str,
    place: Tuple[int, ...],
    nodata: Optional[float],
) -> Tuple[bytes, Dict[int, int]]:
    """Return header and directory of all chips of one kind, and where the values of each tag lie in it."""
    tags = _tags(shape, np.dtype(dtype), tile)
    tags[_OFFSETS] = tags[_LENGTHS] = (_LONG, count, b"\0" * 4 * count)
    sizes = {33550: 3, 33922: 6, 34264: 16}
    if place:
        tags.update(_crs_tags(crs))
        tags.update({key: (_DOUBLE, sizes[key], b"\0" * 8 * sizes[key]) for key in place})
    if nodata is not None:
        tags[42113] = _ascii(f"{nodata:.17g}")
    return _directory(tags)


@lru_cache(maxsize=32)
def _crs_tags(crs: str) -> Dict[int, Tag]:
    """Return the GeoTIFF keys that GDAL writes for a CRS."""
    prepare_gdal()
    profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    with MemoryFile() as memory:
        with memory.open(**profile, crs=parse_crs(crs), transform=Affine(2, 0, 10, 0, -2, 10)):
            pass
        found = read_tags(memory.read())
    return {key: found[key] for key in _GEO_KEYS if key in found}


def read_tags(data: bytes) -> Dict[int, Tag]:
    """Return the tags of the first directory of a little-endian TIFF."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
    offset = struct.unpack_from("<I", data, 4)[0]
    tags: Dict[int, Tag] = {}
    for index in range(struct.unpack_from("<H", data, offset)[0]):
        at = offset + 2 + 12 * index
        key, kind, count = struct.unpack_from("<HHI", data, at)
        length = sizes[kind] * count
        start = at + 8 if length <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        tags[key] = (kind, count, data[start : start + length])
    return tags


def _directory(tags: Dict[int, Tag]) -> Tuple[bytes, Dict[int, int]]:
    """Return header, directory and long values, and the position of each tag's values."""
    start = 8
    end = start + 2 + 12 * len(tags) + 4
    head = [struct.pack("<2sHIH", b"II", 42, start, len(tags))]
    tail, places = [], {}
    for index, key in enumerate(sorted(tags)):
        kind, count, value = tags[key]
        if len(value) <= 4:
            places[key] = start + 2 + 12 * index + 8
            head.append(struct.pack("<HHI", key, kind, count) + value.ljust(4, b"\0"))
            continue
        places[key] = end
        head.append(struct.pack("<HHII", key, kind, count, end))
        tail.append(value + b"\0" * (len(value) % 2))
        end += len(tail[-1])
    return b"".join([*head, struct.pack("<I", 0), *tail]), places
