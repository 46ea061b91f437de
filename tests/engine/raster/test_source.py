from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from deep_raster.engine.errors import RasterError
from deep_raster.engine.jobs import RasterInput
from deep_raster.engine.raster.gdal import shown
from deep_raster.engine.raster.grid import IMAGE_TRANSFORM, Grid, plan_grid
from deep_raster.engine.raster.source import RasterSource, source_grids
from deep_raster.engine.raster.window import Window
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = "EPSG:32633"


def write(path, pixels, crs=UTM, transform=None, **options):
    profile = {"driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    profile.update(dtype=pixels.dtype, crs=crs, transform=transform or from_origin(5e5, 5e6, 10, 10), **options)
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels)
    return RasterInput(str(path))


def numbers(bands=2, height=30, width=40, dtype="uint16", start=1):
    return (np.arange(bands * height * width).reshape(bands, height, width) + start).astype(dtype)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "plain.tif"
    return write(path, numbers()), numbers()


@settings(max_examples=60, deadline=None)
@given(col=st.integers(-50, 50), row=st.integers(-50, 50), width=st.integers(1, 70), height=st.integers(1, 60))
def test_any_window_holds_the_rasters_pixels_and_zero_outside(plain, col, row, width, height):
    raster, pixels = plain
    padded = np.pad(pixels, ((0, 0), (130, 130), (130, 130)))
    inside = np.pad(np.ones((30, 40), bool), 130)
    with RasterSource.open([raster]) as source:
        got, valid = source.read(Window(col, row, width, height))
    part = np.s_[row + 130 : row + 130 + height, col + 130 : col + 130 + width]
    assert got.dtype == np.uint16
    assert np.array_equal(got, padded[(slice(None), *part)])
    assert np.array_equal(valid, inside[part])
    assert got.flags.c_contiguous
    assert got.flags.writeable


def test_bands_are_chosen_and_ordered(plain):
    raster, pixels = plain
    with RasterSource.open([RasterInput(raster.path, bands=(2, 1))], bands=[1, 1, 2]) as source:
        assert source.count == 3
        assert np.array_equal(source.read(source.grid.window)[0], pixels[[1, 1, 0]])
    with pytest.raises(RasterError, match="band 3"):
        RasterSource.open([raster], bands=[3])
    with pytest.raises(RasterError, match="no band 7"):
        RasterSource.open([RasterInput(raster.path, bands=(7,))])


def test_nodata_of_unsigned_integers_needs_all_bands(tmp_path):
    pixels = numbers(dtype="uint8", start=0) % 200 + 1
    pixels[0, 3, 4] = 0
    pixels[:, 5, 6] = 0
    with RasterSource.open([write(tmp_path / "a.tif", pixels, nodata=0)]) as source:
        valid = source.read(source.grid.window)[1]
    assert valid[3, 4]
    assert np.argwhere(~valid).tolist() == [[5, 6]]


def test_sentinel_nan_and_infinity_in_one_band_are_enough(tmp_path):
    pixels = numbers(dtype="float32")
    pixels[0, 1, 1], pixels[1, 2, 2], pixels[0, 3, 3] = -9999, np.nan, np.inf
    with RasterSource.open([write(tmp_path / "a.tif", pixels, nodata=-9999)]) as source:
        valid = source.read(source.grid.window)[1]
    assert np.argwhere(~valid).tolist() == [[1, 1], [2, 2], [3, 3]]


def test_nodata_is_overridden_per_band(tmp_path):
    pixels = numbers(dtype="int16")
    raster = write(tmp_path / "a.tif", pixels)
    pixels[0, 0, 0] = 1
    with RasterSource.open([RasterInput(raster.path, nodata=(1.0,))]) as source:
        assert source.read(source.grid.window)[1].all()  # only one of two bands holds it
    with RasterSource.open([RasterInput(raster.path, nodata=(1.0, 1201.0))]) as source:
        assert np.argwhere(~source.read(source.grid.window)[1]).tolist() == [[0, 0]]


def test_mask_band_and_alpha(tmp_path):
    pixels, mask = numbers(3, dtype="uint8"), np.full((30, 40), 255, "uint8")
    mask[4:6, 7:9] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        masked = write(tmp_path / "mask.tif", pixels)
        with rasterio.open(masked.path, "r+") as out:
            out.write_mask(mask > 0)
    alpha = write(tmp_path / "alpha.tif", np.concatenate([pixels, mask[None]]), photometric="RGB", alpha="YES")
    for raster in (masked, alpha):
        with RasterSource.open([raster]) as source:
            assert source.count == 3
            got, valid = source.read(source.grid.window)
            assert np.array_equal(valid, mask > 0)
            assert np.array_equal(got, pixels)


