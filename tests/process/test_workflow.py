"""The tools one after another with the real engine, as models of several steps and item by item.

The networks that classify are small ONNX files whose answers can be computed from the image (see ``make_onnx.py``).
"""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal, ogr, osr

from .model_files import write_model

ORIGIN = (500000.0, 5000000.0)
FIELDS = {"Classname": ogr.OFTString, "Classvalue": ogr.OFTInteger, "Confidence": ogr.OFTReal}


def write(path, pixels, east=0.0):
    """Write (bands, rows, columns) bytes as a GeoTIFF of 1 m."""
    bands, rows, columns = pixels.shape
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), columns, rows, bands, gdal.GDT_Byte)
    dataset.SetGeoTransform((ORIGIN[0] + east, 1, 0, ORIGIN[1], 0, -1))
    dataset.SetProjection(reference().ExportToWkt())
    dataset.WriteArray(pixels)
    dataset = None
    return path


def reference():
    found = osr.SpatialReference()
    found.ImportFromEPSG(32633)
    return found


def read(path):
    return gdal.Open(str(path)).ReadAsArray()


def squares(path, rows):
    """Write rows of (column, row, size, class name, class value, confidence) as squares; pixels are metres."""
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    layer = source.CreateLayer(path.stem, reference(), ogr.wkbPolygon)
    for name, kind in FIELDS.items():
        layer.CreateField(ogr.FieldDefn(name, kind))
    for column, row, size, *values in rows:
        x, y = ORIGIN[0] + column, ORIGIN[1] - row
        ring = f"{x} {y},{x + size} {y},{x + size} {y - size},{x} {y - size},{x} {y}"
        feature = ogr.Feature(layer.GetLayerDefn())
        for name, value in zip(FIELDS, values):
            feature[name] = value
        feature.SetGeometry(ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))"))
        layer.CreateFeature(feature)
    source = None
    return path


def table(path):
    data = ogr.Open(str(path))
    layer = data.GetLayer(0)
    return [one.items() for one in layer]


def test_from_labels_to_a_class_raster_in_one_model(real, provider, tmp_path):
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 60, (3, 128, 128)).astype(np.uint8)
    pixels[0, :, 64:] += 150
    image = write(tmp_path / "scene.tif", pixels)
    labels = squares(tmp_path / "labels.gpkg", [(0, 0, 64, "dark", 1, 1.0), (64, 0, 64, "red", 2, 1.0),
                                                (0, 64, 64, "dark", 1, 1.0), (64, 64, 64, "red", 2, 1.0)])  # fmt: skip
    chips = {"INPUT": str(image), "LABELS": str(labels), "CLASS_FIELD": "Classvalue", "FORMAT": "Classified_Tiles",
             "TILE_SIZE_X": 32, "TILE_SIZE_Y": 32, "STRIDE_X": 32,
             "STRIDE_Y": 32, "WORKERS": 1}  # fmt: skip
    training = {"MODEL_TYPE": "UNET", "EPOCHS": 1, "BATCH_SIZE": 4, "VALIDATION": 0, "AUGMENTATION": "NONE",
                "PROCESSOR": "CPU", "ARGUMENTS": "depth=3;decoder_channels=32,16,8"}  # fmt: skip
    steps = [
        ("export", "exporttrainingdata", chips, {}),
        ("train", "trainmodel", training, {"INPUT": ("export", "OUTPUT")}),
        ("classify", "classifypixels", {"INPUT": str(image), "PROCESSOR": "CPU", "WORKERS": 1},
         {"MODEL": ("train", "MODEL")}),
    ]  # fmt: skip
    outputs = {"export": ["OUTPUT"], "train": ["OUTPUT"], "classify": ["OUTPUT"]}
    model = write_model(tmp_path / "m.model3", steps, outputs)
    done = real.run(model, **{"export:OUTPUT": tmp_path / "chips", "train:OUTPUT": tmp_path / "trained",
                              "classify:OUTPUT": tmp_path / "classes.tif"})  # fmt: skip
    assert done.code == 0, done.text
    assert len(list((tmp_path / "chips" / "images").glob("*.tif"))) == 16
    assert len(list((tmp_path / "trained").glob("*.dlpk"))) == 1
    classes = read(tmp_path / "classes.tif")
    assert classes.shape == (128, 128) and set(np.unique(classes)) <= {1, 2}
    written = gdal.Open(str(tmp_path / "classes.tif"))  # kept: a band dies with its dataset
    names = written.GetRasterBand(1).GetDefaultRAT()
    found = {names.GetValueAsInt(row, 0): names.GetValueAsString(row, 1) for row in range(names.GetRowCount())}
    assert found == {1: "dark", 2: "red"}


