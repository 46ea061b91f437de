"""Every format against values computed independently: geometry by shapely, masks by rasterio, pixels by slicing."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from chips_support import CELL, LEFT, TOP, scene, write_raster
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.chips.rules import FORMATS
from deep_raster.engine.jobs import ExportTrainingData, RasterInput
from defusedxml import ElementTree
from pycocotools import mask as coco_mask
from rasterio.features import rasterize

pytestmark = pytest.mark.filterwarnings("ignore")
TILE, STRIDE = 64, 40
NAMES = {1: "tree", 2: "house", 7: "big pond"}


def job_of(labelled, folder, name, **parameters):
    raster, layer, _, _ = labelled
    labels = {} if FORMATS[name].labels == "none" else {"labels": layer}
    return ExportTrainingData(
        inputs=(raster,),
        output=str(folder),
        format=name,
        tile_size_x=TILE,
        tile_size_y=TILE,
        stride_x=STRIDE,
        stride_y=STRIDE,
        **{**labels, **parameters},
    )


def expected_chips(shapes, height=200, width=300):
    """Return (column, row, [(index, clipped shape)]) of every window that should be a chip, by shapely alone."""
    image = shapely.box(0, 0, width, height)
    found = []
    for row in range(0, height - TILE + STRIDE, STRIDE):
        for column in range(0, width - TILE + STRIDE, STRIDE):
            part = shapely.box(column, row, column + TILE, row + TILE).intersection(image)
            inside = [(i, one.intersection(part)) for i, one in enumerate(shapes)]
            inside = [(i, shapely.affinity.translate(one, -column, -row)) for i, one in inside if one.area > 1e-12]
            if inside and part.area >= TILE * TILE / 2:
                found.append((column, row, inside))
    return found


@pytest.fixture
def voc(labelled, export, tmp_path):
    told, _ = export(job_of(labelled, tmp_path / "voc", "PASCAL_VOC_rectangles"))
    return told, tmp_path / "voc", expected_chips(labelled[2]), labelled[3]


def test_pascal_voc(voc):
    told, folder, expected, values = voc
    assert told["CHIPS"] == len(expected)
    assert told["OBJECTS"] == sum(len(inside) for _, _, inside in expected)
    padded = np.pad(scene(), ((0, 0), (0, 100), (0, 100)))
    for number, (column, row, inside) in enumerate(expected):
        with rasterio.open(folder / "images" / f"{number:012}.tif") as chip:
            assert np.array_equal(chip.read(), padded[:, row : row + TILE, column : column + TILE])
            assert chip.transform == Affine(CELL, 0, LEFT + column * CELL, 0, -CELL, TOP - row * CELL)
            assert chip.crs.to_epsg() == 32633
        root = ElementTree.parse(folder / "labels" / f"{number:012}.xml").getroot()
        assert root.findtext("filename") == f"{number:012}.tif"
        assert [root.findtext(f"size/{one}") for one in ("width", "height", "depth")] == ["64", "64", "3"]
        found = [
            (
                int(one.findtext("name")),
                *(float(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")),
            )
            for one in root.iter("object")
        ]
        assert [one[0] for one in found] == [values[i] for i, _ in inside]
        assert np.allclose([one[1:] for one in found], [shape.bounds for _, shape in inside], atol=0.0051)


def test_xml_text_is_that_of_the_contract(voc):
    text = (voc[1] / "labels" / "000000000000.xml").read_bytes().decode()
    assert text.startswith('<?xml version="1.0"?>\n<annotation>\n    <filename>000000000000.tif</filename>\n')
    number = r"\d+\.\d\d"
    box = "".join(rf"            <{one}>{number}</{one}>\n" for one in ("xmin", "ymin", "xmax", "ymax"))
    pattern = rf"    <object>\n        <name>\d</name>\n        <bndbox>\n{box}        </bndbox>\n    </object>\n"
    assert re.search(pattern, text)


def test_map_statistics_and_definition(voc):
    _, folder, expected, values = voc
    lines = (folder / "map.txt").read_bytes().decode().split("\r\n")
    assert lines[1] == "images\\000000000001.tif  labels\\000000000001.xml "
    assert len(lines) == len(expected) + 1
    kept = [(values[i], shape.area * CELL * CELL) for _, _, inside in expected for i, shape in inside]
    stats = json.loads((folder / "esri_accumulated_stats.json").read_text())
    assert stats["NumTiles"] == stats["NextTileIndex"] == len(expected)
    assert stats["MetaDataMode"] == "PASCAL_VOC_rectangles"
    assert stats["OutputFeatures"] is True
    assert [one["ClassName"] for one in stats["Classes"]] == ["tree", "house", "big pond"]
    features = stats["FeatureStats"]
    assert features["NumFeaturesPerClass"] == [sum(1 for v, _ in kept if v == one) for one in NAMES]
    with_class = [sum(any(values[i] == one for i, _ in inside) for _, _, inside in expected) for one in NAMES]
    assert features["NumImagesPerClass"] == with_class
    sizes = [area for value, area in kept if value == 7]
    assert features["FeatureAreaPerClass"][2]["Sum"] == pytest.approx(sum(sizes))
    assert features["FeatureAreaPerClass"][2]["Min"] == pytest.approx(min(sizes))
    per_image = [len(inside) for _, _, inside in expected]
    assert features["NumFeaturesPerImage"]["Max"] == max(per_image)
    assert features["NumFeaturesPerImage"]["Mean"] == pytest.approx(np.mean(per_image))
    valid = [scene()[:, r : r + TILE, c : c + TILE].reshape(3, -1) for c, r, _ in expected]
    pixels = np.concatenate(valid, axis=1).astype(float)
    for band, state in zip(pixels, stats["BandStatsState"]):
        assert (state["Num"], state["Min"], state["Max"]) == (len(band), band.min(), band.max())
        assert state["M1"] == pytest.approx(band.mean())
        assert state["M2"] == pytest.approx(((band - band.mean()) ** 2).sum())
    emd = json.loads((folder / "esri_model_definition.emd").read_text())
    assert emd["AllTilesStats"][0]["StdDev"] == pytest.approx(pixels[0].std())
    assert emd["Classes"][2] == {"Value": 7, "Name": "big pond", "Color": [70, 7, 0]}
    assert emd["ImageSpaceUsed"] == "MAP_SPACE"
    assert (folder / "esri_accumulated_stats.json").read_text().startswith('{\n  "Version" : 1,\n')
    text = (folder / "stats.txt").read_bytes().decode().split("\r\n")
    assert text[0] == f"images = {len(expected)} *3*64*64"
    assert text[-2].startswith("big pond                      7 ")
    assert len(text[-2]) == 20 + 3 * 11 + 3 * 12


def test_kitti(labelled, export, tmp_path):
    export(job_of(labelled, tmp_path / "k", "KITTI_rectangles"))
    for number, (_, _, inside) in enumerate(expected_chips(labelled[2])):
        data = (tmp_path / "k" / "labels" / f"{number:012}.txt").read_bytes().decode()
        lines = data.split("\r\n")
        assert lines.pop() == ""
        for line, (index, shape) in zip(lines, inside, strict=True):
            sides = "".join(f" {one:7.2f}" for one in shape.bounds)
            assert line == f"{labelled[3][index]:3d} 0.00 0 0{sides} 0 0 0 0 0 0 0"


def painted(inside, values):
    shapes = [(one, int(values[i])) for i, one in inside]
    return rasterize(shapes, out_shape=(TILE, TILE), transform=Affine.identity(), dtype="uint8")


def test_classified_tiles(labelled, export, tmp_path):
    told, _ = export(job_of(labelled, tmp_path / "c", "Classified_Tiles"))
    data = open_chips(tmp_path / "c")
    expected = expected_chips(labelled[2])
    maps = [painted(inside, labelled[3]) for _, _, inside in expected]
    assert told["CHIPS"] == len(expected)
    for chip, one in zip(data.chips, maps, strict=True):
        with rasterio.open(chip.labels[0]) as label, rasterio.open(chip.image) as image:
            assert np.array_equal(label.read(1), one)
            assert label.dtypes == ("uint8",)
            assert label.transform == image.transform
    stats = json.loads((tmp_path / "c" / "esri_accumulated_stats.json").read_text())
    assert stats["OutputFeatures"] is False
    pixels = stats["ClassPixelStats"]
    assert pixels["NumPixelsPerClass"] == [int(sum((one == v).sum() for one in maps)) for v in NAMES]
    assert pixels["NumImagesPerClass"] == [sum(bool((one == v).any()) for one in maps) for v in NAMES]
    assert pixels["NumClassesPerImage"]["Max"] == max(len(set(one.flat) - {0}) for one in maps)


def instance_masks(inside, values):
    return [
        (int(values[i]), rasterize([one], out_shape=(TILE, TILE), transform=Affine.identity()) > 0) for i, one in inside
    ]


def same_masks(found, expected):
    """Compare sets of (class value, mask), whatever their order; masks without a pixel do not count."""
    left = sorted((int(v), m.tobytes()) for v, m in zip(found.labels, found.masks))
    right = sorted((v, m.tobytes()) for v, m in expected if m.any())
    return left == right


def test_rcnn_masks_keep_overlapping_objects_whole(labelled, export, tmp_path):
    export(job_of(labelled, tmp_path / "r", "RCNN_Masks"))
    data = open_chips(tmp_path / "r")
    expected = expected_chips(labelled[2])
    for chip, (_, _, inside) in zip(data.chips, expected, strict=True):
        assert same_masks(data.instances(chip), instance_masks(inside, labelled[3]))
        assert {one.parent.name for one in chip.labels} == {NAMES[labelled[3][i]] for i, _ in inside}
    lines = (tmp_path / "r" / "map.txt").read_text().splitlines()
    assert lines[0].startswith("images\\000000000000.tif  labels\\")


def test_panoptic(labelled, export, tmp_path):
    _, layer, shapes, values = labelled
    export(job_of(labelled, tmp_path / "p", "Panoptic_Segmentation", instances=layer))
    data = open_chips(tmp_path / "p")
    for chip, (_, _, inside) in zip(data.chips, expected_chips(shapes), strict=True):
        assert np.array_equal(data.class_map(chip), painted(inside, values))
        assert same_masks(data.instances(chip), instance_masks(inside, values))
    found = data.members["Panoptic_Segmentation_Instance_Classes"]
    assert [one["Value"] for one in found] == [1, 2, 7]


def test_coco(labelled, export, tmp_path):
    export(job_of(labelled, tmp_path / "coco", "COCO"))
    members = json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text())
    expected = expected_chips(labelled[2])
    assert len(members["images"]) == len(expected)
    assert [one["name"] for one in members["categories"]] == ["tree", "house", "big pond"]
    by_image = {}
    for one in members["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one)
    assert len({one["id"] for one in members["annotations"]}) == sum(len(inside) for _, _, inside in expected)
    for image, (_, _, inside) in zip(members["images"], expected):
        for one, (index, shape) in zip(by_image[image["id"]], inside, strict=True):
            x, y, width, height = one["bbox"]
            assert np.allclose((x, y, x + width, y + height), shape.bounds, atol=0.02)
            assert one["category_id"] == labelled[3][index]
            assert one["area"] == pytest.approx(shape.area, abs=0.006)
            if isinstance(one["segmentation"], dict):
                run_lengths = coco_mask.frPyObjects(one["segmentation"], TILE, TILE)
                mask = rasterize([shape], out_shape=(TILE, TILE), transform=Affine.identity())
                assert np.array_equal(coco_mask.decode(run_lengths), mask)
            else:
                rings = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in one["segmentation"]]
                assert shapely.union_all(rings).symmetric_difference(shape).area < 0.02 * shape.length
    data = open_chips(tmp_path / "coco")
    for chip, (_, _, inside) in zip(data.chips, expected):
        assert data.instances(chip).masks.sum() == pytest.approx(
            sum(mask.sum() for _, mask in instance_masks(inside, labelled[3])), abs=len(inside) * 3
        )
    parts = [
        json.loads((tmp_path / "coco" / "annotations" / f"instances_{one}.json").read_text())
        for one in ("train", "test")
    ]
    assert not {one["id"] for one in parts[0]["images"]} & {one["id"] for one in parts[1]["images"]}


def test_yolo(labelled, export, tmp_path):
    export(job_of(labelled, tmp_path / "y", "YOLO"))
    export(job_of(labelled, tmp_path / "ys", "YOLO_segmentation"))
    assert (tmp_path / "y" / "classes.txt").read_text() == "tree\nhouse\nbig pond\n"
    boxes, masks = open_chips(tmp_path / "y"), open_chips(tmp_path / "ys")
    for number, (_, _, inside) in enumerate(expected_chips(labelled[2])):
        lines = (tmp_path / "y" / "labels" / f"{number:012}.txt").read_text().splitlines()
        for line, (index, shape) in zip(lines, inside, strict=True):
            xmin, ymin, xmax, ymax = np.array(shape.bounds) / TILE
            numbers = [float(one) for one in line.split()]
            assert numbers[0] == [1, 2, 7].index(labelled[3][index])
            assert np.allclose(numbers[1:], [(xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin], atol=1e-6)
        found = boxes.boxes(boxes.chips[number])
        assert found.labels.tolist() == [labelled[3][i] for i, _ in inside]
        assert np.allclose(found.boxes, [one.bounds for _, one in inside], atol=1e-3)
        rings = [shapely.Polygon(r) for _, s in inside for r in shapely.get_exterior_ring(shapely.get_parts(s))]
        lines = (tmp_path / "ys" / "labels" / f"{number:012}.txt").read_text().splitlines()
        polygons = [shapely.Polygon(np.array(one.split()[1:], float).reshape(-1, 2) * TILE) for one in lines]
        assert all(a.symmetric_difference(b).area < 1e-2 for a, b in zip(polygons, rings, strict=True))
    assert len(masks) == len(boxes)
    assert (tmp_path / "y" / "data.yaml").read_text().endswith('names:\n  0: "tree"\n  1: "house"\n  2: "big pond"\n')


def test_labeled_tiles_and_imagenet_have_one_centred_chip_per_feature(labelled, export, tmp_path):
    shapes, values = labelled[2], labelled[3]
    told, _ = export(job_of(labelled, tmp_path / "l", "Labeled_Tiles"))
    export(job_of(labelled, tmp_path / "i", "Imagenet"))
    image = shapely.box(0, 0, 300, 200)
    padded = np.pad(scene(), ((0, 0), (100, 100), (100, 100)))
    expected = []
    for shape, value in zip(shapes, values):
        x, y = (np.array(shape.bounds[:2]) + shape.bounds[2:]) / 2
        column, row = int(np.floor(x - TILE / 2 + 0.5)), int(np.floor(y - TILE / 2 + 0.5))
        frame = shapely.box(column, row, column + TILE, row + TILE)
        if frame.intersection(image).area >= TILE * TILE / 2 and shape.intersection(frame).intersection(image).area > 0:
            expected.append((column, row, int(value)))
    assert told["CHIPS"] == told["OBJECTS"] == len(expected)
    labels, classes = open_chips(tmp_path / "l"), open_chips(tmp_path / "i")
    for one, other, (column, row, value) in zip(labels.chips, classes.chips, expected, strict=True):
        pixels = padded[:, row + 100 : row + 100 + TILE, column + 100 : column + 100 + TILE]
        for data, chip in ((labels, one), (classes, other)):
            assert np.array_equal(data.image(chip)[0], pixels)
            assert data.names(chip) == (NAMES[value],)
        root = ElementTree.parse(one.labels[0]).getroot()
        assert [item.findtext("name") for item in root.iter("object")] == [str(value)]
    assert not (tmp_path / "i" / "labels").exists()
    assert (tmp_path / "i" / "map.txt").read_text().splitlines()[0].startswith("images\\")


def test_multilabeled_tiles(labelled, export, tmp_path):
    export(job_of(labelled, tmp_path / "m", "MultiLabeled_Tiles"))
    data = open_chips(tmp_path / "m")
    for chip, (_, _, inside) in zip(data.chips, expected_chips(labelled[2]), strict=True):
        assert data.names(chip) == tuple(NAMES[one] for one in sorted({int(labelled[3][i]) for i, _ in inside}))


def test_export_tiles_and_second_raster(labelled, export, tmp_path):
    other = write_raster(tmp_path / "other.tif", scene(2, dtype="uint16")[:, ::-1].copy())
    told, _ = export(job_of(labelled, tmp_path / "e", "Export_Tiles", inputs2=(other,)))
    data = open_chips(tmp_path / "e")
    assert told["CHIPS"] == len(data) > 20
    chip = data.chips[9]
    row, column = divmod(9, 7)
    part = np.s_[:, row * STRIDE : row * STRIDE + TILE, column * STRIDE : column * STRIDE + TILE]
    assert np.array_equal(data.image(chip)[0], scene()[part])
    assert np.array_equal(data.image(chip, second=True)[0], scene(2, dtype="uint16")[:, ::-1][part])
    assert (
        (tmp_path / "e" / "map.txt").read_bytes().startswith(b"images\\000000000000.tif images2\\000000000000.tif \r\n")
    )
    stats = json.loads((tmp_path / "e" / "esri_accumulated_stats.json").read_text())
    assert len(stats["BandStatsState2"]) == 2
    assert len(data.statistics2) == 2
    assert "Classes" not in data.members
    assert "features = 0" in (tmp_path / "e" / "stats.txt").read_text()


def test_cyclegan(labelled, export, tmp_path):
    other = write_raster(tmp_path / "other.tif", scene(1, 100, 100))
    told, _ = export(job_of(labelled, tmp_path / "g", "CycleGAN", inputs2=(other,)))
    for root, bands in (("A", 3), ("B", 1)):
        stats = json.loads((tmp_path / "g" / root / "esri_accumulated_stats.json").read_text())
        assert stats["NumBands"] == bands
        assert (tmp_path / "g" / root / "images" / "000000000000.tif").is_file()
        assert (tmp_path / "g" / root / "map.txt").is_file()
    assert open_chips(tmp_path / "g").format == "CycleGAN"
    assert told["CHIPS"] == sum(len(list((tmp_path / "g" / one / "images").iterdir())) for one in "AB")


def test_change_detection_has_labels_and_two_images(labelled, export, tmp_path):
    export(job_of(labelled, tmp_path / "c", "Classified_Tiles", inputs2=(labelled[0],)))
    data = open_chips(tmp_path / "c")
    assert np.array_equal(data.image(data.chips[3])[0], data.image(data.chips[3], second=True)[0])
    first = (tmp_path / "c" / "map.txt").read_text().splitlines()[0]
    assert first == "images\\000000000000.tif  labels\\000000000000.tif images2\\000000000000.tif "


def regions(class_map):
    """Regions of one class that touch by edges, by flood fill."""
    from skimage.measure import label

    found = []
    for value in sorted(set(class_map.flat) - {0}):
        numbered = label(class_map == value, connectivity=1)
        found.extend((int(value), numbered == one) for one in range(1, numbered.max() + 1))
    return found


@pytest.mark.parametrize("name", ["Classified_Tiles", "RCNN_Masks", "COCO", "YOLO"])
def test_class_raster_as_labels(labelled, export, tmp_path, name):
    classes = rasterize(
        [(one, int(v)) for one, v in zip(labelled[2], labelled[3])],
        (200, 300),
        transform=Affine.identity(),
        dtype="int16",
    )
    classes[classes == 0] = -9
    path = tmp_path / "classes.tif"
    write_raster(path, classes[None], nodata=-9)
    table = "".join(f"<Row><F>{v}</F><F>{n}</F><F>9</F><F>8</F><F>7</F></Row>" for v, n in NAMES.items())
    fields = "".join(f"<FieldDefn><Name>{one}</Name></FieldDefn>" for one in ("Value", "Class", "Red", "Green", "Blue"))
    text = f"<PAMDataset><PAMRasterBand band='1'><GDALRasterAttributeTable>{fields}{table}</GDALRasterAttributeTable>"
    (tmp_path / "classes.tif.aux.xml").write_text(text + "</PAMRasterBand></PAMDataset>")
    export(job_of(labelled, tmp_path / "o", name, labels=None, label_raster=RasterInput(str(path))))
    data = open_chips(tmp_path / "o")
    assert [(one.value, one.name, one.color) for one in data.classes] == [(v, n, (9, 8, 7)) for v, n in NAMES.items()]
    padded = np.pad(np.maximum(classes, 0), ((0, 100), (0, 100)))
    with open(tmp_path / "o" / "chips.csv") as file:
        rows = list(csv.DictReader(file))
    for chip, row in zip(data.chips, rows, strict=True):
        top = round((TOP - float(row["ymax"])) / CELL)
        left = round((float(row["xmin"]) - LEFT) / CELL)
        part = padded[top : top + TILE, left : left + TILE]
        if name == "Classified_Tiles":
            assert np.array_equal(data.class_map(chip), part)
        elif name == "YOLO":
            found = data.boxes(chip)
            boxes = [(v, np.flatnonzero(m.any(0))[0], np.flatnonzero(m.any(1))[0]) for v, m in regions(part)]
            assert sorted((v, round(b[0]), round(b[1])) for v, b in zip(found.labels, found.boxes.tolist())) == sorted(
                boxes
            )
        else:
            assert same_masks(data.instances(chip), regions(part))
