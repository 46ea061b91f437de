"""G, rasters in the jobs of all kinds: formats, virtual rasters and collections of files."""

from __future__ import annotations

import os

import numpy as np
import pytest
import rasterio
import vrt
from affine import Affine
from deep_raster.engine import jobs
from rasterio.enums import ColorInterp
from rasters_support import (
    NORTH_UP,
    PLACE,
    UTM,
    Case,
    blank,
    check_all,
    check_pixels,
    plain,
    refused,
    scene,
    write,
)

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"blockysize": 1}, id="strips of one row"),
        pytest.param({"blockysize": 150, "compress": "lzw", "predictor": 2}, id="one strip"),
        pytest.param({"tiled": True, "blockxsize": 16, "blockysize": 16}, id="tiles of 16"),
        pytest.param({"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd"}, id="tile of 512"),
        pytest.param({"bigtiff": "yes", "interleave": "band"}, id="BigTIFF"),
        pytest.param({"driver": "ENVI"}, id="raw with header"),
        pytest.param({"driver": "HFA"}, id="Imagine"),
        pytest.param({"driver": "PNG"}, id="PNG with side files"),
        pytest.param({"driver": "COG", "overviews": "none"}, id="COG"),
        pytest.param({"driver": "MRF"}, id="MRF"),
    ],
)
def test_every_format_gives_what_its_pixels_say(tmp_path, monkeypatch, options):
    pixels, squares = scene(150, 170, bands=3)
    driver = options.get("driver", "GTiff")
    suffix = {"ENVI": "dat", "HFA": "img", "PNG": "png", "MRF": "mrf"}.get(driver, "tif")
    raster = write(tmp_path / f"raster.{suffix}", pixels, **options)
    check_all(Case((raster,), pixels[0], np.ones((150, 170), bool), squares), tmp_path, monkeypatch)


def test_jpeg_in_ycbcr(tmp_path, monkeypatch):
    pixels, squares = scene(150, 170, bands=3)
    raster = write(tmp_path / "raster.tif", pixels, compress="jpeg", photometric="ycbcr", tiled=True, blockxsize=64,
                   blockysize=64)  # fmt: skip
    with rasterio.open(raster.path) as file:
        decoded = file.read(1)
    assert (decoded != pixels[0]).any()
    case = Case((raster,), decoded, np.ones((150, 170), bool), squares)
    check_pixels(case, tmp_path / "p", monkeypatch)


def test_mosaic_file_with_holes(tmp_path, monkeypatch):
    pixels, squares = scene(200, 220)
    squares = blank(pixels, squares, (100, 0, 130, 200), (0, 90, 220, 110))
    valid = np.ones((200, 220), bool)
    valid[:, 100:130] = valid[90:110] = False
    sources = []
    for number, (left, top, right, bottom) in enumerate(
        [(0, 0, 100, 90), (130, 0, 220, 90), (0, 110, 100, 200), (130, 110, 220, 200)]
    ):
        place = NORTH_UP * Affine.translation(left, top)
        write(tmp_path / f"{number}.tif", pixels[:, top:bottom, left:right], place)
        size = f'xSize="{right - left}" ySize="{bottom - top}"'
        part = f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{left}" yOff="{top}" {size}/>'
        sources.append(vrt.source(f"{number}.tif", part=part))
    mosaic = vrt.write_vrt(tmp_path / "mosaic.vrt", (220, 200), vrt.band("".join(sources), nodata=0), place=PLACE)
    case = Case((jobs.RasterInput(str(mosaic)),), np.where(valid, pixels[0], 0), valid, squares)
    check_all(case, tmp_path / "vrt", monkeypatch)
    case.inputs = tuple(jobs.RasterInput(str(tmp_path / f"{number}.tif")) for number in range(4))
    check_all(case, tmp_path / "list", monkeypatch)


