from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from deep_raster.engine.errors import JobError, RasterError
from deep_raster.engine.jobs import Extent
from deep_raster.engine.raster.grid import IMAGE_TRANSFORM, Grid, parse_crs, plan_grid, transform_bounds
from deep_raster.engine.raster.window import Window
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds as rasterio_transform_bounds

UTM = CRS.from_epsg(32633).to_wkt()
LONLAT = CRS.from_epsg(4326).to_wkt()


def utm_grid(width=100, height=80, x=500000.0, y=5000000.0, size=10.0) -> Grid:
    return Grid(UTM, from_origin(x, y, size, size), width, height)


finite = st.floats(-1e6, 1e6, allow_nan=False)
sizes = st.floats(0.01, 100)
angles = st.floats(-3.1, 3.1)


@given(finite, finite, sizes, sizes, angles, st.floats(0, 5000), st.floats(0, 5000))
def test_pixels_survive_the_way_to_the_map_and_back(x, y, dx, dy, angle, col, row):
    transform = Affine.translation(x, y) * Affine.rotation(np.degrees(angle)) * Affine.scale(dx, -dy)
    grid = Grid("", transform, 5000, 5000)
    back = grid.to_pixel(*grid.to_map(col, row))
    assert back == pytest.approx((col, row), abs=1e-3)
    again = Grid.from_dict(grid.to_dict())
    assert again == grid


def test_grid_of_one_source_is_the_source():
    grid = utm_grid()
    assert plan_grid([grid], None, 0) == grid


def test_union_of_neighbours_keeps_pixels():
    left, right = utm_grid(), utm_grid(x=501500.0, y=5000100.0, width=10)
    union = plan_grid([left, right], None, 0)
    assert (union.width, union.height) == (160, 90)
    assert union.transform == from_origin(500000, 5000100, 10, 10)


def test_extent_is_widened_to_whole_cells_and_cut_to_the_raster():
    grid = plan_grid([utm_grid()], Extent(500013, 4999975, 9e9, 4999991), 0)
    assert grid.bounds == (500010, 4999970, 501000, 5000000)


def test_extent_in_another_crs():
    inner = (500200.0, 4999400.0, 500800.0, 4999800.0)
    lonlat = rasterio_transform_bounds(CRS.from_epsg(32633), CRS.from_epsg(4326), *inner)
    grid = plan_grid([utm_grid()], Extent(*lonlat, crs="EPSG:4326"), 0)
    for got, asked in zip(grid.bounds, inner):
        assert abs(got - asked) <= 30
    assert grid.bounds[0] <= inner[0]
    assert grid.bounds[3] >= inner[3]


def test_cell_size_is_used():
    grid = plan_grid([utm_grid()], None, 25.0)
    assert grid.cell_size == (25.0, 25.0)
    assert (grid.width, grid.height) == (40, 32)


@pytest.mark.parametrize("extent", [Extent(0, 0, 1, 1), Extent(5, 0, 1, 9), Extent(501000, 0, 501010, 9e9)])
def test_extent_off_the_raster_is_refused(extent):
    with pytest.raises(JobError, match="extent"):
        plan_grid([utm_grid()], extent, 0)


def test_rotated_raster_becomes_north_up_in_map_space_and_stays_in_pixel_space():
    turned = Grid(UTM, Affine.translation(5e5, 5e6) * Affine.rotation(30) * Affine.scale(10, -10), 100, 80)
    assert plan_grid([turned], None, 0, pixel_space=True) == turned
    north = plan_grid([turned], None, 0)
    assert north.is_north_up
    assert north.cell_size == pytest.approx((10, 10))
    xmin, ymin, xmax, ymax = turned.bounds
    assert north.bounds[0] == xmin
    assert north.bounds[3] == ymax
    assert xmax <= north.bounds[2] < xmax + 10
    assert ymin - 10 < north.bounds[1] <= ymin


def test_south_up_raster_in_map_space():
    south = Grid(UTM, Affine(10, 0, 5e5, 0, 10, 4.9e6), 30, 20)
    north = plan_grid([south], None, 0)
    assert north == Grid(UTM, Affine(10, 0, 5e5, 0, -10, 4.9e6 + 200), 30, 20)


def test_offsets_only_between_shared_pixels():
    base = utm_grid()
    assert base.sub_grid(Window(3, -4, 5, 6)).offset_in(base) == (3, -4)
    assert utm_grid(x=500005).offset_in(base) is None
    assert utm_grid(size=10.1).offset_in(base) is None
    assert Grid(LONLAT, base.transform, 100, 80).offset_in(base) is None


def test_image_without_georeference_is_shown_as_qgis_shows_it():
    grid = Grid("", IMAGE_TRANSFORM, 40, 30)
    assert grid.bounds == (0, -30, 40, 0)


def test_local_and_unknown_crs():
    assert parse_crs('LOCAL_CS["drawn in pixels",UNIT["metre",1]]') is None
    assert parse_crs("EPSG:4326") == CRS.from_epsg(4326)
    with pytest.raises(RasterError, match="no coordinate reference system"):
        parse_crs("EPSG:no-such")


def test_bounds_in_another_crs_hold_the_curved_edges():
    bounds = (-20.0, 30.0, 50.0, 70.0)
    ours = transform_bounds(bounds, LONLAT, CRS.from_epsg(3035).to_wkt())
    theirs = rasterio_transform_bounds(CRS.from_epsg(4326), CRS.from_epsg(3035), *bounds, densify_pts=1000)
    span = theirs[2] - theirs[0]
    assert np.allclose(ours, theirs, atol=span * 0.005)
