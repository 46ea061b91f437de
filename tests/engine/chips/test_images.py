from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from deep_raster.engine.chips import tiff
from deep_raster.engine.chips.images import ImageWriter, check_holds
from deep_raster.engine.errors import JobError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from rasterio.io import MemoryFile

pytestmark = pytest.mark.filterwarnings("ignore")
UTM = CRS.from_epsg(32633).to_wkt()
NORTH_UP = Affine(0.3, 0, 500000.25, 0, -0.3, 5000000.75)
TURNED = Affine.translation(500000, 5000000) * Affine.rotation(33) * Affine.scale(0.3, -0.3)
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


sides = st.integers(1, 70)


def noise(bands, rows, columns, dtype, seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1e4, (bands, rows, columns)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, (bands, rows, columns), dtype=dtype, endpoint=True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(TYPES),
    st.sampled_from([NORTH_UP, TURNED]),
)
def test_tiff_is_what_gdal_reads(bands, rows, columns, dtype, transform):
    pixels = noise(bands, rows, columns, dtype)
    with MemoryFile(tiff.encode(pixels, UTM, transform, nodata=5)) as memory, memory.open() as data:
        assert np.array_equal(data.read(), pixels)
        assert data.dtypes == (dtype,) * bands
        assert data.crs == CRS.from_epsg(32633)
        assert data.transform.almost_equals(transform, 1e-9)
        assert data.nodata == 5


def test_tiff_is_tiled_and_compressed_and_other_readers_take_it(tmp_path):
    smooth = np.broadcast_to(np.arange(256, dtype="uint8")[None, :, None] // 4, (3, 256, 256)).copy()
    path = tmp_path / "a.tif"
    path.write_bytes(tiff.encode(smooth, UTM, NORTH_UP))
    with rasterio.open(path) as data:
        assert 322 in tiff.read_tags(path.read_bytes())
        assert data.compression.name == "deflate"
    assert path.stat().st_size < smooth.nbytes / 20
    assert np.array_equal(np.asarray(Image.open(path)), np.moveaxis(smooth, 0, 2))


def test_large_chips_have_several_tiles():
    pixels = noise(2, 1100, 1300, "uint16")
    with MemoryFile(tiff.encode(pixels)) as memory, memory.open() as data:
        assert data.block_shapes == [(256, 256)] * 2
        assert np.array_equal(data.read(), pixels)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:2056", "+proj=laea +lat_0=10 +lon_0=20", ""])
def test_tiff_keeps_any_crs(crs):
    expected = CRS.from_user_input(crs) if crs else None
    data = tiff.encode(noise(1, 16, 16, "uint8"), expected.to_wkt() if crs else "", Affine(2, 0, 10, 0, -2, 60))
    with MemoryFile(data) as memory, memory.open() as chip:
        assert chip.crs == expected
        assert chip.transform == Affine(2, 0, 10, 0, -2, 60)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "uint16"), (3, "uint16")])
def test_png(tmp_path, bands, dtype):
    pixels = noise(bands, 40, 50, dtype)
    files = ImageWriter("PNG", UTM).write(tmp_path / "000000000001", pixels, NORTH_UP)
    assert [one.name for one in files] == ["000000000001.png", "000000000001.pgw", "000000000001.png.aux.xml"]
    with rasterio.open(files[0]) as data:
        assert np.array_equal(data.read(), pixels)
        assert data.crs == CRS.from_epsg(32633)
        assert data.transform.almost_equals(NORTH_UP, 1e-6)


def test_world_file_lines(tmp_path):
    files = ImageWriter("JPEG", "").write(tmp_path / "a", noise(3, 20, 20, "uint8"), Affine(2, 0, 100, 0, -2, 200))
    assert [one.name for one in files] == ["a.jpg", "a.jgw"]
    expected = "2.0000000000\r\n0.0000000000\r\n0.0000000000\r\n-2.0000000000\r\n101.0000000000\r\n199.0000000000\r\n"
    assert files[1].read_bytes() == expected.encode()
    assert (
        len(ImageWriter("PNG", UTM, georeferenced=False).write(tmp_path / "b", noise(1, 5, 5, "uint8"), NORTH_UP)) == 1
    )


def test_jpeg_is_close(tmp_path):
    y, x = np.mgrid[:64, :64]
    smooth = np.stack([x * 2, y * 2, x + y]).astype("uint8")
    path = ImageWriter("JPEG", "").write(tmp_path / "a", smooth, Affine.identity())[0]
    with rasterio.open(path) as data:
        assert np.abs(data.read().astype(int) - smooth).mean() < 3


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_mrf(tmp_path, dtype):
    pixels = noise(4, 100, 100, dtype)
    files = ImageWriter("MRF", UTM).write(tmp_path / "a", pixels, NORTH_UP)
    assert files[0].name == "a.mrf"
    with rasterio.open(files[0]) as data:
        assert np.array_equal(data.read(), pixels)
        assert data.crs == CRS.from_epsg(32633)
        assert data.transform.almost_equals(NORTH_UP, 1e-6)
    moved = tmp_path / "moved"
    moved.mkdir()
    for one in files:
        one.rename(moved / one.name.replace("a.", "000000000007.", 1))
    with rasterio.open(moved / "000000000007.mrf") as data:
        assert np.array_equal(data.read(), pixels)


@pytest.mark.parametrize(
    ("chip_format", "bands", "dtype", "word"),
    [
        ("PNG", 4, "uint8", "bands"),
        ("JPEG", 3, "uint16", "pixels"),
        ("PNG", 1, "float32", "pixels"),
        ("GIF", 1, "uint8", "GIF"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(chip_format, bands, dtype, word):
    with pytest.raises(JobError, match=word):
        check_holds(chip_format, bands, dtype)
    check_holds("TIFF", 400, "float64")
    check_holds("PNG", 3, "uint16")
