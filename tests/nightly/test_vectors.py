"""G, vectors: every kind of layer as labels, as mask and as features to classify.

Labels are compared, pixel by pixel, with what GDAL burns of the same shapes, repaired by shapely; classes of features
with the value of the stripe that they lie on.
"""

from __future__ import annotations

import struct
import subprocess

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import DeepRasterError
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform as warp_points
from rasters_support import NORTH_UP, TILE, UTM, Network, pixel_class, run, use, write, write_definition

pytestmark = pytest.mark.usefixtures("own_places")
SIDE = 3 * TILE


@pytest.fixture
def raster(tmp_path):
    """Three stripes of 64 columns with the values 11, 12 and 13."""
    return write(tmp_path / "raster.tif", np.repeat(np.arange(11, 14, dtype="uint8"), TILE)[None, None].repeat(SIDE, 1))


def on_map(shape):
    """Bring a shape from pixels of the raster to its map."""
    return shapely.transform(shape, lambda points: np.column_stack(NORTH_UP * (points[:, 0], points[:, 1])))


def layer(path, shapes, crs=UTM, kind="Unknown", wkb=None, **fields) -> jobs.VectorInput:
    """Write shapes, given in pixels, with their fields; ``wkb`` as it is instead of shapes."""
    if wkb is None:
        wkb = shapely.to_wkb(np.array([None if one is None else on_map(one) for one in shapes], dtype=object))
    data = [np.array(one, dtype=object if any(v is None for v in one) else None) for one in fields.values()]
    pyogrio.raw.write(
        path, np.array(wkb, dtype=object), data, list(fields), geometry_type=kind, crs=CRS.from_user_input(crs).to_wkt()
    )
    return jobs.VectorInput(str(path))


def export(raster, labels, folder, **options):
    """Export classified tiles; return the label raster put together from its chips, and the log."""
    chosen = {"tile_size_x": TILE, "tile_size_y": TILE, "all_tiles": True, "split": (1.0, 0, 0), **options}
    job = jobs.ExportTrainingData((raster,), str(folder / "chips"), "Classified_Tiles", labels=labels, **chosen)
    _, session = run(job, folder / "scratch")
    whole = np.zeros((SIDE, SIDE), np.int64)
    for chip in (folder / "chips" / "labels").glob("*.tif"):
        with rasterio.open(chip) as found:
            column, row = (round(one) for one in ~NORTH_UP * (found.transform.c, found.transform.f))
            whole[row : row + TILE, column : column + TILE] = found.read(1)
    return whole, " ".join(session.texts)


def burnt(shapes, values=None) -> np.ndarray:
    """Return what GDAL burns of shapes in pixels; later ones lie on top."""
    values = [1] * len(shapes) if values is None else values
    pairs = [(one, value) for one, value in zip(shapes, values) if one is not None and not one.is_empty]
    return rasterize(pairs, (SIDE, SIDE), dtype="int64") if pairs else np.zeros((SIDE, SIDE), np.int64)


def classify(raster, features, folder, monkeypatch, mask=None):
    """Classify features; return number -> label, the geometries and the log."""
    network = use(Network(), monkeypatch)
    model = write_definition(folder / "model", "ObjectClassification")
    output = folder / "classified.gpkg"
    job = jobs.ClassifyObjects((raster,), model, str(output), features, "Label", jobs.RunOptions(mask=mask, workers=1))
    _, session = run(job, folder / "scratch2")
    meta, _, wkb, data = pyogrio.raw.read(output)
    fields = dict(zip(meta["fields"], data))
    assert network.empty == 0
    return (
        dict(zip(fields["number"].tolist(), fields["Label"].tolist())),
        shapely.from_wkb(wkb),
        " ".join(session.texts),
    )


def label_at(column) -> str:
    return f"k{pixel_class(np.array(11 + int(column) // TILE))}"


BOX = shapely.box(20, 20, 40, 44)
BOW_TIE = shapely.Polygon([(80, 20), (110, 60), (110, 20), (80, 60)])
HOLE_OUTSIDE = shapely.Polygon(
    [(140, 20), (170, 20), (170, 50), (140, 50)], [[(10, 100), (30, 100), (30, 120), (10, 120)]]
)
DUPLICATES = shapely.Polygon([(20, 80), (20, 80), (45, 80), (45, 80), (45, 110), (20, 110), (20, 110)])
PARTS = shapely.MultiPolygon([shapely.box(80, 80, 95, 95), shapely.box(100, 100, 120, 125)])
HEIGHTS = shapely.force_3d(shapely.box(140, 80, 170, 110), 7.0)
LARGE = shapely.box(-500, 140, 500, 150)
TINY = shapely.box(150.6, 160.6, 150.9, 160.9)


