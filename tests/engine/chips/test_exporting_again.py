"""Interrupting, continuing, adding to and replacing an export; and that nothing depends on who did which block."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from chips_support import LocalSession, scene, write_raster
from deep_raster.engine.chips import layout, opening, runner, staging
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.errors import JobCancelled, JobError, OutputError
from deep_raster.engine.jobs import ExportTrainingData

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Make several blocks of a small scene."""
    monkeypatch.setattr(layout, "_BLOCK_SIDE", 100)


def job(labelled, folder, **parameters):
    defaults = {"format": "PASCAL_VOC_rectangles", "labels": labelled[1]}
    return ExportTrainingData(
        inputs=(labelled[0],),
        output=str(folder),
        tile_size_x=64,
        tile_size_y=64,
        stride_x=50,
        stride_y=50,
        **{**defaults, **parameters},
    )


def content(folder):
    """Return the bytes of every file."""
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in sorted(Path(folder).rglob("*"))
        if one.is_file() and one.name != "contact_sheet.png"
    }


def without_exports(files):
    files = dict(files)
    members = json.loads(files.pop("split.json"))
    members.pop("exports")
    return files, members


@pytest.fixture(params=["PASCAL_VOC_rectangles", "Classified_Tiles", "COCO", "YOLO"])
def kind(request):
    return request.param


def test_same_bytes_whatever_the_order_of_the_blocks(labelled, export, tmp_path, kind):
    _, session = export(job(labelled, tmp_path / "a", format=kind))
    assert session.calls.count("export_chips") > 3
    export(job(labelled, tmp_path / "b", format=kind), reverse=True)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert session.fractions == sorted(session.fractions)


@pytest.mark.parametrize("kind", ["PASCAL_VOC_rectangles", "YOLO"])
@pytest.mark.parametrize("step", [0, 1, 5, 18, 99])
def test_cancelled_export_is_continued_to_the_same_result(labelled, export, tmp_path, step, kind):
    whole = tmp_path / "whole"
    _, session = export(job(labelled, whole, format=kind))
    step = min(step, len(session.calls) - 1)
    out = tmp_path / "out"
    with pytest.raises(JobCancelled):
        export(job(labelled, out, format=kind), cancel_after=step)
    told, again = export(job(labelled, out, format=kind, existing="CONTINUE"))
    assert content(out) == content(whole)
    assert told["CHIPS"] == len(open_chips(out))
    done_before = session.calls[:step].count("export_chips")
    assert again.calls.count("export_chips") == session.calls.count("export_chips") - done_before


