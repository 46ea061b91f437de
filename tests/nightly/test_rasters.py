"""G, rasters: every kind through export, classify pixels, detect and classify objects.

The networks answer by the pixel alone, so the right answer of each pixel, object and chip is computed beside them from
the raster's own pixels and its transform. Nobody sees tiles without data, and what is no number never gets a class.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import rasterio
from affine import Affine
from deep_raster.engine import jobs
from rasterio.enums import ColorInterp
from rasters_support import (
    NORTH_UP,
    TILE,
    UTM,
    Case,
    blank,
    check_all,
    check_detect,
    check_objects,
    check_pixels,
    refused,
    scene,
    write,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def plain(folder, height=150, width=170, dtype="uint8", bands=1, transform=NORTH_UP, crs=UTM, **options) -> Case:
    pixels, squares = scene(height, width, dtype, bands)
    raster = write(folder / "raster.tif", pixels, transform, crs, **options)
    return Case((raster,), pixels[0], np.ones(pixels.shape[1:], bool), squares, transform, crs)


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 5000), (5000, 1), (30, 40), (TILE, TILE), (2 * TILE + 1, 3 * TILE + 1), (TILE - 1, 2 * TILE)],
)
def test_shapes(tmp_path, monkeypatch, height, width):
    check_all(plain(tmp_path, height, width), tmp_path, monkeypatch)


# --- places ----------------------------------------------------------------------------------------------------------


def turned(degrees: float, shear: float = 0.0) -> Affine:
    return (
        Affine.translation(500000, 5000000) * Affine.rotation(degrees) * Affine.shear(shear) * Affine.scale(0.5, -0.5)
    )


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(Affine(0.5, 0, 500000, 0, 0.5, 4999000), id="south-up"),
        pytest.param(Affine(-0.5, 0, 500000, 0, -0.5, 5000000), id="negative x"),
        pytest.param(Affine(-0.5, 0, 500000, 0, 0.5, 4999000), id="both"),
        pytest.param(Affine(0.5, 0, 500000, 0, -0.25, 5000000), id="oblong pixels"),
        pytest.param(Affine(0, 0.5, 500000, -0.5, 0, 5000000), id="quarter turn"),
        pytest.param(turned(30), id="rotated"),
        pytest.param(turned(-10, 20), id="sheared"),
    ],
)
def test_transforms(tmp_path, monkeypatch, transform):
    check_all(plain(tmp_path, transform=transform), tmp_path, monkeypatch)


WITHOUT_AUTHORITY = (
    'PROJCS["Somewhere",GEOGCS["Sphere",DATUM["Sphere",SPHEROID["Sphere",6371000,0]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",13.7],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
    'PARAMETER["false_northing",0],UNIT["metre",1]]'
)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param(None, Affine(2, 0, 100, 0, -2, 900), id="no CRS"),
        pytest.param(None, Affine.identity(), id="no georeference"),
        pytest.param(WITHOUT_AUTHORITY, NORTH_UP, id="CRS without authority"),
        pytest.param("EPSG:4326", Affine(1e-5, 0, 14.2, 0, -1e-5, 46.1), id="degrees"),
        pytest.param("EPSG:4326", Affine(1e-4, 0, 179.992, 0, -1e-4, -16), id="antimeridian, beyond 180"),
        pytest.param("EPSG:4326", Affine(1e-4, 0, -180.008, 0, -1e-4, -16), id="antimeridian, beyond -180"),
        pytest.param("EPSG:3832", Affine(10, 0, 3338000, 0, -10, -1800000), id="antimeridian, Pacific Mercator"),
        pytest.param("EPSG:3413", Affine(10, 0, -800, 0, -10, 700), id="north pole"),
        pytest.param("EPSG:3031", Affine(10, 0, -800, 0, -10, 700), id="south pole"),
        pytest.param("EPSG:2193", Affine(0.5, 0, 1.6e6, 0, -0.5, 5.2e6), id="northing first"),
        pytest.param("EPSG:2263", NORTH_UP, id="feet"),
    ],
)
def test_reference_systems(tmp_path, monkeypatch, crs, transform):
    case = plain(tmp_path, transform=transform, crs=crs)
    if crs is None and transform == Affine.identity():
        case.transform = Affine(1, 0, 0, 0, -1, 0)  # how QGIS shows an image without any georeference
    check_all(case, tmp_path, monkeypatch)


@pytest.mark.parametrize("space", [UTM, "EPSG:4326", "EPSG:3857"])
def test_half_an_extent_in_another_crs(tmp_path, monkeypatch, space):
    case = plain(tmp_path)
    xmin, ymin, xmax, ymax = rasterio.warp.transform_bounds(UTM, space, 500030, 4999900, 500200, 4999960)
    case.extent = jobs.Extent(xmin, ymin, xmax, ymax, space)
    check_pixels(case, tmp_path / "p", monkeypatch)
    with rasterio.open(tmp_path / "p" / "classes.tif") as found:
        right, top = 500000 + 170 * 0.5, 4999960
        assert found.bounds.right == right and abs(found.bounds.left - 500030) <= 3
        assert abs(found.bounds.top - top) <= 3 and found.bounds.bottom == 5000000 - 150 * 0.5


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param((510000, 4999900, 510100, 4999990), id="off"),
        pytest.param((500085, 4999930, 500185, 4999990), id="touches an edge"),
        pytest.param((500010, 4999930, 500010, 4999990), id="empty"),
        pytest.param((500050, 4999990, 500010, 4999930), id="upside down"),
        pytest.param((math.nan, 4999990, 500010, 4999930), id="no number"),
    ],
)
def test_extents_without_a_pixel_are_refused(tmp_path, monkeypatch, bounds):
    case = plain(tmp_path)
    case.extent = jobs.Extent(*bounds)
    refused(case, tmp_path, monkeypatch, "extent")


# --- bands and types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [2, 4, 13, 400])
def test_bands(tmp_path, monkeypatch, bands):
    check_all(plain(tmp_path, 100, 90, bands=bands), tmp_path, monkeypatch)


def test_a_band_that_the_raster_lacks_is_refused(tmp_path, monkeypatch):
    case = plain(tmp_path)
    case.definition = {"ExtractBands": [0, 7]}
    refused(case, tmp_path, monkeypatch, "band", "pdo")
    case.definition = {}
    case.inputs = (jobs.RasterInput(case.inputs[0].path, bands=(2,)),)
    refused(case, tmp_path, monkeypatch, "no band 2")


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_types(tmp_path, monkeypatch, dtype):
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


def test_one_bit(tmp_path, monkeypatch):
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


# --- nodata ----------------------------------------------------------------------------------------------------------

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
def test_nodata(tmp_path, monkeypatch, dtype, value, nodata):
    case = holed(tmp_path, dtype, value, **({} if nodata is None else {"nodata": nodata}))
    check_all(case, tmp_path, monkeypatch)


def test_not_a_number_in_one_band_is_enough(tmp_path, monkeypatch):
    case = holed(tmp_path, bands=3, only=1)
    case.definition = {"ExtractBands": [0, 1, 2]}
    check_all(case, tmp_path, monkeypatch)


def test_nodata_outside_the_type_marks_nothing(tmp_path, monkeypatch):
    case = plain(tmp_path)
    raster = tmp_path / "outside.vrt"
    raster.write_text(
        f'<VRTDataset rasterXSize="170" rasterYSize="150"><SRS>{UTM}</SRS><GeoTransform>500000,0.5,0,5000000,0,-0.5'
        '</GeoTransform><VRTRasterBand dataType="Byte" band="1"><NoDataValue>-9999</NoDataValue><SimpleSource>'
        '<SourceFilename relativeToVRT="1">raster.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    case.inputs = (jobs.RasterInput(str(raster)),)
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
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{band}"><NoDataValue>{-band}</NoDataValue><SimpleSource><SourceFilename'
        f' relativeToVRT="1">raster.tif</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>'
        for band in (1, 2)
    )
    (tmp_path / "two.vrt").write_text(
        f'<VRTDataset rasterXSize="210" rasterYSize="190"><SRS>{UTM}</SRS><GeoTransform>500000,0.5,0,5000000,0,-0.5'
        f"</GeoTransform>{bands}</VRTDataset>"
    )
    case = Case((jobs.RasterInput(str(tmp_path / "two.vrt")),), pixels[0], valid, squares)
    check_all(case, tmp_path, monkeypatch)


def test_mask_band(tmp_path, monkeypatch):
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


# --- formats ---------------------------------------------------------------------------------------------------------


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
def test_formats(tmp_path, monkeypatch, options):
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
        sources.append(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{number}.tif</SourceFilename><SourceBand>1</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="{right - left}" ySize="{bottom - top}"/>'
            f'<DstRect xOff="{left}" yOff="{top}" xSize="{right - left}" ySize="{bottom - top}"/></SimpleSource>'
        )
    (tmp_path / "mosaic.vrt").write_text(
        f'<VRTDataset rasterXSize="220" rasterYSize="200"><SRS>{UTM}</SRS><GeoTransform>500000,0.5,0,5000000,0,-0.5'
        '</GeoTransform><VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue>'
        f"{''.join(sources)}</VRTRasterBand></VRTDataset>"
    )
    case = Case((jobs.RasterInput(str(tmp_path / "mosaic.vrt")),), np.where(valid, pixels[0], 0), valid, squares)
    check_all(case, tmp_path / "vrt", monkeypatch)
    case.inputs = tuple(jobs.RasterInput(str(tmp_path / f"{number}.tif")) for number in range(4))
    check_all(case, tmp_path / "list", monkeypatch)


def test_code_in_a_mosaic_file_never_runs(tmp_path, monkeypatch):
    case = plain(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "code.vrt").write_text(
        f'<VRTDataset rasterXSize="170" rasterYSize="150"><SRS>{UTM}</SRS><GeoTransform>500000,0.5,0,5000000,0,-0.5'
        '</GeoTransform><VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionType>run</PixelFunctionType><PixelFunctionLanguage>Python"
        "</PixelFunctionLanguage><PixelFunctionCode><![CDATA[\ndef run(*_, **__):\n"
        f"    open({str(ran)!r}, 'w').close()\n]]></PixelFunctionCode>"
        '<SimpleSource><SourceFilename relativeToVRT="1">raster.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    case.inputs = (jobs.RasterInput(str(tmp_path / "code.vrt")),)
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


# --- collections -----------------------------------------------------------------------------------------------------


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
