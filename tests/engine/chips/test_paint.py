from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from deep_raster.engine.chips import paint as paint_module
from deep_raster.engine.chips.paint import paint, paint_instances, paint_rings
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

points = st.tuples(st.floats(-20, 60), st.floats(-20, 60))
stars = st.tuples(points, st.lists(st.floats(1, 30), min_size=3, max_size=12), st.floats(0, 6))


def star(parts):
    (x, y), radii, turn = parts
    angles = turn + np.arange(len(radii)) * 2 * np.pi / len(radii)
    return shapely.Polygon(np.column_stack([x + radii * np.cos(angles), y + radii * np.sin(angles)]))


@settings(max_examples=150, deadline=None)
@given(st.lists(stars, min_size=1, max_size=8))
def test_pixels_are_those_of_gdal(parts):
    shapes = shapely.make_valid(np.array([star(one) for one in parts], dtype=object))
    holes = shapely.difference(shapes, shapely.buffer(shapely.centroid(shapes), 2.0))
    holes = holes[shapely.area(holes) > 0]
    if not len(holes):
        return
    values = list(range(1, len(holes) + 1))
    ours = paint(holes, values, (40, 50), np.uint8)
    theirs = rasterize(zip(holes, values), out_shape=(40, 50), transform=Affine.identity(), dtype="uint8")
    assert np.array_equal(ours, theirs)


def test_portions_change_nothing(monkeypatch):
    """A hundred polygons on top of each other, and a raster that begins elsewhere."""
    shapes = np.array([shapely.Point(30, 25).buffer(1 + 20 * abs(np.sin(n))) for n in range(100)])
    values = list(range(1, 101))
    whole = paint(shapes, values, (40, 50), np.uint8)
    monkeypatch.setattr(paint_module, "_PORTION", 37)
    monkeypatch.setattr(paint_module, "_GROUP", 7)
    assert np.array_equal(paint(shapes, values, (40, 50), np.uint8), whole)
    assert np.array_equal(paint(shapes, values, (11, 13), np.uint8, (20, 9)), whole[9:20, 20:33])


def test_edges_on_pixel_centres_partition_the_plane():
    halves = np.array([shapely.box(-5, -5, 2.5, 9), shapely.box(2.5, -5, 9, 9)])
    assert paint(halves, [1, 2], (4, 5), np.uint16)[0].tolist() == [1, 1, 2, 2, 2]


def test_multi_parts_lines_and_nothing():
    parts = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 2, 4, 4)])
    assert paint(np.array([parts]), [9], (4, 4), np.uint8).sum() == 27
    assert not paint(np.array([shapely.LineString([(0, 0), (4, 4)])]), [1], (4, 4), np.uint8).any()
    assert not paint(np.array([], dtype=object), [], (4, 4), np.uint8).any()


def test_rings_are_closed_and_holes_stay_open():
    outer = np.array([[0, 0], [6, 0], [6, 6], [0, 6]], float)
    inner = np.array([[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]], float)
    mask = paint_rings([outer, inner], (8, 8))
    assert mask.sum() == 32
    assert not mask[3, 3]


def test_overlapping_instances_are_kept_whole():
    shapes = np.array(
        [shapely.box(0, 0, 4, 4), shapely.box(2, 2, 6, 6), shapely.box(5, 0, 7, 2), shapely.box(9, 9, 9.2, 9.2)]
    )
    bands, number = paint_instances(shapes, (8, 8))
    assert bands.shape == (2, 8, 8)
    assert number == 3
    assert [(bands == one).sum() for one in (1, 2, 3)] == [16, 16, 4]
    assert (bands[0] == 3).sum() == 4  # the third is free of the first, so it shares its band


@pytest.mark.parametrize(("count", "dtype"), [(200, "uint8"), (300, "uint16")])
def test_instance_type_grows_with_the_number(count, dtype):
    shapes = np.array([shapely.box(i % 40, i // 40, i % 40 + 1, i // 40 + 1) for i in range(count)])
    bands, number = paint_instances(shapes, (40, 40))
    assert (number, bands.dtype) == (count, dtype)
