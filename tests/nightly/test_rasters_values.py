"""G, rasters in the jobs of all kinds: bands, types of numbers, and what is no data."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import vrt
from deep_raster.engine import jobs
from rasters_support import (
    NORTH_UP,
    PLACE,
    UTM,
    Case,
    blank,
    check_all,
    check_detect,
    check_objects,
    check_pixels,
    plain,
    refused,
    scene,
    write,
)

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.mark.parametrize("bands", [2, 4, 13, 400])
def test_rasters_of_two_to_four_hundred_bands(tmp_path, monkeypatch, bands):
    check_all(plain(tmp_path, 100, 90, bands=bands), tmp_path, monkeypatch)


def test_a_band_that_the_raster_lacks_is_refused(tmp_path, monkeypatch):
    case = plain(tmp_path)
    case.definition = {"ExtractBands": [0, 7]}
    refused(case, tmp_path, monkeypatch, "band", "pdo")
    case.definition = {}
    case.inputs = (jobs.RasterInput(case.inputs[0].path, bands=(2,)),)
    refused(case, tmp_path, monkeypatch, "no band 2")


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_numbers_of_every_type(tmp_path, monkeypatch, dtype):
    case = plain(tmp_path, dtype=dtype)
    check_all(case, tmp_path, monkeypatch)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_numbers_are_refused(tmp_path, monkeypatch, dtype):
    case = plain(tmp_path)
    path = tmp_path / "complex.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 150, "width": 170, "dtype": dtype, "crs": UTM}
    with rasterio.open(path, "w", transform=NORTH_UP, **profile) as out:
        out.write(case.pixels[None].astype("complex64"))
    case.inputs = (jobs.RasterInput(str(path)),)
    refused(case, tmp_path, monkeypatch, "complex")


def test_pixels_of_one_bit(tmp_path, monkeypatch):
    pixels = (scene(100, 130)[0] > 60).astype("uint8")
    raster = write(tmp_path / "raster.tif", pixels, nbits=1, compress="ccittfax4", photometric="miniswhite")
    with rasterio.open(raster.path) as file:
        assert set(np.unique(file.read())) == {0, 1}
        case = Case((raster,), file.read(1), np.ones((100, 130), bool), [])
    check_all(case, tmp_path, monkeypatch)


def test_palette_alpha_and_scale(tmp_path, monkeypatch):
    case = plain(tmp_path / "palette", photometric="palette")
    with rasterio.open(case.inputs[0].path, "r+") as file:
        file.write_colormap(1, {one: (one, 255 - one, 7, 255) for one in range(256)})
    check_all(case, tmp_path / "palette", monkeypatch)

    pixels, squares = scene(120, 140, bands=4)
    squares = blank(pixels, squares, (40, 30, 90, 80))
    pixels[3] = 255
    pixels[3, 30:80, 40:90] = 0
    raster = write(tmp_path / "alpha.tif", pixels, photometric="rgb", alpha="yes")
    check_all(Case((raster,), pixels[0], pixels[3] > 0, squares), tmp_path / "alpha", monkeypatch)

    # Networks were trained on stored values, as are the statistics of a definition: scale and offset are left alone.
    case = plain(tmp_path / "scale", dtype="int16")
    with rasterio.open(case.inputs[0].path, "r+") as file:
        file.scales, file.offsets = (0.01,), (-5.0,)
    check_all(case, tmp_path / "scale", monkeypatch)


HOLE = (35, 30, 140, 120)


def holed(folder, dtype="float32", value=np.nan, bands=1, only=None, **options) -> Case:
    """A raster with a hole of ``value`` larger than a tile, in band ``only`` or in all."""
    pixels, squares = scene(190, 210, dtype, bands)
    squares = blank(pixels, squares, HOLE)
    pixels[slice(None) if only is None else only, HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]] = value
    valid = np.ones((190, 210), bool)
    valid[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]] = False
    return Case((write(folder / "raster.tif", pixels, **options),), pixels[0], valid, squares)


@pytest.mark.parametrize(
    ("dtype", "value", "nodata"),
    [
        ("float32", np.nan, None),
        ("float32", np.inf, None),
        ("float64", -np.inf, None),
        ("float32", np.nan, np.nan),
        ("float32", -9999, -9999),
        ("float32", -3.4028234663852886e38, -3.4028234663852886e38),
        ("int16", -9999, -9999),
        ("uint8", 0, 0),
        ("uint16", 65535, 65535),
        ("uint32", 4294967295, 4294967295),
    ],
)
def test_nodata_of_every_kind_is_left_out(tmp_path, monkeypatch, dtype, value, nodata):
    case = holed(tmp_path, dtype, value, **({} if nodata is None else {"nodata": nodata}))
    check_all(case, tmp_path, monkeypatch)


def test_not_a_number_in_one_band_is_enough(tmp_path, monkeypatch):
    case = holed(tmp_path, bands=3, only=1)
    case.definition = {"ExtractBands": [0, 1, 2]}
    check_all(case, tmp_path, monkeypatch)


def test_nodata_outside_the_type_marks_nothing(tmp_path, monkeypatch):
    case = plain(tmp_path)
    band = vrt.band(vrt.source("raster.tif"), nodata=-9999)
    case.inputs = (jobs.RasterInput(str(vrt.write_vrt(tmp_path / "outside.vrt", (170, 150), band, place=PLACE))),)
    check_all(case, tmp_path, monkeypatch)


def test_another_nodata_value_in_each_band(tmp_path, monkeypatch):
    """Two bands whose own values mark the hole; the other band's value is a measurement."""
    pixels, squares = scene(190, 210, "int16", 2)
    squares = blank(pixels, squares, HOLE)
    valid = np.ones((190, 210), bool)
    valid[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]] = False
    pixels[0][~valid], pixels[1][~valid] = -1, -2
    pixels[0, 0, :5], pixels[1, 0, :5] = -2, -1
    write(tmp_path / "raster.tif", pixels)
    bands = [vrt.band(vrt.source("raster.tif", one), one, "Int16", nodata=-one) for one in (1, 2)]
    raster = vrt.write_vrt(tmp_path / "two.vrt", (210, 190), *bands, place=PLACE)
    check_all(Case((jobs.RasterInput(str(raster)),), pixels[0], valid, squares), tmp_path, monkeypatch)


def test_what_a_mask_band_hides_is_left_out(tmp_path, monkeypatch):
    case = holed(tmp_path, "uint8", 50)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(case.inputs[0].path, "r+") as file:
        file.write_mask(case.valid)
    check_all(case, tmp_path, monkeypatch)


def test_all_nodata_and_a_single_pixel_of_data(tmp_path, monkeypatch):
    pixels = np.full((1, 150, 170), np.nan, "float32")
    case = Case((write(tmp_path / "all.tif", pixels),), pixels[0], np.zeros((150, 170), bool), [])
    for number, check in enumerate((check_pixels, check_detect)):
        assert check(case, tmp_path / f"a{number}", monkeypatch).calls == 0
    case.squares = [(20, 20, 26, 26), (100, 90, 107, 97)]
    assert check_objects(case, tmp_path / "a2", monkeypatch).calls == 0

    pixels[0, 77, 131] = 3
    case = Case((write(tmp_path / "one.tif", pixels),), pixels[0], np.isfinite(pixels[0]), [])
    assert check_pixels(case, tmp_path / "b0", monkeypatch).calls == 1
    check_all(case, tmp_path / "b", monkeypatch)
