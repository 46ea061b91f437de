"""Writing packages: flat, the definition first, the same bytes each time, a STAC item, readable by any zip program."""

from __future__ import annotations

import json
import re
import zipfile

import pytest
from deep_raster.engine.errors import DefinitionError, JobError, OutputError
from deep_raster.engine.package.dlpk import open_package, write_package
from deep_raster.engine.package.stac import item

from .corpus_base import MODEL, WEIGHTS


@pytest.fixture
def write(tmp_path):
    (tmp_path / "net.pth").write_bytes(WEIGHTS)

    def run(name="out/tree.dlpk", members=MODEL, files=None):
        files = {"net.pth": tmp_path / "net.pth"} if files is None else files
        return write_package(tmp_path / name, members, files, cache=tmp_path / "cache")

    return run


def test_round_trip(write, tmp_path):
    characteristics = tmp_path / "made" / "ModelCharacteristics"
    (characteristics / "deep").mkdir(parents=True)
    (characteristics / "loss_graph.png").write_bytes(b"\x89PNG")
    (characteristics / "deep" / "a.txt").write_bytes(b"a")
    package = write(files={
        "net.pth": tmp_path / "net.pth",
        "model_metrics.html": b"<p><b>tree</b></p>",
        "ModelCharacteristics": characteristics,
    })  # fmt: skip
    with zipfile.ZipFile(package.path) as archive:  # the standard library's reader is the independent one
        names = archive.namelist()
        assert archive.testzip() is None
        assert json.loads(archive.read("tree.emd"))["ModelFile"] == "net.pth"
        assert archive.read("net.pth") == WEIGHTS
    assert names == ["tree.emd", "ModelCharacteristics/deep/a.txt", "ModelCharacteristics/loss_graph.png",
                     "model_metrics.html", "net.pth", "tree.stac.json"]  # fmt: skip
    assert package == open_package(package.path, tmp_path / "cache")
    assert package.definition.members == MODEL
    assert package.warnings == ()


def test_same_content_gives_the_same_bytes(write, tmp_path):
    first = write("a/tree.dlpk")
    (tmp_path / "net.pth").touch()
    second = write("b/tree.dlpk")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest


def test_definition_is_made_strict(write):
    members = {
        **MODEL,
        "ModelType": "ObjectionDetection",
        "ImageWidth": "256",
        "ModelFile": ".\\net.pth",
        "x": float("nan"),
    }
    assert write(members=members).definition.members == {**MODEL, "x": None}


def test_paths_of_this_computer_do_not_leak(write, tmp_path):
    package = write(members={**MODEL, "ModelFile": str(tmp_path / "net.pth")})
    assert package.definition.members["ModelFile"] == "net.pth"
    content = package.path.read_bytes()
    assert str(tmp_path).encode() not in content


def test_folders_of_networks(write, tmp_path):
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"\x08\x01")
    (saved / "variables" / "variables.index").write_bytes(b"i")
    members = {**MODEL, "Framework": "TensorFlow", "ModelConfiguration": "ObjectDetectionAPI", "ModelFile": "saved"}
    package = write(members=members, files={"saved": saved})
    assert package.file("saved").is_dir()
    assert (package.file(package.definition.model_file) / "variables" / "variables.index").read_bytes() == b"i"


def test_what_does_not_fit_is_refused_and_leaves_nothing(write, tmp_path):
    with pytest.raises(DefinitionError, match="ModelFile"):
        write(members={**MODEL, "ModelFile": "other.pth"})
    with pytest.raises(DefinitionError, match="ImageWidth"):
        write(members={**MODEL, "ImageWidth": "wide"})
    with pytest.raises(JobError, match="missing"):
        write(files={"net.pth": tmp_path / "none.pth"})
    for name in ("../evil.py", "a\\b", "CON", "NET.PTH"):
        with pytest.raises(JobError, match="cannot be written"):
            write(files={"net.pth": tmp_path / "net.pth", name: b"x"})
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        write("file/tree.dlpk")


def test_failed_writing_keeps_the_old_package(write, tmp_path, monkeypatch):
    package = write()
    before = package.path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deep_raster.engine.package.writing.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write(members={**MODEL, "ImageWidth": 512})
    assert package.path.read_bytes() == before
    assert [one.name for one in package.path.parent.iterdir()] == ["tree.dlpk"]


def test_stac_item(write):
    package = write(members={**MODEL, "Normalization": {"Method": "mean_std", "Mean": [1, 2, 3], "Std": [4, 5, 6]},
                             "ExtractBands": ["Red", "Green", "Blue"], "BatchSize": 2})  # fmt: skip
    members = json.loads(package.read("tree.stac.json"))
    assert members == item(package.definition, "tree")
    properties = members["properties"]
    # what the extension's schema requires of an item
    assert members["type"] == "Feature"
    assert members["geometry"] is None
    assert "bbox" not in members
    assert any("/mlm/v1" in one for one in members["stac_extensions"])
    assert {"mlm:name", "mlm:architecture", "mlm:framework", "mlm:tasks", "mlm:input", "mlm:output"} <= set(properties)
    assert properties["datetime"] is None
    assert properties["start_datetime"] < properties["end_datetime"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", properties["mlm:name"])
    source, result = properties["mlm:input"][0], properties["mlm:output"][0]
    assert source["input"] == {
        "shape": [-1, 3, 256, 256],
        "dim_order": ["batch", "channel", "height", "width"],
        "data_type": "float32",
    }
    assert source["bands"] == [one["name"] for one in properties["bands"]] == ["Red", "Green", "Blue"]
    assert source["value_scaling"][1] == {"type": "z-score", "mean": 2, "stddev": 5}
    assert result["tasks"] == properties["mlm:tasks"] == ["object-detection"]
    assert result["classification:classes"] == [{"value": 1, "name": "Tree", "title": "Tree", "color_hint": "008000"}]
    assert len(result["result"]["shape"]) == len(result["result"]["dim_order"])
    assert members["assets"]["model"]["href"] == "./net.pth"
    assert members["assets"]["model"]["roles"] == ["mlm:model"]


@pytest.mark.parametrize("name", ["木", "7 days", "-x-", "a b/c"])
def test_stac_names_fit_the_pattern(name, tmp_path, write):
    found = item(write().definition, name)["id"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", found)
