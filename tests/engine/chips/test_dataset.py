from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import rasterio
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.errors import ChipError
from rasterio.transform import from_origin

VOC = """<?xml version="1.0"?>
<annotation>
    <filename>{stem}.tif</filename>
    <size><width>32</width><height>24</height><depth>3</depth></size>{objects}
</annotation>"""
OBJECT = """
    <object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def image(path, bands=3, value=7, dtype="uint8", suffix_driver="GTiff"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver=suffix_driver,
        width=32,
        height=24,
        count=bands,
        dtype=dtype,
        transform=from_origin(100, 200, 2, 2),
    ) as out:
        out.write(np.full((bands, 24, 32), value, dtype))


def side_files(root, mode, digits=9, newer=False, classes=((1, "tree"), (4, "house"))):
    """Write side files as ArcGIS does: 2.x without MetaDataMode in the definition, sizes as strings."""
    entries = [{"Value": v, "Name": n, "Color": [10 * v, 0, 5]} for v, n in classes]
    definition = {
        "Framework": "e.g. Keras",
        "ModelFile": "e.g. model.h5",
        "ImageHeight": 24 if newer else "24",
        "Classes": [*entries, {"Value": None, "Name": "void", "Color": [-1, -1, -1]}],
        "AllTilesStats": [{"BandName": "", "Min": 1, "Max": 9, "Mean": 4.5, "StdDev": 2.0}] * 3,
    }
    if newer:
        definition |= {"MetaDataMode": mode, "ImageSpaceUsed": "PIXEL_SPACE"}
    (root / "esri_model_definition.emd").write_text(json.dumps(definition), encoding="utf-8-sig")
    stats = {"Version": 1, "NumBands": 3, "MetaDataMode": mode}
    (root / "esri_accumulated_stats.json").write_text(json.dumps(stats))


@pytest.fixture
def voc(tmp_path):
    for number, objects in enumerate((OBJECT.format(4, 1, 2, 11.5, 12) + OBJECT.format("nobody", 1, 2, 3, 4), "")):
        image(tmp_path / "images" / f"{number:09}.tif")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{number:09}.xml").write_text(VOC.format(stem=f"{number:09}", objects=objects))
    side_files(tmp_path, "PASCAL_VOC_rectangles")
    return tmp_path


def test_pascal_voc_of_arcgis(voc):
    data = open_chips(voc)
    assert (data.format, data.bands, data.dtype, data.width, data.height) == (
        "PASCAL_VOC_rectangles",
        3,
        "uint8",
        32,
        24,
    )
    assert [(one.value, one.name, one.color) for one in data.classes] == [
        (1, "tree", (10, 0, 5)),
        (4, "house", (40, 0, 5)),
    ]
    assert data.statistics[2].std == 2.0
    found = data.boxes(data.chips[0])
    assert found.boxes.tolist() == [[1, 2, 11.5, 12]]
    assert found.labels.tolist() == [4]
    assert data.boxes(data.chips[1]).boxes.shape == (0, 4)
    pixels, valid = data.image(data.chips[0])
    assert pixels.shape == (3, 24, 32)
    assert valid.all()
    assert pickle.loads(pickle.dumps(data)) == data


def test_a_picture_with_the_suffix_of_another_format_is_read(voc):
    image(voc / "images" / "000000000.tif", value=9, suffix_driver="PNG")
    data = open_chips(voc)
    assert (data.image(data.chips[0])[0] == 9).all()


def test_class_names_are_accepted_in_labels(voc):
    (voc / "labels" / "000000001.xml").write_text(VOC.format(stem="x", objects=OBJECT.format("House", 0, 0, 5, 5)))
    data = open_chips(voc)
    assert data.boxes(data.chips[1]).labels.tolist() == [4]


def test_chip_without_label_and_label_without_chip_are_told(voc):
    image(voc / "images" / "000000007.tif")
    (voc / "labels" / "000000008.xml").write_text("<annotation/>")
    data = open_chips(voc)
    assert [one.stem for one in data.chips] == ["000000000", "000000001"]
    assert len(data.problems) == 2


def test_hostile_xml_is_refused(voc):
    bomb = (
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha">]><annotation><object><name>&b;</name></object></annotation>'
    )
    (voc / "labels" / "000000000.xml").write_text(bomb)
    data = open_chips(voc)
    with pytest.raises(ChipError, match="no XML"):
        data.boxes(data.chips[0])
    (voc / "labels" / "000000000.xml").write_text("<annotation>")
    with pytest.raises(ChipError, match="no XML"):
        data.boxes(data.chips[0])


def test_links_out_of_the_folder_are_passed_over(voc, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    image(outside / "secret.tif")
    (voc / "images" / "000000002.tif").symlink_to(outside / "secret.tif")
    (voc / "labels" / "000000002.xml").write_text("<annotation/>")
    assert "000000002" not in [one.stem for one in open_chips(voc).chips]


def test_kitti(tmp_path):
    image(tmp_path / "images" / "0.tif")
    (tmp_path / "labels").mkdir()
    line = "  1 0.00 0 0    1.50    2.25   20.00   23.75 0 0 0 0 0 0 0\r\n"
    (tmp_path / "labels" / "0.txt").write_bytes(line.encode())
    side_files(tmp_path, "KITTI_rectangles", newer=True)
    data = open_chips(tmp_path)
    assert data.reference_system == "PIXEL_SPACE"
    assert data.boxes(data.chips[0]).boxes.tolist() == [[1.5, 2.25, 20, 23.75]]


def test_rcnn_masks_with_bands_for_overlaps(tmp_path):
    image(tmp_path / "images" / "5.tif")
    masks = np.zeros((2, 24, 32), "uint8")
    masks[0, :4, :4], masks[0, 10:12, 10:13], masks[1, 2:6, 2:6] = 1, 2, 3
    for name, pixels in (("house", masks), ("tree", np.zeros((1, 24, 32), "uint8"))):
        (tmp_path / "labels" / name).mkdir(parents=True)
        with rasterio.open(
            tmp_path / "labels" / name / "5.tif",
            "w",
            driver="GTiff",
            width=32,
            height=24,
            count=len(pixels),
            dtype="uint8",
        ) as out:
            out.write(pixels)
    side_files(tmp_path, "RCNN_Masks")
    data = open_chips(tmp_path)
    found = data.instances(data.chips[0])
    assert found.labels.tolist() == [4, 4, 4]
    assert [int(one.sum()) for one in found.masks] == [16, 6, 16]
    assert data.boxes(data.chips[0]).boxes.tolist() == [[0, 0, 4, 4], [10, 10, 13, 12], [2, 2, 6, 6]]


def test_tile_labels(tmp_path):
    for kind, text, expected in (
        ("Labeled_Tiles", "4", ("house",)),
        ("MultiLabeled_Tiles", "tree,house boat", ("tree", "house boat")),
    ):
        root = tmp_path / kind
        image(root / "images" / "0.tif")
        (root / "labels").mkdir()
        (root / "labels" / "0.xml").write_text(VOC.format(stem="0", objects=OBJECT.format(text, 0, 0, 32, 24)))
        side_files(root, kind)
        data = open_chips(root)
        assert data.names(data.chips[0]) == expected


def test_imagenet_by_folder(tmp_path):
    image(tmp_path / "images" / "tree" / "1.tif")
    image(tmp_path / "images" / "big house" / "0.tif")
    side_files(tmp_path, "Imagenet")
    data = open_chips(tmp_path)
    assert [(one.stem, data.names(one)) for one in data.chips] == [("0", ("big house",)), ("1", ("tree",))]


def test_coco_and_yolo_of_others(tmp_path):
    coco, yolo = tmp_path / "coco", tmp_path / "yolo"
    image(coco / "images" / "a.tif")
    (coco / "annotations").mkdir()
    square = {"id": 1, "image_id": 9, "category_id": 3, "bbox": [2, 4, 6, 8]}
    square["segmentation"] = [[2, 4, 8, 4, 8, 12, 2, 12]]
    members = {"images": [{"id": 9, "file_name": "a.tif"}], "annotations": [square]}
    members["categories"] = [{"id": 3, "name": "car"}]
    (coco / "annotations" / "instances.json").write_text(json.dumps(members))
    data = open_chips(coco)
    assert [(one.value, one.name) for one in data.classes] == [(3, "car")]
    assert data.boxes(data.chips[0]).boxes.tolist() == [[2, 4, 8, 12]]
    assert data.instances(data.chips[0]).masks.sum() == 48

    image(yolo / "images" / "a.tif")
    (yolo / "labels").mkdir()
    (yolo / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (yolo / "classes.txt").write_text("car\nship\n")
    data = open_chips(yolo)
    found = data.boxes(data.chips[0])
    assert data.format == "YOLO"
    assert found.boxes.tolist() == [[12, 6, 20, 18]]
    assert [one.name for one in data.classes if one.value == found.labels[0]] == ["ship"]


def test_folders_that_are_no_chips(tmp_path):
    with pytest.raises(ChipError, match="no training chips"):
        open_chips(tmp_path)
    with pytest.raises(ChipError, match="no folder"):
        open_chips(tmp_path / "none")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.tif").write_bytes(b"no picture")
    with pytest.raises(ChipError, match="None of the first chips"):
        open_chips(tmp_path)
    (tmp_path / "esri_accumulated_stats.json").write_text("[1]")
    with pytest.raises(ChipError, match="no JSON object"):
        open_chips(tmp_path)
