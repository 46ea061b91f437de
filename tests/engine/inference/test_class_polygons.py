"""Polygons of class rasters against GDAL's own polygonizer, which knows nothing of strips."""

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from deep_raster.engine.inference.class_polygons import regions, write_polygons
from deep_raster.engine.inference.outlines import region_polygons
from deep_raster.engine.inference.tracing import Tracer
from deep_raster.engine.package.reading import ClassInfo
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference_support import write_raster
from rasterio.features import rasterize, shapes

MAP = Affine(0.5, 0.1, 5e5, 0.1, -0.5, 5e6)


def traced(image, rows, outside=0):
    """Return [(value, polygon)] in pixels, the image given in strips of so many rows."""
    tracer, found = Tracer(image.shape[1], outside, image.dtype), []
    for top in range(0, len(image) + rows, rows):
        complete = tracer.add(image[top : top + rows]) if top < len(image) else tracer.finish()
        for rings in complete:
            found += zip(rings.values.tolist(), region_polygons(rings, Affine.identity()))
    return found


def gdal_regions(image, outside=0, transform=None):
    found = shapes(image, mask=image != outside, connectivity=4, transform=transform or Affine.identity())
    return [(int(value), shapely.geometry.shape(geometry)) for geometry, value in found]


def keys(found):
    """Return what two sets of polygons must share: class and outline, whatever the first vertex and the order."""
    return sorted((value, shapely.normalize(shapely.make_valid(polygon)).wkt) for value, polygon in found)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
@example(rows=1, columns=1, classes=1, zoom=1, seed=0)
@example(rows=16, columns=1, classes=2, zoom=1, seed=1)
def test_any_strips_give_what_gdal_gives(rows, columns, classes, zoom, seed):
    random = np.random.default_rng(seed)
    image = np.kron(random.integers(0, classes + 1, (rows, columns)), np.ones((zoom, 1))).astype(np.uint8)
    strip = int(random.integers(1, len(image) + 2))
    found = traced(image, strip)
    assert all(polygon.is_valid for _, polygon in found)
    assert keys(found) == keys(gdal_regions(image))
    if found:
        burnt = rasterize(((polygon, value) for value, polygon in found), out_shape=image.shape)
        np.testing.assert_array_equal(burnt, image)


@pytest.mark.parametrize("strip", [1, 3, 64])
def test_rings_in_rings_and_snakes_across_strips(strip):
    y, x = np.mgrid[0:61, 0:47]
    nested = (np.maximum(abs(y - 30), abs(x - 23)) // 2 % 3).astype(np.int16)
    snake = np.ones((61, 47), np.int16)
    snake[1::4, :-1] = 2
    snake[3::4, 1:] = 2
    for image in (nested, snake, np.full((61, 47), 1, np.int16)):
        assert keys(traced(image, strip, outside=-1)) == keys(gdal_regions(image, -1))


def test_crowded_rows_are_taken_in_smaller_strips(monkeypatch):
    monkeypatch.setattr("deep_raster.engine.inference.tracing._MOST_CORNERS", 60)
    image = np.random.default_rng(4).integers(0, 3, (40, 50)).astype(np.uint8)
    assert keys(traced(image, 40)) == keys(gdal_regions(image))


def test_a_raster_becomes_a_layer_with_names_and_places(tmp_path, monkeypatch):
    monkeypatch.setattr("deep_raster.engine.inference.class_polygons._STRIP", 64 * 30)
    image = np.random.default_rng(2).choice([0, 1, 2, 255], (90, 64), p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
    write_raster(tmp_path / "classes.tif", image[None], transform=MAP, nodata=255)
    with rasterio.open(tmp_path / "classes.tif") as dataset:
        crs = dataset.crs.to_wkt()
    classes = [ClassInfo(1, "Wood"), ClassInfo(2, "Water")]
    count = write_polygons(tmp_path / "classes.tif", tmp_path / "out.gpkg", classes, 0.0, {"MADE": "by a test"}, crs)
    meta, _, geometries, (names, values) = pyogrio.raw.read(tmp_path / "out.gpkg")
    assert count == len(values)
    assert "32632" in meta["crs"]
    assert set(zip(names, values)) == {("Background", 0), ("Wood", 1), ("Water", 2)}
    expected = gdal_regions(image, 255, MAP)
    assert keys(zip(values.tolist(), shapely.from_wkb(geometries))) == keys(expected)


def test_outlines_get_simpler_by_pixels(tmp_path):
    disc = (np.hypot(*np.mgrid[-40:40, -40:40]) < 30).astype(np.uint8)
    write_raster(tmp_path / "disc.tif", disc[None], transform=Affine(10, 0, 0, 0, -10, 0), nodata=0)
    ((_, (exact,)),) = regions(tmp_path / "disc.tif")
    ((_, (simple,)),) = regions(tmp_path / "disc.tif", 1.5)
    assert len(shapely.get_coordinates(simple)) < len(shapely.get_coordinates(exact)) / 3
    assert 0 < simple.hausdorff_distance(exact) <= 15 + 1e-9
