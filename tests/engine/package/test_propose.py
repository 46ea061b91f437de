"""Definitions proposed for bare networks, which the real frameworks wrote, and from answers."""

from __future__ import annotations

import contextlib
import os

import pytest
from deep_raster.engine.errors import DefinitionError, JobError
from deep_raster.engine.package.emd import build_definition
from deep_raster.engine.package.propose import propose, read_answers

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="module")
def tf():
    tensorflow = pytest.importorskip("tensorflow")
    with contextlib.suppress(RuntimeError):  # another test has started it already
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    return tensorflow


def frozen(tf, path, build):
    graph = tf.Graph()
    with graph.as_default():
        build(tf.compat.v1)
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.tensorflow
def test_frozen_graph_of_the_detection_api(tf, tmp_path):
    def build(v1):
        image = v1.placeholder(v1.uint8, [None, 300, 400, 3], "image_tensor")
        numbers = v1.cast(v1.reduce_sum(image, [1, 2]), v1.float32)
        for name in ("detection_boxes", "detection_scores", "detection_classes", "num_detections"):
            v1.identity(numbers, name)

    members = propose(frozen(tf, tmp_path / "trees.pb", build), {"Classes": "tree,house"})
    definition = build_definition(members)
    assert (definition.framework, definition.configuration) == ("TensorFlow", "ObjectDetectionAPI")
    assert (definition.image_width, definition.image_height) == (400, 300)
    assert definition.extract_bands == (0, 1, 2)
    assert [(one.value, one.name) for one in definition.classes] == [(1, "tree"), (2, "house")]
    assert definition.model_file == "trees.pb"


@pytest.mark.tensorflow
def test_frozen_graph_of_deeplab_needs_the_size(tf, tmp_path):
    def build(v1):
        image = v1.placeholder(v1.uint8, [1, None, None, 3], "ImageTensor")
        v1.identity(v1.cast(v1.reduce_max(image, -1), v1.int32), "SemanticPredictions")

    path = frozen(tf, tmp_path / "land.pb", build)
    definition = build_definition(propose(path, {"ImageWidth": "512"}))
    assert (definition.configuration, definition.model_type) == ("DeepLab", "ImageClassification")
    assert (definition.image_width, definition.image_height) == (512, 512)


@pytest.mark.tensorflow
def test_unknown_graph_asks(tf, tmp_path):
    path = frozen(tf, tmp_path / "a.pb", lambda v1: v1.square(v1.placeholder(v1.float32, [1, 64, 48, 4], "x")))
    with pytest.raises(DefinitionError) as caught:
        propose(path, {})
    assert {one.split(":")[0] for one in caught.value.problems} == {"ModelType", "ModelConfiguration"}
    definition = build_definition(propose(path, {"modeltype": "ImageClassification", "ModelConfiguration": "DeepLab"}))
    assert (definition.image_height, definition.image_width, len(definition.extract_bands)) == (64, 48, 4)


@pytest.mark.tensorflow
def test_saved_models(tf, tmp_path):
    class Network(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(tf.ones([3, 5]))

        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")])
        def detect(self, image):
            numbers = tf.cast(tf.reduce_sum(image, [1, 2]), tf.float32) @ self.weight
            return dict.fromkeys(("detection_boxes", "detection_scores", "detection_classes"), numbers)

        @tf.function(input_signature=[tf.TensorSpec([None, 32, 24, 3], tf.float32, "image")])
        def classify(self, image):
            return tf.reduce_mean(image, [1, 2]) @ self.weight

    network = Network()
    tf.saved_model.save(network, str(tmp_path / "detector"), signatures=network.detect)
    tf.saved_model.save(network, str(tmp_path / "classifier"), signatures=network.classify)
    detector = build_definition(propose(tmp_path / "detector", {"ImageWidth": "640", "Classes": "1=a"}))
    assert (detector.configuration, detector.model_type, detector.image_height) == (
        "ObjectDetectionAPI",
        "ObjectDetection",
        640,
    )
    members = propose(tmp_path / "classifier", {"ModelConfiguration": "KerasClassifier"})
    assert (members["ModelType"], len(members["Classes"])) == ("ObjectClassification", 5)
    assert (members["ImageHeight"], members["ImageWidth"]) == (32, 24)


@pytest.mark.tensorflow
def test_keras_files(tf, tmp_path):
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((40, 40, 4)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(7)])
    model.save(tmp_path / "roofs.keras")
    definition = build_definition(propose(tmp_path / "roofs.keras", {}))
    assert (definition.framework, definition.configuration) == ("Keras", "KerasClassifier")
    assert definition.model_type == "ObjectClassification"
    assert (definition.image_width, len(definition.extract_bands), len(definition.classes)) == (40, 4, 7)
    assert definition.crop_size_fixed
    image = tf.keras.Input((64, 64, 3))
    nested = tf.keras.Model(image, layers.Conv2D(5, 1)(tf.keras.Sequential([layers.Conv2D(2, 3)])(image)))
    nested.save(tmp_path / "land.keras")
    members = propose(tmp_path / "land.keras", {"ModelConfiguration": "DeepLab"})
    assert (members["ModelType"], len(members["Classes"]), members["ImageWidth"]) == ("ImageClassification", 5, 64)


