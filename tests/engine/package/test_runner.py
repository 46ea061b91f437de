"""The jobs createpackage and packageinfo: in this process with a small session, and once through a real engine."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from deep_raster.engine import client, jobs
from deep_raster.engine.errors import DefinitionError, JobError, OutputError, PackageError, TrustError
from deep_raster.engine.package import trust
from deep_raster.engine.package.dlpk import open_package
from deep_raster.engine.package.runner import create_package, package_info
from deep_raster.engine.package.tasks import describe_network
from real_engine import run

from .corpus_base import CUSTOM, MODEL, WEIGHTS, emd
from .zips import Item, build


class FakeSession:
    """A session that runs tasks at once."""

    def __init__(self):
        self.lines, self.fractions, self.called = [], [], []

    def progress(self, fraction, text=""):
        self.fractions.append(fraction)

    def log(self, text, level="info"):
        self.lines.append(text)

    def check_cancelled(self):
        pass

    def call(self, task, payload, placement=None):
        self.called.append(task)
        return {"describe_network": describe_network}[task](json.loads(json.dumps(payload)), None)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    (place / "ModelCharacteristics").mkdir(parents=True)
    (place / "tree.emd").write_bytes(emd())
    (place / "net.pth").write_bytes(WEIGHTS)
    (place / "model_metrics.html").write_text("<b>tree</b>")
    (place / "ModelCharacteristics" / "loss_graph.png").write_bytes(b"\x89PNG")
    (place / "notes.txt").write_text("mine")
    return place


def create(definition, output, *files, session=None, **answers):
    job = jobs.CreatePackage(str(definition), str(output), tuple(map(str, files)), answers)
    return create_package(job, session or FakeSession())


def test_package_of_a_definition(folder, tmp_path):
    session = FakeSession()
    values = create(folder / "tree.emd", tmp_path / "tree.dlpk", session=session)
    package = open_package(values["OUTPUT"])
    names = ["ModelCharacteristics/loss_graph.png", "model_metrics.html", "net.pth", "tree.emd", "tree.stac.json"]
    assert sorted(one.name for one in package.files) == names
    assert values["HASH"] == package.digest
    assert session.fractions == sorted(session.fractions)
    assert any(package.digest in line for line in session.lines)


def test_further_files_and_changed_members(folder, tmp_path):
    values = create(folder / "tree.emd", tmp_path / "t.dlpk", folder / "notes.txt", ModelName="Trees", Threshold="0.3")
    package = open_package(values["OUTPUT"])
    assert package.read("notes.txt") == b"mine"
    assert package.definition.get("ModelName") == "Trees"
    assert package.definition.threshold == pytest.approx(0.3)
    with pytest.raises(JobError, match="none"):
        create(folder / "tree.emd", tmp_path / "t.dlpk", folder / "none.txt")
    (tmp_path / "notes.txt").write_text("other")
    with pytest.raises(JobError, match="Two files"):
        create(folder / "tree.emd", tmp_path / "t.dlpk", folder / "notes.txt", tmp_path / "notes.txt")


@pytest.mark.parametrize("missing", ["none.emd", ""])
def test_missing_definition(tmp_path, missing):
    with pytest.raises(JobError):
        create(tmp_path / missing if missing else "", tmp_path / "t.dlpk")
    assert not (tmp_path / "t.dlpk").exists()


def test_definition_whose_weights_are_missing(folder, tmp_path):
    (folder / "net.pth").unlink()
    with pytest.raises(PackageError, match="ModelFile"):
        create(folder / "tree.emd", tmp_path / "t.dlpk")
    assert not (tmp_path / "t.dlpk").exists()


def test_own_code_is_trusted_at_creation_foreign_code_is_not(tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "finder.emd").write_text(json.dumps(CUSTOM))
    (place / "Finder.py").write_text("class Finder: pass")
    mine = create(place / "finder.emd", tmp_path / "mine.dlpk")
    assert trust.open_for_run(mine["OUTPUT"]).code_allowed
    foreign = tmp_path / "foreign.dlpk"
    foreign.write_bytes(build([Item("a.emd", json.dumps(CUSTOM).encode()), Item("Finder.py", b"import os")]))
    again = create(foreign, tmp_path / "again.dlpk")
    for path in (foreign, again["OUTPUT"]):
        with pytest.raises(TrustError):
            trust.open_for_run(path)


def onnx_file(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 4, 1, 1], [0.1] * 12)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["scores"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 64, 64])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph(nodes, "net", [image], [scores], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_package_of_a_bare_onnx_file(tmp_path):
    session = FakeSession()
    path = onnx_file(tmp_path / "land.onnx")
    values = create(path, tmp_path / "land.dlpk", session=session, Classes="1=water,2=forest,3=town")
    package = open_package(values["OUTPUT"])
    assert session.called == ["describe_network"]
    assert (package.definition.framework, package.definition.model_type) == ("ONNX", "ImageClassification")
    assert (package.definition.image_width, package.definition.extract_bands) == (64, (0, 1, 2, 3))
    assert [one.name for one in package.definition.classes] == ["water", "forest", "town"]
    assert package.read("land.onnx") == path.read_bytes()


def test_package_of_a_saved_model_brings_its_variables(tmp_path):
    # a graph with a signature: schema version 1, one meta graph, signature_def {"serving_default": image -> scores}
    def field(number, data):
        return bytes([number << 3 | 2, len(data)]) + data

    def tensor(name, *sizes):
        shape = b"".join(field(2, b"\x08" + bytes([size])) for size in sizes)
        return field(1, name) + field(2, field(1, name + b":0") + field(3, shape))

    signature = field(1, tensor(b"image", 1, 32, 24, 3)) + field(2, tensor(b"scores", 1, 5))
    graph = field(5, field(1, b"serving_default") + field(2, signature))
    folder = tmp_path / "roofs"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + field(2, graph))
    (folder / "variables" / "variables.index").write_bytes(b"index")
    values = create(folder / "saved_model.pb", tmp_path / "roofs.dlpk", ModelConfiguration="KerasClassifier")
    package = open_package(values["OUTPUT"])
    assert (package.definition.model_file, len(package.definition.classes)) == ("roofs", 5)
    assert (package.definition.image_height, package.definition.image_width) == (32, 24)
    assert (package.file(package.definition.model_file) / "variables" / "variables.index").read_bytes() == b"index"


def test_bare_network_that_tells_too_little(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = [1.0]
    with pytest.raises(DefinitionError, match="does not tell enough"):
        create(tmp_path / "a.h5", tmp_path / "t.dlpk")
    assert not (tmp_path / "t.dlpk").exists()


# --- packageinfo -------------------------------------------------------------------------------------------------


def test_card_of_a_package(folder, tmp_path):
    members = {
        **MODEL,
        "accuracy": "9.1e-01",
        "per_class_metrics": '{"Tree": {"f1": 0.9}}',
        "ModelName": "Trees",
        "MinCellSize": {"x": 0.1, "y": 0.1, "spatialReference": {"latestWkid": 32633}},
        "DataRange": [0, 255],
    }
    (folder / "tree.emd").write_text(json.dumps(members))
    job = jobs.PackageInfo(str(folder / "tree.emd"), str(tmp_path / "out" / "card.html"), str(tmp_path / "card.json"))
    values = package_info(job, FakeSession())
    card = json.loads((tmp_path / "card.json").read_text())
    assert card == json.loads(json.dumps(values["CARD"]))
    assert (card["name"], card["title"], card["type"], card["tools"]) == (
        "tree",
        "Trees",
        "ObjectDetection",
        ["detectobjects"],
    )
    assert card["classes"] == [{"value": 1, "name": "Tree", "color": [0, 128, 0]}]
    assert card["framework"] == {
        "name": "PyTorch",
        "needs": "PyTorch",
        "available": find_spec("torch") is not None,
        "choice": "pytorch",
    }
    assert card["range"] == {"source": "DataRange", "minimum": 0, "maximum": 255}
    assert card["cell_size"]["minimum"] == [0.1, 0.1, "EPSG:32633"]
    assert card["metrics"] == {"accuracy": "9.1e-01", "per_class_metrics": {"Tree": {"f1": 0.9}}}
    assert {"name": "padding", "kind": "int", "default": "64", "label": "Padding", "choices": []} in card["arguments"]
    assert {one["name"]: one["size"] for one in card["files"]}["net.pth"] == len(WEIGHTS)
    page = (tmp_path / "out" / "card.html").read_text()
    for text in (
        "Trees",
        "background:rgb(0,128,0)",
        "detectobjects",
        card["hash"],
        "Content-Security-Policy",
        "loss_graph.png",
    ):
        assert text in page
    assert values["HTML"] == str(tmp_path / "out" / "card.html")


def test_card_tells_about_code_and_how_to_allow_it(tmp_path):
    path = tmp_path / "finder.dlpk"
    path.write_bytes(build([Item("a.emd", json.dumps(CUSTOM).encode()), Item("Finder.py", b"import os")]))
    values = package_info(jobs.PackageInfo(str(path)), FakeSession())
    card = values["CARD"]
    assert not values["ALLOWED"]
    assert card["code"] == ["Finder.py"]
    assert f"TRUST={values['HASH']}" in card["trust"]["hint"]
    assert card["protection"]
    assert package_info(jobs.PackageInfo(str(path), trust=(values["HASH"],)), FakeSession())["ALLOWED"]


def test_card_names_what_pickles_ask_for(tmp_path):
    import pickle

    from .corpus_contents import Bomb, torch_zip

    path = tmp_path / "a.dlpk"
    path.write_bytes(build([Item("a.emd", emd()), Item("net.pth", torch_zip(pickle.dumps(Bomb(), 2)))]))
    findings = package_info(jobs.PackageInfo(str(path)), FakeSession())["CARD"]["findings"]
    assert any(one["level"] == "problem" and ".system" in one["text"] for one in findings)


def test_card_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        package_info(jobs.PackageInfo(str(folder), str(tmp_path / "file" / "card.html")), FakeSession())


def test_truncated_package(tmp_path):
    path = tmp_path / "a.dlpk"
    path.write_bytes(build([Item("a.emd", emd()), Item("net.pth", WEIGHTS)])[:-40])
    with pytest.raises(PackageError, match="incomplete"):
        package_info(jobs.PackageInfo(str(path)), FakeSession())


def test_through_a_real_engine(tmp_path):
    path = onnx_file(tmp_path / "land.onnx")
    try:
        made = run(jobs.CreatePackage(str(path), str(tmp_path / "land.dlpk")), keep_warm=True)
        told = run(jobs.PackageInfo(made["OUTPUT"], json=str(tmp_path / "card.json")), keep_warm=True)
    finally:
        client.shutdown_engines()
    assert told["HASH"] == made["HASH"] == open_package(tmp_path / "land.dlpk").digest
    assert json.loads((tmp_path / "card.json").read_text())["type"] == "ImageClassification"
