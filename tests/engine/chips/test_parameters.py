"""Each parameter of the export has a test here that fails if the parameter is ignored."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from chips_support import CELL, LEFT, TOP, on_map, scene, write_raster, write_vector
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.errors import DeepRasterError, JobError, VectorError
from deep_raster.engine.jobs import ExportTrainingData, Extent, RasterInput, VectorInput
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

pytestmark = pytest.mark.filterwarnings("ignore")


def job(labelled, folder, **parameters):
    defaults = {"format": "PASCAL_VOC_rectangles", "tile_size_x": 64, "tile_size_y": 64, "labels": labelled[1]}
    defaults["inputs"] = (labelled[0],)
    return ExportTrainingData(output=str(folder), **{**defaults, **parameters})


@pytest.fixture
def chips(labelled, export, tmp_path):
    """Export with parameters; return the data set and the rows of its table."""

    def run(**parameters):
        folder = tmp_path / "out"
        told, session = export(job(labelled, folder, **parameters))
        data = open_chips(folder)
        with open(folder / "chips.csv") as file:
            rows = list(csv.DictReader(file))
        assert told["CHIPS"] == len(data) == len(rows)
        return data, rows, session

    return run


def places(rows):
    """Return (column, row) of the chips in pixels of the scene."""
    return [(round((float(r["xmin"]) - LEFT) / CELL), round((TOP - float(r["ymax"])) / CELL)) for r in rows]


def test_tile_size_and_stride(chips):
    data, rows, _ = chips(tile_size_x=50, tile_size_y=40, stride_x=60, stride_y=20, all_tiles=True)
    expected = [(x, y) for y in range(0, 180, 20) for x in range(0, 360, 60) if x < 250 + 60]
    assert places(rows) == expected
    assert data.image(data.chips[0])[0].shape == (3, 40, 50)


def test_all_tiles(labelled, chips, tmp_path):
    lonely = write_vector(tmp_path / "one.gpkg", on_map(np.array([shapely.box(70, 70, 80, 80)])), classvalue=[4])
    data, rows, session = chips(labels=lonely)
    assert places(rows) == [(64, 64)]
    assert any("without labels" in one for one in session.logs)
    data, rows, _ = chips(labels=lonely, all_tiles=True, existing="REPLACE")
    assert len(rows) == 20
    assert [len(data.boxes(one).labels) for one in data.chips] == [int(one == (64, 64)) for one in places(rows)]


def test_chips_mostly_outside_are_left_out_unless_all_are_wanted(chips):
    _, rows, session = chips(tile_size_x=160, tile_size_y=160, labels=None, format="Export_Tiles")
    assert places(rows) == [(0, 0), (160, 0)]  # the lower ones hold 40 of 160 rows
    assert any("2 windows were left out: less than half image" in one for one in session.logs)
    _, rows, _ = chips(
        tile_size_x=160, tile_size_y=160, labels=None, format="Export_Tiles", all_tiles=True, existing="REPLACE"
    )
    assert len(rows) == 4


@pytest.mark.parametrize("chip_format", ["TIFF", "PNG", "JPEG", "MRF"])
def test_chip_format(chips, chip_format):
    data, _, _ = chips(chip_format=chip_format)
    suffix = {"TIFF": ".tif", "PNG": ".png", "JPEG": ".jpg", "MRF": ".mrf"}[chip_format]
    assert {one.image.suffix for one in data.chips} == {suffix}
    pixels = data.image(data.chips[0])[0]
    if chip_format != "JPEG":
        assert np.array_equal(pixels, scene()[:, :64, :64])
    with rasterio.open(data.chips[6].image) as chip:
        assert chip.crs.to_epsg() == 32633
        assert chip.transform.almost_equals(from_origin(LEFT + 64 * CELL, TOP - 64 * CELL, CELL, CELL), 1e-6)


def test_class_field_of_numbers(labelled, chips, tmp_path):
    layer = write_vector(tmp_path / "n.gpkg", on_map(labelled[2]), kind=labelled[3] + 10, classvalue=labelled[3])
    data, _, _ = chips(labels=layer, class_field="KIND")
    assert [(one.value, one.name) for one in data.classes] == [(11, "11"), (12, "12"), (17, "17")]
    data, _, _ = chips(labels=layer, existing="REPLACE")
    assert [one.value for one in data.classes] == [1, 2, 7]


def test_class_field_of_texts(labelled, chips, tmp_path):
    names = [("oak", "ash", "elm")[i % 3] for i in range(60)]
    layer = write_vector(tmp_path / "t.gpkg", on_map(labelled[2]), species=names)
    data, _, _ = chips(labels=layer, class_field="species")
    assert [(one.value, one.name) for one in data.classes] == [(1, "ash"), (2, "elm"), (3, "oak")]
    data, _, _ = chips(labels=layer, existing="REPLACE")
    assert [(one.value, one.name) for one in data.classes] == [(1, "1")]


def test_buffer_radius_of_points_and_lines(chips, tmp_path, export, labelled):
    points = np.array([shapely.Point(32, 32), shapely.LineString([(100, 20), (110, 20)])])
    layer = write_vector(tmp_path / "p.gpkg", on_map(points), classvalue=[1, 2])
    with pytest.raises(JobError, match="points or lines"):
        export(job(labelled, tmp_path / "bad", labels=layer))
    assert not (tmp_path / "bad").exists()
    data, _, _ = chips(labels=layer, buffer_radius=2.0)  # 4 pixels
    assert data.boxes(data.chips[0]).boxes[0] == pytest.approx([28, 28, 36, 36], abs=0.05)
    assert data.boxes(data.chips[1]).boxes[0] == pytest.approx([32, 16, 50, 24], abs=0.05)


def test_points_label_whole_chips_without_a_buffer(chips, tmp_path):
    layer = write_vector(tmp_path / "p.gpkg", on_map(np.array([shapely.Point(100, 90)])), classvalue=[5])
    data, rows, _ = chips(labels=layer, format="Labeled_Tiles")
    assert places(rows) == [(68, 58)]
    assert data.names(data.chips[0]) == ("5",)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_mask_polygons_hold_whole_chips(chips, tmp_path, crs):
    inside = shapely.box(60, 0, 200, 130)
    shape = on_map(inside)
    if crs != "EPSG:32633":
        dense = shapely.segmentize(shape, 5)
        shape = shapely.geometry.shape(transform_geom("EPSG:32633", crs, dense.__geo_interface__))
        inside = inside.buffer(0.2)
    mask = write_vector(tmp_path / "m.gpkg", [shape], crs=crs, n=[1])
    _, rows, session = chips(mask=mask, stride_x=32, stride_y=32, all_tiles=True)
    expected = [
        (x, y) for y in range(0, 200, 32) for x in range(0, 300, 32) if inside.covers(shapely.box(x, y, x + 64, y + 64))
    ]
    assert places(rows) == expected
    assert any("mask" in one for one in session.logs)


def test_rotation_makes_every_multiple(chips):
    data, rows, _ = chips(rotation=90, tile_size_x=64, tile_size_y=64, all_tiles=True, format="Classified_Tiles")
    plain, turned = data.image(data.chips[0])[0], [data.image(data.chips[i])[0] for i in (1, 2, 3)]
    for quarter, one in enumerate(turned, 1):
        assert np.array_equal(one, np.rot90(plain, quarter, axes=(1, 2)))
        assert np.array_equal(data.class_map(data.chips[quarter]), np.rot90(data.class_map(data.chips[0]), quarter))
    assert [one["turn"] for one in rows[:5]] == ["0", "1", "2", "3", "0"]
    assert len({one["part"] for one in rows[:4]} - {"left_out"}) == 1


def test_turned_chips_show_the_pixels_under_their_centres(chips):
    data, _, _ = chips(rotation=33, tile_size_x=50, tile_size_y=50)
    with open(data.folder / "chips.csv") as file:
        rows = list(csv.DictReader(file))
    assert {int(one["turn"]) for one in rows} == set(range(11))
    index = next(i for i, one in enumerate(rows) if one["turn"] == "2" and 60 < places([one])[0][0] < 200)
    with rasterio.open(data.chips[index].image) as chip:
        found = chip.read()
        y, x = np.mgrid[:50, :50] + 0.5
        t = chip.transform
    column = np.floor((t.a * x + t.b * y + t.c - LEFT) / CELL).astype(int)
    row = np.floor((TOP - (t.d * x + t.e * y + t.f)) / CELL).astype(int)
    good = (row >= 0) & (row < 200) & (column >= 0) & (column < 300)
    assert (found[:, good] == scene()[:, row[good], column[good]]).mean() > 0.999


def test_reference_system(export, tmp_path):
    turn = Affine.translation(LEFT, TOP) * Affine.rotation(30) * Affine.scale(CELL, -CELL)
    raster = write_raster(tmp_path / "turned.tif", scene(), transform=turn)
    box = shapely.box(70, 70, 100, 90)
    corners = shapely.transform(
        box,
        lambda p: np.column_stack(
            [turn.a * p[:, 0] + turn.b * p[:, 1] + turn.c, turn.d * p[:, 0] + turn.e * p[:, 1] + turn.f]
        ),
    )
    labels = write_vector(tmp_path / "l.gpkg", [corners], classvalue=[1])
    one = ExportTrainingData(
        (raster,),
        str(tmp_path / "p"),
        "PASCAL_VOC_rectangles",
        labels=labels,
        tile_size_x=64,
        tile_size_y=64,
        reference_system="PIXEL_SPACE",
    )
    export(one)
    data = open_chips(tmp_path / "p")
    assert data.reference_system == "PIXEL_SPACE"
    assert np.array_equal(data.image(data.chips[0])[0], scene()[:, 64:128, 64:128])
    assert data.boxes(data.chips[0]).boxes[0] == pytest.approx([6, 6, 36, 26], abs=0.01)
    export(ExportTrainingData(**{**one.__dict__, "output": str(tmp_path / "m"), "reference_system": "MAP_SPACE"}))
    with rasterio.open(open_chips(tmp_path / "m").chips[0].image) as chip:
        assert chip.transform.b == 0
        assert chip.transform.a == pytest.approx(CELL)


def test_blacken_and_crop_mode(labelled, export, tmp_path):
    shape = shapely.Polygon([(50, 50), (90, 60), (70, 95)])
    layer = write_vector(tmp_path / "b.gpkg", on_map(np.array([shape])), classvalue=[3])
    plain = job(labelled, tmp_path / "plain", labels=layer, format="Labeled_Tiles", crop_mode="BOUNDING_BOX")
    export(plain)
    data = open_chips(tmp_path / "plain")
    assert np.array_equal(data.image(data.chips[0])[0], scene()[:, 50:95, 50:90])
    assert data.members["CropTileMode"] == "Variable_Size"
    assert data.members["BlackenAroundFeature"] is False
    export(ExportTrainingData(**{**plain.__dict__, "output": str(tmp_path / "black"), "blacken": True}))
    data = open_chips(tmp_path / "black")
    inside = rasterio.features.rasterize([shape], (200, 300), transform=Affine.identity())[50:95, 50:90]
    assert np.array_equal(data.image(data.chips[0])[0], scene()[:, 50:95, 50:90] * inside)
    assert data.members["BlackenAroundFeature"] is True


@pytest.mark.parametrize(("ratio", "classes"), [(0.0, {1, 2}), (0.3, {1, 2}), (0.6, {2})])
def test_min_overlap(chips, tmp_path, ratio, classes):
    shapes = np.array([shapely.box(44, 10, 94, 20), shapely.box(30, 30, 80, 40)])  # 40 % and 68 % in the first chip
    layer = write_vector(tmp_path / "o.gpkg", on_map(shapes), classvalue=[1, 2])
    data, _, _ = chips(labels=layer, min_overlap=ratio, all_tiles=True)
    assert set(data.boxes(data.chips[0]).labels.tolist()) == classes


def test_extent_and_cell_size(chips):
    extent = Extent(LEFT + 20, TOP - 90, LEFT + 120, TOP - 10)
    data, rows, _ = chips(
        extent=extent, cell_size=1.0, tile_size_x=20, tile_size_y=20, format="Export_Tiles", labels=None
    )
    assert len(rows) == 5 * 4
    assert (float(rows[0]["xmin"]), float(rows[0]["ymax"])) == (LEFT + 20, TOP - 10)
    with rasterio.open(data.chips[0].image) as chip:
        assert chip.res == (1, 1)
        found = chip.read(1)
    around = scene()[0, 20:60, 40:80].reshape(20, 2, 20, 2).transpose(0, 2, 1, 3).reshape(20, 20, 4)
    assert (found[:, :, None] == around).any(axis=2).all()
    assert data.members["MinCellSize"]["x"] == 1.0


def test_processing_mode(export, tmp_path):
    inputs = tuple(
        write_raster(
            tmp_path / f"{i}.tif",
            scene()[:, :, 150 * i : 150 * i + 150].copy(),
            transform=from_origin(LEFT + 75 * i, TOP, CELL, CELL),
        )
        for i in range(2)
    )
    one = ExportTrainingData(inputs, str(tmp_path / "mosaic"), "Export_Tiles", tile_size_x=100, tile_size_y=100)
    export(one)
    data = open_chips(tmp_path / "mosaic")
    assert np.array_equal(data.image(data.chips[1])[0], scene()[:, :100, 100:200])
    assert len(data) == 6
    export(
        ExportTrainingData(**{**one.__dict__, "output": str(tmp_path / "items"), "processing_mode": "ITEMS_SEPARATELY"})
    )
    data = open_chips(tmp_path / "items")
    assert len(data) == 8
    assert not data.image(data.chips[1])[0][:, :, 50:].any()
    assert np.array_equal(data.image(data.chips[4])[0], scene()[:, :100, 150:250])


def test_labels_in_another_crs_survive_to_half_a_pixel(labelled, chips, tmp_path):
    shapes = [transform_geom("EPSG:32633", "EPSG:4326", one.__geo_interface__) for one in on_map(labelled[2])]
    layer = write_vector(
        tmp_path / "ll.gpkg", [shapely.geometry.shape(one) for one in shapes], "EPSG:4326", v=labelled[3]
    )
    data, _, _ = chips(labels=layer, class_field="v")
    other, _, _ = chips(existing="REPLACE")
    for one, same in zip(data.chips, other.chips, strict=True):
        assert np.allclose(data.boxes(one).boxes, other.boxes(same).boxes, atol=0.5)


def test_subset_and_selection(labelled, chips):
    layer = labelled[1]
    data, _, _ = chips(labels=VectorInput(layer.path, where="Classvalue = 7", fids=(3, 6, 7)))
    assert {value for one in data.chips for value in data.boxes(one).labels.tolist()} == {7}
    assert [one.name for one in data.classes] == ["big pond"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"format": "Pascal"}, "no metadata format"),
        ({"labels": None}, "needs labels"),
        ({"format": "Export_Tiles"}, "takes no labels"),
        ({"format": "CycleGAN", "labels": None}, "needs a second raster"),
        ({"crop_mode": "BOUNDING_BOX"}, "Labeled_Tiles and Imagenet only"),
        ({"blacken": True}, "Labeled_Tiles and Imagenet only"),
        ({"format": "Imagenet", "all_tiles": True}, "one chip per feature"),
        ({"format": "Panoptic_Segmentation"}, "needs instance data"),
        ({"rotation": 360.0}, "rotation"),
        ({"min_overlap": 1.5}, "overlap ratio"),
        ({"tile_size_x": 0}, "tile width"),
        ({"chip_format": "BMP"}, "chip format"),
        ({"split": (0.5, 0.1, 0.1)}, "add up to 1"),
        ({"class_field": "colour"}, "no field “colour”"),
        ({"extent": Extent(0, 0, 1, 1)}, "extent"),
        ({"inputs": (RasterInput("/nowhere/x.tif"),)}, "cannot be opened"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(labelled, export, tmp_path, parameters, words):
    with pytest.raises(DeepRasterError, match=words):
        export(job(labelled, tmp_path / "bad", **parameters))
    assert not (tmp_path / "bad").exists()


def test_rasters_that_the_chip_format_cannot_hold(export, tmp_path):
    raster = write_raster(tmp_path / "r.tif", scene(5, 300, 300))
    for chip_format in ("PNG", "JPEG"):
        with pytest.raises(JobError, match="1 or 3 bands"):
            export(ExportTrainingData((raster,), str(tmp_path / "o"), "Export_Tiles", chip_format=chip_format))
    assert not (tmp_path / "o").exists()


def test_labels_that_cannot_be_used(labelled, export, tmp_path):
    far = write_vector(tmp_path / "far.gpkg", [shapely.box(0, 0, 1, 1)], classvalue=[1])
    empty = write_vector(tmp_path / "empty.gpkg", [], classvalue=np.array([], "int64"))
    zero = write_vector(tmp_path / "zero.gpkg", on_map(labelled[2]), classvalue=labelled[3] * 0)
    none = write_vector(tmp_path / "none.gpkg", on_map(labelled[2][:2]), classname=[None, None])
    cases = ((far, "lies on the raster"), (empty, "lies on the raster"), (zero, "not labelled"), (none, "has a class"))
    for layer, words in cases:
        with pytest.raises(DeepRasterError, match=words):
            export(job(labelled, tmp_path / "bad", labels=layer, format="Classified_Tiles"))
        assert not (tmp_path / "bad").exists()
    with pytest.raises(VectorError, match="cannot be opened"):
        export(job(labelled, tmp_path / "bad", labels=VectorInput(str(tmp_path / "missing.gpkg"))))


def test_a_class_with_few_samples_is_told(labelled, chips, tmp_path):
    values = labelled[3].copy()
    values[0] = 9
    layer = write_vector(tmp_path / "f.gpkg", on_map(labelled[2]), classvalue=values)
    _, _, session = chips(labels=layer)
    assert any("The class “9” is on" in one for one in session.logs)