@pytest.mark.torch
def test_torchscript_is_not_loaded_but_its_shapes_are_seen(tmp_path, monkeypatch):
    import torch

    nn = torch.nn
    pixels = nn.Sequential(nn.Conv2d(5, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    images = nn.Sequential(nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
    torch.jit.script(pixels).save(str(tmp_path / "pixels.pt"))
    torch.jit.trace(images.eval(), torch.zeros(1, 4, 16, 16)).save(str(tmp_path / "images.pt"))
    monkeypatch.setattr(torch.jit, "load", None)
    found = build_definition(propose(tmp_path / "pixels.pt", {"ImageWidth": "256", "Classes": "0=a,5=b,7=c"}))
    assert (found.framework, found.model_type, len(found.extract_bands)) == ("TorchScript", "ImageClassification", 5)
    assert [one.value for one in found.classes] == [0, 5, 7]
    found = build_definition(propose(tmp_path / "images.pt", {"ImageWidth": "64"}))
    assert (found.model_type, len(found.extract_bands), len(found.classes)) == ("ObjectClassification", 4, 6)


@pytest.mark.torch
def test_exported_programs_tell_their_sizes(tmp_path, monkeypatch):
    import torch

    nn = torch.nn
    pixels = nn.Sequential(nn.Conv2d(5, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()
    torch.export.save(torch.export.export(pixels, (torch.zeros(1, 5, 48, 64),)), tmp_path / "pixels.pt2")
    monkeypatch.setattr(torch.export, "load", None)
    found = build_definition(propose(tmp_path / "pixels.pt2", {}))
    assert (found.framework, found.model_type, found.extract_bands) == (
        "TorchExport",
        "ImageClassification",
        (0, 1, 2, 3, 4),
    )
    assert (found.image_width, found.image_height, len(found.classes)) == (64, 48, 3)
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "pixels.pt2").read_bytes()[:3000])
    with pytest.raises(JobError, match="No package can be made of"):
        propose(tmp_path / "cut.pt2", {})


@pytest.mark.torch
def test_shapes_are_those_of_the_state_dictionary(tmp_path):
    import torch
    from deep_raster.engine.package.shapes import tensor_shapes

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    state = network.state_dict()
    torch.save({"model": state, "epoch": 3, "history": [1.5, (2, "a")]}, tmp_path / "a.pth")
    assert tensor_shapes(tmp_path / "a.pth") == [tuple(one.shape) for one in state.values()]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_shapes_of_hostile_pickles(tmp_path, monkeypatch, protocol):
    import pickle

    from deep_raster.engine.package.shapes import tensor_shapes

    from .corpus_contents import Bomb, torch_zip

    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    for number, data in enumerate([pickle.dumps([Bomb()], protocol), b"(((((", b"0.", b"\x80\x02}q\x00(", b"R."]):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(torch_zip(data))
        assert tensor_shapes(path) == []
    assert not (tmp_path / "canary").exists()


def test_answers_win_over_what_is_told(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x07\x3a\x00\x42\x04\x0a\x00\x10\x0d")
    told = {
        "Framework": "ONNX",
        "ModelType": "ObjectDetection",
        "ModelConfiguration": {"Name": "Network"},
        "ImageWidth": 9,
    }
    members = propose(path, {"ImageWidth": "256", "ModelConfiguration": '{"Name": "Network", "Input": {}}'}, told)
    assert (members["ImageWidth"], members["ModelType"]) == ("256", "ObjectDetection")
    assert members["ModelConfiguration"]["Input"] == {}
    assert members["ModelFile"] == "a.onnx"


def test_short_forms_of_answers():
    found = read_answers(
        {
            "classes": "3=tree; 7=big house",
            "DATARANGE": "0, 255",
            "extractbands": "Red,2",
            "MinCellSize": "0.5",
            "Description": "",
        }
    )
    assert found == {
        "Classes": [{"Value": 3, "Name": "tree"}, {"Value": 7, "Name": "big house"}],
        "DataRange": [0, 255],
        "ExtractBands": ["Red", 2],
        "MinCellSize": {"x": 0.5, "y": 0.5},
    }


@pytest.mark.parametrize(
    "answers", [{"Colour": "red"}, {"Classes": "a=tree"}, {"Classes": "[{"}, {"MinCellSize": "big"}]
)
def test_answers_that_cannot_be_read(answers):
    with pytest.raises(JobError):
        read_answers(answers)


@pytest.mark.parametrize("content", [b"\x80\x04]\x94.", b"hello", b"", b"<html>"])
def test_files_of_which_no_package_is_made(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(JobError, match="No package can be made"):
        propose(tmp_path / "a.bin", {})