def test_mosaic_first_valid_pixel_wins(tmp_path):
    one = numbers(1, 10, 10, "uint8")
    one[:, 2, :] = 0
    two = np.full((1, 10, 10), 200, "uint8")
    first = write(tmp_path / "1.tif", one, nodata=0)
    second = write(tmp_path / "2.tif", two, transform=from_origin(5e5 + 50, 5e6, 10, 10))
    grid = plan_grid(source_grids([first, second]), None, 0)
    with RasterSource.open([first, second], grid) as source:
        got, valid = source.read(grid.window)
    expected = np.concatenate([one[0], two[0, :, :5]], axis=1)
    expected[2, 5:10] = 200
    assert np.array_equal(got[0], expected)
    assert (~valid).sum() == 5
    assert not valid[2, :5].any()


def test_mosaic_of_many_files_keeps_few_open(tmp_path):
    inputs = [
        write(tmp_path / f"{i}.tif", np.full((1, 4, 4), i, "uint8"), transform=from_origin(5e5 + 40 * i, 5e6, 10, 10))
        for i in range(100)
    ]
    grid = plan_grid(source_grids(inputs), None, 0)
    with RasterSource.open(inputs, grid) as source:
        got, valid = source.read(grid.window)
        assert len(source._layers) <= 64
    assert valid.all()
    assert np.array_equal(got[0, 0, ::4], np.arange(100))


def test_other_crs_and_cell_size_are_warped(tmp_path):
    pixels = numbers(1, 60, 60)
    raster = write(tmp_path / "a.tif", pixels)
    with rasterio.open(raster.path) as data, WarpedVRT(data, crs="EPSG:3857") as vrt:
        grid = Grid(vrt.crs.to_wkt(), vrt.transform, vrt.width, vrt.height)
        expected = vrt.read()
    with RasterSource.open([raster], grid) as source:
        got, valid = source.read(grid.window)
    assert np.array_equal(got, expected)
    assert np.array_equal(valid, expected[0] > 0)


def test_south_up_is_flipped_exactly(tmp_path):
    pixels = numbers()
    raster = write(tmp_path / "a.tif", pixels, transform=Affine(10, 0, 5e5, 0, 10, 4e6))
    grid = plan_grid(source_grids([raster]), None, 0)
    with RasterSource.open([raster], grid) as source:
        got, valid = source.read(grid.window)
    assert np.array_equal(got, pixels[:, ::-1])
    assert valid.all()


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_nodata_does_not_bleed_when_warped(tmp_path, resampling):
    pixels = np.full((1, 20, 20), 100, "float32")
    pixels[0, 5:9, 5:9] = -9999
    raster = write(tmp_path / "a.tif", pixels, nodata=-9999)
    own = source_grids([raster])[0]
    grid = plan_grid([own], None, 5.0)
    with RasterSource.open([raster], grid, resampling=resampling) as source:
        got, valid = source.read(grid.window)
    assert np.all(got[0][valid] == 100)
    assert not valid[12:16, 12:16].any()
    assert valid[:8].all()


def test_image_without_georeference(tmp_path):
    pixels = numbers(3, dtype="uint8")
    raster = write(tmp_path / "a.png", pixels, driver="PNG", crs=None, transform=Affine.identity())
    grid = source_grids([raster])[0]
    assert grid == Grid("", IMAGE_TRANSFORM, 40, 30)
    doubled = plan_grid([grid], None, 0.5)
    with RasterSource.open([raster], doubled) as source:
        got, valid = source.read(doubled.window)
    assert np.array_equal(got, pixels.repeat(2, 1).repeat(2, 2))
    assert valid.all()


def test_errors_are_sentences(tmp_path, plain):
    with pytest.raises(RasterError, match=r"“.*missing\.tif” cannot be opened"):
        RasterSource.open([RasterInput(str(tmp_path / "missing.tif"))])
    broken = tmp_path / "broken.tif"
    with open(write(broken, numbers(1, 600, 600), compress="deflate").path, "r+b") as out:
        out.truncate(3000)
    with pytest.raises(RasterError, match=r"broken\.tif"), RasterSource.open([RasterInput(str(broken))]) as source:
        source.read(source.grid.window)
    complex_pixels = write(tmp_path / "c.tif", np.ones((1, 4, 4), "complex64"))
    with pytest.raises(RasterError, match="complex"):
        RasterSource.open([complex_pixels])
    other = write(tmp_path / "one.tif", numbers(1))
    with pytest.raises(RasterError, match="cannot form one mosaic"):
        RasterSource.open([plain[0], other])
    plane = write(tmp_path / "plane.tif", numbers(), crs=None, transform=from_origin(3, 7, 1, 1))
    with (
        pytest.raises(RasterError, match="only one of them"),
        RasterSource.open([plane], source_grids([other])[0]) as s,
    ):
        s.read(Window(0, 0, 5, 5))


def test_credentials_are_not_shown():
    url = "/vsicurl/https://me:secret@host.example/a.tif?sig=abc"
    assert shown(url) == "/vsicurl/https://host.example/a.tif"