def test_duplicates_go_and_the_rest_is_measured_in_one_model(real, provider, tmp_path):
    detected = squares(tmp_path / "detected.gpkg", [
        (0, 0, 10, "tree", 1, 0.9), (1, 0, 10, "tree", 1, 0.6),  # the second overlaps the first by 9/11
        (30, 0, 10, "tree", 1, 0.8),  # nothing there
        (60, 0, 10, "tree", 1, 0.7),
    ])  # fmt: skip
    known = squares(tmp_path / "known.gpkg", [(0, 0, 10, "tree", 1, 0), (60, 0, 10, "tree", 1, 0),
                                              (90, 0, 10, "tree", 1, 0)])  # fmt: skip
    steps = [
        ("nms", "nonmaximumsuppression", {"INPUT": str(detected), "MAX_OVERLAP": 0.5}, {}),
        ("measure", "computeaccuracy",
         {"REFERENCE": str(known), "DETECTED_CLASS_FIELD": "Classname", "REFERENCE_CLASS_FIELD": "Classname"},
         {"DETECTED": ("nms", "OUTPUT")}),
    ]  # fmt: skip
    model = write_model(tmp_path / "m.model3", steps, {"nms": ["OUTPUT"], "measure": ["OUTPUT", "REPORT"]})
    done = real.run(model, **{"nms:OUTPUT": tmp_path / "kept.gpkg", "measure:OUTPUT": tmp_path / "table.gpkg",
                              "measure:REPORT": tmp_path / "report.html"})  # fmt: skip
    assert done.code == 0, done.text
    assert sorted(one["Confidence"] for one in table(tmp_path / "kept.gpkg")) == [0.7, 0.8, 0.9]
    # Two of three detections are right (ranks 1 and 3), two of three trees are found.
    (tree,) = [one for one in table(tmp_path / "table.gpkg") if "tree" in one.values()]
    found = {name.casefold(): value for name, value in tree.items()}
    assert found["precision"] == pytest.approx(2 / 3, abs=1e-4) and found["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["f1_score"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["ap"] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3, abs=0.01)
    assert "<svg" in (tmp_path / "report.html").read_text()


def brightest(pixels):
    return pixels.argmax(0) + 1


@pytest.fixture
def two(tmp_path):
    """Two rasters of different places: {name: (path, pixels)}."""
    rng = np.random.default_rng(9)
    found = {}
    for number, name in enumerate(("east", "west")):
        pixels = rng.permuted(np.arange(3 * 48 * 70) % 251, axis=None).reshape(3, 48, 70).astype(np.uint8)
        pixels[np.arange(3)[:, None, None] == pixels.argmax(0)] |= 1  # no ties: the brightest is odd,
        pixels[np.arange(3)[:, None, None] != pixels.argmax(0)] &= 254  # the others even
        found[name] = (write(tmp_path / f"{name}.tif", pixels, 1000.0 * number), pixels)
    return found


def test_classes_of_two_rasters_item_by_item(real, provider, networks, two, tmp_path, monkeypatch):
    import processing
    from deep_raster.processing_provider import environments
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback, QgsProcessingOutputLayerDefinition, QgsProject

    for name, value in real.environment.items():
        monkeypatch.setenv(name, value)
    environments.forget()
    project, context = QgsProject.instance(), QgsProcessingContext()
    context.setProject(project)
    package = tmp_path / "pixels.dlpk"
    processing.run("deepraster:createpackage", {"DEFINITION": str(networks / "pixels.onnx"), "OUTPUT": str(package)})
    (east, _), (west, _) = two.values()
    results = processing.run(
        "deepraster:classifypixels",
        {
            "INPUT": str(east), "COLLECTION": [str(west)], "MODEL": str(package), "WORKERS": 1, "PROCESSOR": "CPU",
            "PROCESSING_MODE": "ITEMS_SEPARATELY", "CONFIDENCE": str(tmp_path / "sure.tif"),
            "OUTPUT": QgsProcessingOutputLayerDefinition(str(tmp_path / "classes.tif"), project),
        },
        context=context, feedback=QgsProcessingFeedback(),
    )  # fmt: skip
    assert results["OUTPUT"] == str(tmp_path / "classes") and results["CONFIDENCE"] == str(tmp_path / "sure")
    for name, (_path, pixels) in two.items():
        np.testing.assert_array_equal(read(tmp_path / "classes" / f"{name}.tif"), brightest(pixels))
        assert read(tmp_path / "sure" / f"{name}.tif").shape == (48, 70)
    loading = context.layersToLoadOnCompletion()
    assert {path: details.name for path, details in loading.items()} == {
        str(tmp_path / "classes" / f"{name}.tif"): name for name in two
    }
    assert sorted(one.name for one in tmp_path.glob("classes*")) == ["classes"]


def test_classes_of_features(real, networks, two, tmp_path):
    _path, pixels = two["east"]
    dark, places = pixels // 4, [(2, 2, 0), (20, 10, 1), (40, 25, 2), (55, 5, 1)]
    for column, row, band in places:
        dark[band, row : row + 12, column : column + 12] += 180
    image = write(tmp_path / "spots.tif", dark)
    features = squares(tmp_path / "spots.gpkg", [(c, r, 12, "?", 0, 0) for c, r, _ in places])
    package = tmp_path / "objects.dlpk"
    made = real.run("createpackage", DEFINITION=networks / "objects.onnx", ANSWERS="ImageWidth=16;ImageHeight=16",
                    OUTPUT=package)  # fmt: skip
    assert made.code == 0, made.text
    output = tmp_path / "named.gpkg"
    done = real.run("classifyobjects", INPUT=image, FEATURES=features, MODEL=package, WORKERS=1, OUTPUT=output)
    assert done.code == 0, done.text
    assert done.results["COUNT"] == "4"
    named = [one["ClassLabel"] for one in table(output)]
    assert [name.split("_")[-1].split(" ")[-1] for name in named] == [str(band + 1) for *_, band in places]


def test_objects_of_two_rasters_item_by_item(real, detector, two, tmp_path):
    (east, _), (west, _) = two.values()
    shared = {"MODEL": detector, "WORKERS": 1, "ARGUMENTS": "threshold=0.05"}
    done = real.run("detectobjects", INPUT=east, COLLECTION=west, PROCESSING_MODE="ITEMS_SEPARATELY", **shared,
                    OUTPUT=tmp_path / "both.gpkg")  # fmt: skip
    assert done.code == 0, done.text
    alone = real.run("detectobjects", INPUT=west, **shared, OUTPUT=tmp_path / "west.gpkg")
    assert alone.code == 0, alone.text
    both = table(tmp_path / "both.gpkg")
    assert {one["Item"] for one in both} == {"east", "west"} and len(both) == int(done.results["COUNT"])
    west_only = [{**one, "Item": "west"} for one in table(tmp_path / "west.gpkg")]
    assert [one for one in both if one["Item"] == "west"] == west_only
