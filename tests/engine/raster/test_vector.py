from __future__ import annotations

import struct

import numpy as np
import pyogrio.raw
import pytest
import shapely
from affine import Affine
from deep_raster.engine.errors import VectorError
from deep_raster.engine.jobs import VectorInput
from deep_raster.engine.raster.grid import Grid
from deep_raster.engine.raster.vector import MaskArea, layer_facts, read_features, window_polygon
from deep_raster.engine.raster.window import Window
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

pytestmark = pytest.mark.filterwarnings("ignore")
UTM = CRS.from_epsg(32633).to_wkt()


def write(path, geometries, crs="EPSG:32633", kind="Unknown", **fields):
    wkb = shapely.to_wkb(np.array(geometries, dtype=object))
    data = [np.array(one) for one in fields.values()]
    pyogrio.raw.write(str(path), wkb, data, list(fields), geometry_type=kind, crs=crs)
    return VectorInput(str(path))


def test_reads_geometries_fields_and_crs(tmp_path):
    boxes = [shapely.box(i, 0, i + 1, 1) for i in range(5)]
    layer = write(tmp_path / "a.gpkg", boxes, value=[1, 2, 3, 4, 5], name=list("abcde"))
    found = read_features(layer)
    assert shapely.equals(found.geometries, boxes).all()
    assert found.column("VALUE").tolist() == [1, 2, 3, 4, 5]
    assert CRS.from_user_input(found.crs) == CRS.from_epsg(32633)
    only = read_features(layer, columns=["NAME"])
    assert list(only.fields) == ["name"]
    facts = layer_facts(layer)
    assert (facts.fields, facts.count) == (("value", "name"), 5)


def test_subset_selection_and_bounds(tmp_path):
    layer = write(tmp_path / "a.gpkg", [shapely.box(i, 0, i + 0.5, 1) for i in range(10)], value=list(range(10)))
    some = VectorInput(layer.path, where="value > 3", fids=(1, 5, 7, 9))
    assert read_features(some).column("value").tolist() == [4, 6, 8]
    assert read_features(some, bounds=(5, 0, 7, 1)).column("value").tolist() == [6]


def test_reprojection_agrees_with_gdal(tmp_path):
    shape = shapely.box(14.9, 45.1, 15.1, 45.2)
    layer = write(tmp_path / "a.gpkg", [shape], crs="EPSG:4326", value=[1])
    found = read_features(layer, crs=UTM, bounds=(490000, 4990000, 510000, 5020000))
    expected = shapely.geometry.shape(transform_geom("EPSG:4326", "EPSG:32633", shape.__geo_interface__))
    assert shapely.hausdorff_distance(found.geometries[0], expected) < 1e-3


def test_crs_override_and_missing_crs(tmp_path):
    layer = write(tmp_path / "a.gpkg", [shapely.box(15, 45, 15.1, 45.1)], crs=None, value=[1])
    assert read_features(layer).crs == ""
    named = read_features(VectorInput(layer.path, crs="EPSG:4326"), crs=UTM)
    assert named.geometries[0].bounds[0] > 400000
    untouched = read_features(layer, crs=UTM)
    assert untouched.geometries[0].bounds == (15, 45, 15.1, 45.1)
    with pytest.raises(VectorError, match="raster has none"):
        read_features(VectorInput(layer.path, crs="EPSG:4326"), crs="")