def test_shapes_of_all_kinds(tmp_path, raster, monkeypatch):
    shapes = [BOX, None, shapely.Polygon(), BOW_TIE, HOLE_OUTSIDE, DUPLICATES, PARTS, HEIGHTS, LARGE, TINY]
    labels = layer(tmp_path / "l.gpkg", shapes, number=np.arange(len(shapes)))
    whole, told = export(raster, labels, tmp_path)
    sound = [None if one is None else shapely.force_2d(shapely.make_valid(one)) for one in shapes]
    assert np.array_equal(whole > 0, burnt(sound) > 0)
    assert "2 features" in told and "repaired" in told
    found, geometries, told = classify(raster, labels, tmp_path, monkeypatch)
    expected = dict.fromkeys((1, 2))
    for number in (0, 3, 5, 6, 7, 9):
        expected[number] = label_at(shapes[number].centroid.x)
    for number in (4, 8):  # wider than one stripe
        assert found.pop(number) is not None
    assert found == expected, "every feature of the layer is in the result, those without geometry without a class"
    assert "2 features" in told
    assert shapely.is_missing(geometries).sum() + shapely.is_empty(geometries).sum() == 2


def test_an_unclosed_ring_is_closed(tmp_path, raster, monkeypatch):
    points = [NORTH_UP * one for one in [(20, 20), (50, 20), (50, 60), (20, 60)]]
    ring = b"".join(struct.pack("<2d", *one) for one in points)
    labels = layer(tmp_path / "l.gpkg", [], wkb=[struct.pack("<BIII", 1, 3, 1, 4) + ring], number=[0])
    whole, _ = export(raster, labels, tmp_path)
    assert np.array_equal(whole > 0, burnt([shapely.box(20, 20, 50, 60)]) > 0)
    assert classify(raster, labels, tmp_path, monkeypatch)[0] == {0: label_at(35)}


CURVES = """
import sys
from osgeo import ogr, osr
ogr.UseExceptions()
crs = osr.SpatialReference()
crs.ImportFromEPSG(32633)
made = ogr.GetDriverByName("GPKG").CreateDataSource(sys.argv[1])
layer = made.CreateLayer("curves", crs, ogr.wkbCurvePolygon)
layer.CreateField(ogr.FieldDefn("number", ogr.OFTInteger))
feature = ogr.Feature(layer.GetLayerDefn())
feature["number"] = 0
feature.SetGeometry(ogr.CreateGeometryFromWkt(sys.argv[2]))
layer.CreateFeature(feature)
"""


