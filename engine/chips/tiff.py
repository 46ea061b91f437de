"""A small writer of GeoTIFF chips: one tile (or a few), DEFLATE with predictor, georeferenced.

Why not GDAL: a chip is 200 kB, and creating, describing and closing a GDAL data set costs more than compressing it. The
tags that describe the CRS are taken from a file that GDAL wrote once, so they are GDAL's own. Bands of 8-bit images
with 1, 3 or 4 bands are interleaved by pixel, which every image library reads; others are stored band by band.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.io import MemoryFile

from ..raster.gdal import prepare_gdal
from ..raster.grid import IMAGE_TRANSFORM, parse_crs

Pixels = npt.NDArray[Any]
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d", _ASCII: "s"}
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
    tiles = _tiles(pixels, width, height, interleaved)
    predictor = _predictor(pixels.dtype)
    data = [_compressed(one, predictor, interleaved) for one in tiles]
    tags = _tags(pixels, width, height, interleaved, predictor)
    tags.update(_georeference(crs, transform))
    if nodata is not None:
        tags[42113] = _ascii(f"{nodata:.17g}")
    return _assemble(tags, data)


def _tile_side(pixels: int) -> int:
    """Return the side of tiles, a multiple of 16: one tile for usual chips, 256 for large ones."""
    return -(-pixels // 16) * 16 if pixels <= 1024 else 256


def _tiles(pixels: Pixels, width: int, height: int, interleaved: bool) -> List[Pixels]:
    """Return tiles in file order, each (rows, columns, samples); the last ones are filled with zeros."""
    bands, rows, columns = pixels.shape
    across, down = -(-columns // width), -(-rows // height)
    if (across * width, down * height) != (columns, rows):
        pixels = np.pad(pixels, ((0, 0), (0, down * height - rows), (0, across * width - columns)))
    planes = [np.moveaxis(pixels, 0, 2)] if interleaved else [pixels[band][:, :, None] for band in range(bands)]
    return [
        plane[row : row + height, column : column + width]
        for plane in planes
        for row in range(0, down * height, height)
        for column in range(0, across * width, width)
    ]


def _predictor(dtype: np.dtype[Any]) -> int:
    if dtype.kind == "f":
        return 3
    return 2 if dtype.itemsize <= 4 else 1


def _compressed(tile: Pixels, predictor: int, interleaved: bool) -> bytes:
    # Differences of neighbours are noise for a dictionary: run lengths and Huffman codes alone are twice as fast and
    # no larger.
    strategy = zlib.Z_RLE if predictor == 2 and tile.dtype.itemsize == 1 else zlib.Z_DEFAULT_STRATEGY
    if predictor == 2:
        data = np.empty(tile.shape, dtype=tile.dtype)
        data[:, 0] = tile[:, 0]
        np.subtract(tile[:, 1:], tile[:, :-1], out=data[:, 1:])
    elif predictor == 3:
        data = _float_predicted(tile)
    else:
        data = np.ascontiguousarray(tile)
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return packer.compress(data.data.cast("B") if data.size else b"") + packer.flush()


def _float_predicted(tile: Pixels) -> Pixels:
    """Return a plane of floats as bytes, most significant bytes of a row first, each less the one before it."""
    rows, columns, _ = tile.shape
    size = tile.dtype.itemsize
    parts = np.ascontiguousarray(tile[:, :, 0]).astype(tile.dtype.newbyteorder(">")).view(np.uint8)
    planes = np.ascontiguousarray(parts.reshape(rows, columns, size).transpose(0, 2, 1)).reshape(rows, columns * size)
    result = planes.copy()
    np.subtract(planes[:, 1:], planes[:, :-1], out=result[:, 1:])
    return result


def _pack(kind: int, *values: Any) -> Tag:
    return kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def _ascii(text: str) -> Tag:
    data = text.encode("ascii", "replace") + b"\0"
    return _ASCII, len(data), data


def _tags(pixels: Pixels, width: int, height: int, interleaved: bool, predictor: int) -> Dict[int, Tag]:
    bands, rows, columns = pixels.shape
    rgb = interleaved and bands >= 3
    extra = bands - (3 if rgb else 1)
    tags = {
        256: _pack(_LONG, columns),
        257: _pack(_LONG, rows),
        258: _pack(_SHORT, *[pixels.dtype.itemsize * 8] * bands),
        259: _pack(_SHORT, 8),
        262: _pack(_SHORT, 2 if rgb else 1),
        277: _pack(_SHORT, bands),
        284: _pack(_SHORT, 1 if interleaved else 2),
        317: _pack(_SHORT, predictor),
        322: _pack(_LONG, width),
        323: _pack(_LONG, height),
        339: _pack(_SHORT, *[_SAMPLE_FORMAT[pixels.dtype.kind]] * bands),
    }
    if extra:
        tags[338] = _pack(_SHORT, *[0] * extra)
    return tags


def _georeference(crs: str, transform: Optional[Affine]) -> Dict[int, Tag]:
    if transform is None or (not crs and transform == IMAGE_TRANSFORM):
        return {}
    one = transform
    tags = dict(_crs_tags(crs))
    if one.b == 0 and one.d == 0 and one.a > 0 and one.e < 0:
        tags[33550] = _pack(_DOUBLE, one.a, -one.e, 0.0)
        tags[33922] = _pack(_DOUBLE, 0.0, 0.0, 0.0, one.c, one.f, 0.0)
    else:
        last = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        tags[34264] = _pack(_DOUBLE, one.a, one.b, 0.0, one.c, one.d, one.e, 0.0, one.f, *last)
    return tags


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


def _assemble(tags: Dict[int, Tag], data: List[bytes]) -> bytes:
    """Return the file: header, directory, long values, tiles."""
    tags[325] = _pack(_LONG, *[len(one) for one in data])
    tags[324] = _pack(_LONG, *[0] * len(data))
    directory = 8
    values_at = directory + 2 + 12 * len(tags) + 4
    places, end = {}, values_at
    for key in sorted(tags):
        if len(tags[key][2]) > 4:
            places[key] = end
            end += len(tags[key][2]) + len(tags[key][2]) % 2
    offsets, at = [], end
    for one in data:
        offsets.append(at)
        at += len(one)
    tags[324] = _pack(_LONG, *offsets)
    head = [struct.pack("<2sHIH", b"II", 42, directory, len(tags))]
    tail = []
    for key in sorted(tags):
        kind, count, value = tags[key]
        inline = value.ljust(4, b"\0") if key not in places else struct.pack("<I", places[key])
        head.append(struct.pack("<HHI", key, kind, count) + inline)
        if key in places:
            tail.append(value + b"\0" * (len(value) % 2))
    return b"".join([*head, struct.pack("<I", 0), *tail, *data])