def test_bad_geometries_are_repaired_or_dropped(tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    layer = write(tmp_path / "a.gpkg", [bow_tie, None, shapely.Polygon(), shapely.box(0, 0, 1, 1)], value=[1, 2, 3, 4])
    found = read_features(layer)
    assert found.column("value").tolist() == [1, 4]
    assert (found.dropped, found.repaired) == (2, 1)
    assert shapely.is_valid(found.geometries).all()
    assert found.geometries[0].area == pytest.approx(2.0)


def test_copies_keep_features_without_a_geometry(tmp_path):
    layer = write(tmp_path / "a.gpkg", [None, shapely.Polygon(), shapely.box(0, 0, 1, 1)], value=[1, 2, 3])
    found = read_features(layer, keep_empty=True)
    assert found.column("value").tolist() == [1, 2, 3]
    assert found.dropped == 2


def test_rings_that_are_open_are_closed(tmp_path):
    ring = b"".join(struct.pack("<2d", *one) for one in [(0, 0), (3, 0), (3, 2), (0, 2)])
    wkb = np.array([struct.pack("<BIII", 1, 3, 1, 4) + ring], dtype=object)
    pyogrio.raw.write(str(tmp_path / "a.gpkg"), wkb, [], [], geometry_type="Polygon", crs="EPSG:32633")
    found = read_features(VectorInput(str(tmp_path / "a.gpkg")))
    assert [one.area for one in found.geometries] == [6.0]


def test_z_is_left_away(tmp_path):
    layer = write(tmp_path / "a.gpkg", [shapely.Point(1, 2, 3)], value=[1])
    assert not shapely.has_z(read_features(layer).geometries).any()


def test_points_that_the_crs_cannot_represent_are_dropped(tmp_path):
    layer = write(tmp_path / "a.gpkg", [shapely.Point(10, 95), shapely.Point(10, 50)], crs="EPSG:4326", value=[1, 2])
    found = read_features(layer, crs="EPSG:3857")
    assert found.column("value").tolist() == [2]
    assert found.dropped == 1


def test_features_on_both_sides_of_the_antimeridian_are_put_side_by_side(tmp_path):
    layer = write(
        tmp_path / "a.gpkg", [shapely.box(-179.5, 0, -179, 1), shapely.box(179, 0, 179.5, 1)], crs="EPSG:4326", v=[1, 2]
    )
    found = read_features(layer, crs="EPSG:4326", bounds=(178, -1, 182, 2))
    assert sorted(one.bounds for one in found.geometries) == [(179, 0, 179.5, 1), (180.5, 0, 181, 1)]
    fiji = CRS.from_epsg(3832).to_wkt()
    both = read_features(layer, crs=fiji, bounds=(3_100_000, -1e6, 3_600_000, 1e6))
    assert len(both) == 2


def test_errors_are_sentences(tmp_path):
    layer = write(tmp_path / "a.gpkg", [shapely.box(0, 0, 1, 1)], value=[1])
    with pytest.raises(VectorError, match="no field “colour”"):
        read_features(layer, columns=["colour"])
    with pytest.raises(VectorError, match="cannot be opened"):
        read_features(VectorInput(str(tmp_path / "none.gpkg")))
    with pytest.raises(VectorError, match="layer “b”"):
        read_features(VectorInput(layer.path, layer="b"))
    with pytest.raises(VectorError, match="cannot be read"):
        read_features(VectorInput(layer.path, where="nonsense ="))


@pytest.fixture
def grid():
    return Grid("", from_origin(0, 10, 0.5, 0.5), 40, 20)


def test_several_mask_polygons_cover_an_area_together(grid):
    hole = shapely.Polygon(shapely.box(0, 0, 6, 10).exterior, [shapely.box(2, 2, 3, 3).exterior])
    area = MaskArea(np.array([hole, shapely.box(6, 0, 9, 10), shapely.box(12, 0, 13, 1)]))
    assert area.covers((4, 1, 8, 9))  # by two polygons together
    assert not area.covers((1, 1, 4, 4))  # the hole
    assert not area.covers((8, 1, 9.5, 2))
    assert area.intersects((8, 1, 9.5, 2))
    assert not area.intersects((9.5, 5, 11, 6))
    window = Window(-3, 2, 30, 15)
    got = area.rasterize(window, grid)
    whole = rasterize(
        [hole, shapely.box(6, 0, 9, 10), shapely.box(12, 0, 13, 1)],
        out_shape=(15, 30),
        transform=grid.window_transform(window),
    )
    assert np.array_equal(got, whole > 0)
    assert not MaskArea(np.array([], dtype=object)).rasterize(window, grid).any()


def test_mask_area_of_a_layer(tmp_path, grid):
    layer = write(tmp_path / "m.gpkg", [shapely.box(0, 0, 5, 5), shapely.box(500, 500, 501, 501)], crs=None, v=[1, 2])
    assert len(MaskArea.read(layer, grid)) == 1


def test_a_mask_of_points_is_refused(tmp_path, grid):
    layer = write(tmp_path / "m.gpkg", [shapely.Point(2, 2)], crs=None, v=[1])
    with pytest.raises(VectorError, match=r"mask “.*m\.gpkg” holds no polygons"):
        MaskArea.read(layer, grid)


def test_window_polygon_turns_with_the_grid():
    turned = Grid("", Affine.rotation(90), 10, 10)
    assert window_polygon(Window(0, 0, 2, 1), turned).equals(shapely.box(-1, 0, 0, 2))