def test_code_in_a_mosaic_file_never_runs(tmp_path, monkeypatch):
    case = plain(tmp_path)
    ran = tmp_path / "ran"
    code = f"def run(*_, **__):\n    open({str(ran)!r}, 'w').close()"
    band = vrt.computed_band(vrt.source("raster.tif"), "run", code)
    raster = vrt.write_vrt(tmp_path / "code.vrt", (170, 150), band, place=PLACE)
    case.inputs = (jobs.RasterInput(str(raster)),)
    refused(case, tmp_path, monkeypatch, r"code\.vrt")
    assert not ran.exists()


def test_a_file_larger_than_four_gigabytes(tmp_path, monkeypatch):
    side = 70_000
    pixels, squares = scene(100, 120)
    path = tmp_path / "huge.tif"
    profile = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "uint8", "crs": UTM, "nodata": 0}
    profile |= {"tiled": True, "sparse_ok": True, "bigtiff": "yes", "transform": NORTH_UP}
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels, window=rasterio.windows.Window(side - 120, side - 100, 120, 100))
    place = NORTH_UP * Affine.translation(side - 120, side - 100)
    case = Case((jobs.RasterInput(str(path)),), pixels[0], np.ones((100, 120), bool), squares, place)
    xmin, ymax = place * (0, 0)
    case.extent = jobs.Extent(xmin, ymax - 50, xmin + 60, ymax)
    check_all(case, tmp_path, monkeypatch)


def test_read_only_medium(tmp_path, monkeypatch):
    case = plain(tmp_path / "medium", driver="PNG")
    folder = tmp_path / "medium"
    before = sorted(os.listdir(folder))
    folder.chmod(0o500)
    try:
        check_all(case, tmp_path / "out", monkeypatch)
    finally:
        folder.chmod(0o700)
    assert sorted(os.listdir(folder)) == before


def test_files_that_are_no_rasters_are_refused(tmp_path, monkeypatch):
    case = plain(tmp_path)
    (tmp_path / "text.tif").write_text("no raster")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "bare.vrt").write_text('<VRTDataset rasterXSize="10" rasterYSize="10"></VRTDataset>')
    for name in ("text.tif", "empty.tif", "missing.tif", "bare.vrt", "."):
        case.inputs = (jobs.RasterInput(str(tmp_path / name)),)
        refused(case, tmp_path / "out", monkeypatch, name if name != "." else "raster")
    case.inputs = ()
    refused(case, tmp_path / "out", monkeypatch, "no input raster")


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (25, 40)])
def test_many_rasters_of_mixed_size(tmp_path, monkeypatch, rows, columns):
    """A mosaic of up to 1,000 files of different sizes is one raster; each pixel is looked at."""
    pixels, squares = scene(200, 500)
    inputs, chance = [], np.random.default_rng(3)
    tops = np.sort(chance.choice(np.arange(1, 200), rows - 1, replace=False))
    lefts = np.sort(chance.choice(np.arange(1, 500), columns - 1, replace=False))
    for top, bottom in zip([0, *tops], [*tops, 200]):
        for left, right in zip([0, *lefts], [*lefts, 500]):
            place = NORTH_UP * Affine.translation(left, top)
            inputs.append(write(tmp_path / "many" / f"{top}_{left}.tif", pixels[:, top:bottom, left:right], place))
    assert len(inputs) == rows * columns
    case = Case(tuple(inputs), pixels[0], np.ones((200, 500), bool), squares)
    if rows * columns < 100:
        check_all(case, tmp_path, monkeypatch)
    else:
        check_pixels(case, tmp_path, monkeypatch)


def test_bands_of_a_collection_differ(tmp_path, monkeypatch):
    case = plain(tmp_path)
    other = plain(tmp_path / "other", bands=3)
    case.inputs = (*case.inputs, *other.inputs)
    case.definition = {"ExtractBands": None}
    refused(case, tmp_path, monkeypatch, "3 bands")


def test_colour_interpretation_does_not_hide_bands(tmp_path, monkeypatch):
    """A fourth band that is no alpha stays a band, whatever it is called."""
    case = plain(tmp_path, bands=4, photometric="minisblack")
    with rasterio.open(case.inputs[0].path, "r+") as file:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    case.definition = {"ExtractBands": [3]}
    case.pixels = scene(150, 170, bands=4)[0][3]
    check_pixels(case, tmp_path, monkeypatch)