def test_curves_are_followed(tmp_path, raster, monkeypatch):
    """A circle of 30 pixels around (96, 96) as arcs of a curve polygon, which QGIS's own GDAL can write."""
    points = [NORTH_UP * one for one in [(66, 96), (96, 66), (126, 96), (96, 126), (66, 96)]]
    arcs = f"CURVEPOLYGON(CIRCULARSTRING({', '.join(f'{x} {y}' for x, y in points)}))"
    path = tmp_path / "curves.gpkg"
    made = subprocess.run(["/usr/bin/python3", "-c", CURVES, str(path), arcs], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no GDAL that writes curves: {made.stderr[-200:]}")
    labels = jobs.VectorInput(str(path))
    whole, _ = export(raster, labels, tmp_path)
    circle = burnt([shapely.Point(96, 96).buffer(30, quad_segs=90)]) > 0
    assert ((whole > 0) != circle).sum() <= 0.01 * circle.sum()
    assert classify(raster, labels, tmp_path, monkeypatch)[0] == {0: label_at(96)}


def test_measures_are_left_away(tmp_path, raster, monkeypatch):
    ring = [(20, 20, 5), (50, 20, 6), (50, 60, 7), (20, 60, 8), (20, 20, 5)]
    points = b"".join(struct.pack("<3d", *(NORTH_UP * one[:2]), one[2]) for one in ring)
    wkb = [struct.pack("<BIII", 1, 2003, 1, 5) + points]
    labels = layer(tmp_path / "l.gpkg", [], wkb=wkb, kind="Measured Polygon", number=[0])
    whole, _ = export(raster, labels, tmp_path)
    assert np.array_equal(whole > 0, burnt([shapely.box(20, 20, 50, 60)]) > 0)
    assert classify(raster, labels, tmp_path, monkeypatch)[0] == {0: label_at(35)}


def test_a_layer_without_features_labels_nothing(tmp_path, raster, monkeypatch):
    labels = layer(tmp_path / "l.gpkg", [], number=np.array([], dtype=np.int64), kind="Polygon")
    whole, _ = export(raster, labels, tmp_path)
    assert not whole.any()
    with pytest.raises(DeepRasterError, match="feature"):
        export(raster, labels, tmp_path / "other", all_tiles=False)
    assert not (tmp_path / "other" / "chips").exists()
    assert classify(raster, labels, tmp_path, monkeypatch)[0] == {}


@pytest.mark.parametrize("kind", ["points", "lines"])
def test_points_and_lines_where_polygons_are_asked_for(tmp_path, raster, monkeypatch, kind):
    points = [shapely.Point(30, 30), shapely.Point(100, 50)]
    lines = [shapely.LineString([(10, 10), (60, 60)]), shapely.LineString([(80, 20), (120, 20)])]
    shapes = points if kind == "points" else lines
    labels = layer(tmp_path / "l.gpkg", shapes, number=[0, 1])
    wide, _ = export(raster, labels, tmp_path, buffer_radius=4.0)
    circles = burnt([one.buffer(8, quad_segs=90) for one in shapes]) > 0
    assert ((wide > 0) != circles).sum() <= 0.03 * circles.sum()
    found = classify(raster, labels, tmp_path, monkeypatch)[0]
    assert found == {number: label_at(one.centroid.x) for number, one in enumerate(shapes)}
    network = use(Network(), monkeypatch)
    model = write_definition(tmp_path / "model", "ImageClassification")
    job = jobs.ClassifyPixels((raster,), model, str(tmp_path / "c.tif"), jobs.RunOptions(mask=labels, workers=1))
    with pytest.raises(DeepRasterError, match=r"mask.*polygon"):
        run(job, tmp_path / "scratch3")
    assert network.calls == 0
    with pytest.raises(DeepRasterError, match=r"mask.*polygon"):
        export(raster, layer(tmp_path / "b.gpkg", [BOX]), tmp_path / "masked", mask=labels)


def test_a_polygon_of_a_million_vertices(tmp_path, raster, monkeypatch):
    angles = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    radii = 70 + 10 * np.sin(9 * angles) + 0.2 * np.sin(40_000 * angles)
    star = shapely.Polygon(np.column_stack([96 + radii * np.cos(angles), 96 + radii * np.sin(angles)]))
    labels = layer(tmp_path / "l.gpkg", [star], number=[0])
    whole, _ = export(raster, labels, tmp_path)
    assert np.array_equal(whole > 0, burnt([shapely.make_valid(star)]) > 0)
    assert classify(raster, labels, tmp_path, monkeypatch)[0] == {0: label_at(96)}


def test_ten_thousand_overlapping_features(tmp_path, raster, monkeypatch):
    chance = np.random.default_rng(1)
    x, y, size = chance.uniform(4, SIDE - 4, 10_000), chance.uniform(4, SIDE - 4, 10_000), chance.uniform(1, 6, 10_000)
    shapes = shapely.box(x - size, y - size, x + size, y + size)
    labels = layer(tmp_path / "l.gpkg", shapes, number=np.arange(10_000))
    whole, _ = export(raster, labels, tmp_path)
    assert np.array_equal(whole > 0, burnt(list(shapes)) > 0)
    found = classify(raster, labels, tmp_path, monkeypatch)[0]
    assert len(found) == 10_000
    sure = (np.abs(x / TILE - np.round(x / TILE)) * TILE) > 2
    assert all(found[number] == label_at(x[number]) for number in np.flatnonzero(sure).tolist())


# --- classes and choices ---------------------------------------------------------------------------------------------

GRID = [shapely.box(x, y, x + 8, y + 8) for y in range(4, 184, 10) for x in range(4, 184, 10)]


def test_classes_from_fields_of_every_type(tmp_path, raster):
    count = len(GRID)
    assert count > 300
    labels = layer(
        tmp_path / "l.gpkg", GRID, many=np.arange(count) % 300 + 1, text=[f"c{i % 3}" for i in range(count)],
        digits=[str(i % 4 + 1) for i in range(count)], gone=[None if i % 2 else i % 5 + 1 for i in range(count)],
    )  # fmt: skip
    whole, _ = export(raster, labels, tmp_path / "many", class_field="many")
    assert np.array_equal(whole, burnt(GRID, np.arange(count) % 300 + 1))
    assert whole.max() == 300
    whole, _ = export(raster, labels, tmp_path / "digits", class_field="digits")
    assert np.array_equal(whole, burnt(GRID, np.arange(count) % 4 + 1))
    whole, _ = export(raster, labels, tmp_path / "text", class_field="text")
    assert np.array_equal(whole, burnt(GRID, np.arange(count) % 3 + 1))
    whole, told = export(raster, labels, tmp_path / "gone", class_field="gone")
    assert np.array_equal(whole, burnt(GRID[::2], np.arange(count)[::2] % 5 + 1))
    assert "no class" in told
    with pytest.raises(DeepRasterError, match=r"(?s)no field “missing”.*many"):
        export(raster, labels, tmp_path / "missing", class_field="missing")


def test_filtered_and_selected(tmp_path, raster, monkeypatch):
    labels = layer(tmp_path / "l.gpkg", GRID, number=np.arange(len(GRID)))
    filtered = jobs.VectorInput(labels.path, where="number < 100")
    selected = jobs.VectorInput(labels.path, fids=tuple(range(201, 211)))
    whole, _ = export(raster, filtered, tmp_path / "f")
    assert np.array_equal(whole > 0, burnt(GRID[:100]) > 0)
    whole, _ = export(raster, selected, tmp_path / "s")
    assert np.array_equal(whole > 0, burnt(GRID[200:210]) > 0)
    assert sorted(classify(raster, filtered, tmp_path / "cf", monkeypatch)[0]) == list(range(100))
    assert sorted(classify(raster, selected, tmp_path / "cs", monkeypatch)[0]) == list(range(200, 210))
    with pytest.raises(DeepRasterError, match="subset filter"):
        export(raster, jobs.VectorInput(labels.path, where="nonsense ="), tmp_path / "n")


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_mask_and_features_in_another_crs(tmp_path, raster, monkeypatch, crs):
    def there(shape):
        return shapely.transform(on_map(shape), lambda p: np.column_stack(warp_points(UTM, crs, p[:, 0], p[:, 1])))

    mask = layer(
        tmp_path / "m.gpkg", [], crs, wkb=shapely.to_wkb([there(shapely.box(30.2, 40.3, 150.7, 160.4))]), n=[0]
    )
    use(Network(), monkeypatch)
    model = write_definition(tmp_path / "model", "ImageClassification")
    output = tmp_path / "c.tif"
    run(
        jobs.ClassifyPixels((raster,), model, str(output), jobs.RunOptions(mask=mask, workers=1)), tmp_path / "scratch3"
    )
    with rasterio.open(output) as found:
        inside = found.read_masks(1) > 0
    assert np.array_equal(inside, burnt([shapely.box(30.2, 40.3, 150.7, 160.4)]) > 0)
    features = layer(
        tmp_path / "f.gpkg", [], crs, wkb=shapely.to_wkb([there(one) for one in (BOX, PARTS)]), number=[0, 1]
    )
    assert classify(raster, features, tmp_path, monkeypatch)[0] == {0: label_at(30), 1: label_at(100)}
    whole, _ = export(raster, features, tmp_path)
    assert np.array_equal(whole > 0, burnt([BOX, PARTS]) > 0)


def test_a_crs_that_cannot_hold_the_whole_extent(tmp_path, monkeypatch):
    """A raster of the whole Earth in degrees, features in web Mercator, which ends at 85 degrees."""
    from affine import Affine

    pixels = np.repeat(np.arange(11, 14, dtype="uint8"), 120)[None, None].repeat(180, 1)
    world = write(tmp_path / "world.tif", pixels, Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    wkb = shapely.to_wkb([shapely.box(-1.5e7, -5e6, -1.3e7, 5e6), shapely.box(1e6, 1.9e7, 2e6, 2e7)])
    features = layer(tmp_path / "f.gpkg", [], "EPSG:3857", wkb=wkb, number=[0, 1])
    found = classify(world, features, tmp_path, monkeypatch)[0]
    assert found == {0: "k2", 1: "k3"}
    polar = layer(
        tmp_path / "p.gpkg", [], "EPSG:4326", wkb=shapely.to_wkb([shapely.box(-100, -90, -90, 90)]), number=[0]
    )
    mercator = write(tmp_path / "m.tif", pixels, Affine(1e5, 0, -1.8e7, 0, -1e5, 9e6), "EPSG:3857")
    labels, geometries, told = classify(mercator, polar, tmp_path / "polar", monkeypatch)
    assert len(labels) == 1 and not geometries[0].is_empty
    assert labels[0] is not None or "1 features" in told


def test_layers_that_cannot_be_used_are_refused(tmp_path, raster, monkeypatch):
    (tmp_path / "text.gpkg").write_text("no layer")
    for path, name, words in (
        (str(tmp_path / "missing.gpkg"), "", r"missing\.gpkg"),
        (str(tmp_path / "text.gpkg"), "", r"text\.gpkg"),
        (layer(tmp_path / "good.gpkg", [BOX], number=[0]).path, "other", "other"),
    ):
        vector = jobs.VectorInput(path, name)
        with pytest.raises(DeepRasterError, match=words):
            export(raster, vector, tmp_path / "e")
        with pytest.raises(DeepRasterError, match=words):
            classify(raster, vector, tmp_path / "c", monkeypatch)
    table = tmp_path / "table.csv"
    table.write_text("number\n1\n")
    with pytest.raises(DeepRasterError, match="geometry"):
        export(raster, jobs.VectorInput(str(table)), tmp_path / "t")
