"""G, rasters in the jobs of all kinds: sizes, transforms, reference systems and extents."""

from __future__ import annotations

import math

import pytest
import rasterio
from affine import Affine
from deep_raster.engine import jobs
from rasters_support import (
    NORTH_UP,
    TILE,
    UTM,
    check_all,
    check_pixels,
    plain,
    refused,
)

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 5000), (5000, 1), (30, 40), (TILE, TILE), (2 * TILE + 1, 3 * TILE + 1), (TILE - 1, 2 * TILE)],
)
def test_rasters_of_one_pixel_one_row_or_any_number_of_tiles(tmp_path, monkeypatch, height, width):
    check_all(plain(tmp_path, height, width), tmp_path, monkeypatch)


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
def test_results_lie_right_under_every_transform(tmp_path, monkeypatch, transform):
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
def test_results_lie_right_in_every_reference_system(tmp_path, monkeypatch, crs, transform):
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