def test_cancelled_export_can_be_replaced_or_given_up(labelled, export, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(JobCancelled):
        export(job(labelled, out), cancel_after=4)
    with pytest.raises(JobError, match="cannot be continued"):
        export(job(labelled, out, rotation=45.0, existing="CONTINUE"))
    _, session = export(job(labelled, out))
    assert any("given up" in one for one in session.logs)
    assert not (out / staging.NAME).exists()


def test_finished_export_is_not_done_twice(labelled, export, tmp_path):
    told, _ = export(job(labelled, tmp_path / "o"))
    before = content(tmp_path / "o")
    again, session = export(job(labelled, tmp_path / "o", existing="CONTINUE"))
    assert again == told
    assert session.calls == []
    assert content(tmp_path / "o") == before


def test_appending_continues_numbers_and_merges_statistics(labelled, export, tmp_path, kind):
    """Two exports of the two halves of the labels hold what one export of all holds."""
    upper, lower = ({"where": f"fid % 2 = {one}"} for one in (0, 1))
    layers = [type(labelled[1])(labelled[1].path, **one) for one in (upper, lower)]
    first, _ = export(job(labelled, tmp_path / "o", format=kind, labels=layers[0]))
    second, _ = export(job(labelled, tmp_path / "o", format=kind, labels=layers[1]))
    export(job(labelled, tmp_path / "alone", format=kind, labels=layers[1]))
    data, other = open_chips(tmp_path / "o"), open_chips(tmp_path / "alone")
    total = first["CHIPS"] + second["CHIPS"]
    assert [one.stem for one in sorted(data.chips, key=lambda c: c.stem)] == [f"{n:012}" for n in range(total)]
    assert len((tmp_path / "o" / "map.txt").read_text().splitlines()) == total
    stats = json.loads((tmp_path / "o" / "esri_accumulated_stats.json").read_text())
    assert (stats["NumTiles"], stats["NextTileIndex"]) == (total, total)
    pixels = np.concatenate([data.image(one)[0].reshape(3, -1) for one in data.chips], axis=1)
    state = stats["BandStatsState"][1]
    inside = pixels[1][pixels.any(axis=0)].astype(float)  # the scene has no 0
    assert state["Num"] == len(inside)
    assert state["M1"] == pytest.approx(inside.mean())
    assert state["M2"] == pytest.approx(((inside - inside.mean()) ** 2).sum())
    key = "ClassPixelStats" if kind == "Classified_Tiles" else "FeatureStats"
    assert stats[key]["NumImagesTotal"] == total
    shifted = dict(zip(sorted(c.stem for c in other.chips), sorted(c.stem for c in data.chips)[first["CHIPS"] :]))
    by_stem = {one.stem: one for one in data.chips}
    for chip in other.chips:
        twin = by_stem[shifted[chip.stem]]
        assert np.array_equal(other.image(chip)[0], data.image(twin)[0])
        if kind in ("PASCAL_VOC_rectangles", "YOLO", "COCO"):
            assert np.array_equal(other.boxes(chip).boxes, data.boxes(twin).boxes)
            assert np.array_equal(other.boxes(chip).labels, data.boxes(twin).labels)


def test_replacing_leaves_only_the_new_chips(labelled, export, tmp_path):
    out = tmp_path / "o"
    export(job(labelled, out, format="RCNN_Masks"))
    (out / "models").mkdir()
    (out / "models" / "mine.txt").write_text("kept")
    export(job(labelled, out, existing="REPLACE"))
    export(job(labelled, tmp_path / "fresh"))
    files = content(out)
    assert files.pop("models/mine.txt") == b"kept"
    assert without_exports(files) == without_exports(content(tmp_path / "fresh"))


def test_replacing_is_continued_as_replacing(labelled, export, tmp_path):
    out = tmp_path / "o"
    export(job(labelled, out, format="RCNN_Masks"))
    before = content(out)
    with pytest.raises(JobCancelled):
        export(job(labelled, out, existing="REPLACE"), cancel_after=4)
    assert {name: data for name, data in content(out).items() if not name.startswith(".")} == before
    export(job(labelled, out, existing="CONTINUE"))
    export(job(labelled, tmp_path / "fresh"))
    assert without_exports(content(out)) == without_exports(content(tmp_path / "fresh"))


def test_folders_with_something_else_are_left_alone(labelled, export, tmp_path):
    out = tmp_path / "mine"
    (out / "images").mkdir(parents=True)
    (out / "images" / "holiday.jpg").write_text("me")
    for existing in ("APPEND", "REPLACE"):
        with pytest.raises(JobError, match="not those of an export"):
            export(job(labelled, out, existing=existing))
    assert content(out) == {"images/holiday.jpg": b"me"}


def test_other_formats_and_bands_are_not_mixed(labelled, export, tmp_path):
    out = tmp_path / "o"
    export(job(labelled, out))
    before = content(out)
    with pytest.raises(JobError, match="chips of the format PASCAL_VOC_rectangles"):
        export(job(labelled, out, format="RCNN_Masks"))
    grey = write_raster(tmp_path / "grey.tif", scene(1))
    with pytest.raises(JobError, match="have 3 bands"):
        export(ExportTrainingData((grey,), str(out), "PASCAL_VOC_rectangles", labels=labelled[1]))
    assert content(out) == before


def test_two_exports_into_one_folder_at_once(labelled, tmp_path):
    one = job(labelled, tmp_path / "o")
    with opening.opened(one):
        with pytest.raises(OutputError, match="Another export"):
            runner.run(one, LocalSession(tmp_path))
        assert (tmp_path / "o").is_dir()
    runner.run(one, LocalSession(tmp_path))


def test_a_failure_keeps_what_was_there(labelled, export, tmp_path):
    out = tmp_path / "o"
    export(job(labelled, out))
    before = content(out)
    broken = tmp_path / "broken.tif"
    write_raster(broken, scene(), compress="deflate", blockysize=16, blockxsize=16, tiled=True)
    size = os.path.getsize(broken)
    with open(broken, "r+b") as file:
        file.truncate(int(size * 0.6))
    with pytest.raises(OSError, match=r"broken\.tif"), rasterio.Env():
        export(job((type(labelled[0])(str(broken)), *labelled[1:]), out))
    after = {name: data for name, data in content(out).items() if not name.startswith(".")}
    assert after == before


def test_read_only_folder_is_told(labelled, export, tmp_path):
    target = tmp_path / "file"
    target.write_text("not a folder")
    with pytest.raises(OutputError, match="cannot be made"):
        export(job(labelled, target / "o"))


def test_the_split_shares_no_pixel(labelled, export, tmp_path):
    export(job(labelled, tmp_path / "o", split=(0.5, 0.25, 0.25)))
    data = open_chips(tmp_path / "o")
    sets = [data.part(one) for one in ("train", "validation", "test")]
    assert all(sets)
    for index, left in enumerate(sets):
        for right in sets[index + 1 :]:
            for a in left:
                for b in right:
                    width = min(a.bounds[2], b.bounds[2]) - max(a.bounds[0], b.bounds[0])
                    height = min(a.bounds[3], b.bounds[3]) - max(a.bounds[1], b.bounds[1])
                    assert width < 1e-6 or height < 1e-6
    split = json.loads((tmp_path / "o" / "split.json").read_text())
    assert split["train"] == [one.stem for one in sets[0]]
    assert sum(len(split[one]) for one in ("train", "validation", "test", "left_out")) == len(data)
    assert (tmp_path / "o" / "contact_sheet.png").stat().st_size > 1000


def folder_of_arcgis(root):
    """Write two chips of 64 x 64 as ArcGIS Pro does, the second without objects; the next would be number 7."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    objects = "<object><name>2</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
    for number, text in ((0, objects), (6, "")):
        write_raster(root / "images" / f"{number:09}.tif", np.full((3, 64, 64), 100 + number, "uint8"))
        (root / "labels" / f"{number:09}.xml").write_text(f"<annotation>{text}</annotation>")
    spread = {"Min": 5.0, "Max": 5.0, "Mean": 5.0, "Sum": 5.0, "Count": 1}
    per_image = {"Min": 0, "Max": 1, "Mean": 0.5, "Sum": 1, "Count": 2}
    features = {"NumClasses": 1, "NumImagesTotal": 2, "NumFeaturesTotal": 1, "NumImagesPerClass": [1]}
    features |= {"NumFeaturesPerClass": [1], "NumFeaturesPerImage": per_image, "FeatureAreaPerClass": [spread]}
    band = {"Min": 100, "Max": 106, "Mean": 0, "StdDev": 0, "M1": 103.0, "M2": 9.0 * 8192, "Num": 8192}
    stats = {"Version": 1, "NumBands": 3, "TileSizeX": 64, "TileSizeY": 64, "NumClasses": 1, "NumTiles": 2}
    stats |= {"NextTileIndex": 7, "OutputFeatures": True, "MetaDataMode": "PASCAL_VOC_rectangles"}
    stats |= {"Classes": [{"ClassValue": 2, "ClassName": "Villa"}], "FeatureStats": features}
    stats |= {"InputRastersProps": {"RasterCount": 4, "SensorName": "", "BandNames": ["", "", ""]}}
    stats |= {"BandStatsState": [band] * 3}
    (root / "esri_accumulated_stats.json").write_text(json.dumps(stats), encoding="utf-8-sig")
    emd = {"Framework": "e.g. TensorFlow", "ImageHeight": "64", "ImageWidth": "64"}
    emd |= {"Classes": [{"Value": 2, "Name": "Villa", "Color": [1, 2, 3]}]}
    (root / "esri_model_definition.emd").write_text(json.dumps(emd), encoding="utf-8-sig")
    lines = "".join(f"images\\{n:09}.tif  labels\\{n:09}.xml \r\n" for n in (0, 6))
    (root / "map.txt").write_bytes(lines.encode())
    return lines


def test_adding_to_a_folder_of_arcgis(labelled, export, tmp_path):
    root = tmp_path / "o"
    lines = folder_of_arcgis(root)
    told, _ = export(job(labelled, root))
    export(job(labelled, tmp_path / "alone"))
    data, alone = open_chips(root), open_chips(tmp_path / "alone")
    new = [f"{7 + number:012}" for number in range(told["CHIPS"])]
    assert sorted(one.stem for one in data.chips) == sorted(["000000000", "000000006", *new])
    text = (root / "map.txt").read_bytes().decode()
    assert text.startswith(lines)
    assert text[len(lines) :].startswith(f"images\\{new[0]}.tif  labels\\{new[0]}.xml \r\n")
    assert text.count("\r\n") == len(data)
    stats, other = data.accumulated, alone.accumulated
    assert (stats["NumTiles"], stats["NextTileIndex"]) == (told["CHIPS"] + 2, told["CHIPS"] + 7)
    assert stats["InputRastersProps"]["RasterCount"] == 5
    for key in ("NumImagesTotal", "NumFeaturesTotal"):
        assert stats["FeatureStats"][key] == other["FeatureStats"][key] + {"I": 2, "F": 1}[key[3]]
    assert stats["FeatureStats"]["NumFeaturesPerClass"][1] == other["FeatureStats"]["NumFeaturesPerClass"][1] + 1
    assert stats["FeatureStats"]["FeatureAreaPerClass"][1]["Sum"] == pytest.approx(
        other["FeatureStats"]["FeatureAreaPerClass"][1]["Sum"] + 5
    )
    state, old = stats["BandStatsState"][2], other["BandStatsState"][2]
    total = old["Num"] + 8192
    mean = (old["M1"] * old["Num"] + 103 * 8192) / total
    squares = old["M2"] + old["Num"] * (old["M1"] - mean) ** 2 + 9 * 8192 + 8192 * (103 - mean) ** 2
    assert (state["Num"], state["M1"], state["M2"]) == (total, pytest.approx(mean), pytest.approx(squares))
    found = [(one.value, one.name, one.color) for one in data.classes]
    assert found == [(1, "tree", (10, 1, 0)), (2, "Villa", (1, 2, 3)), (7, "big pond", (70, 7, 0))]
    assert data.boxes(data.chips[0]).labels.tolist() == [2]
