"""ONNX files of pixel and image networks: our adapter against the torch module itself on the same pixels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from deep_raster.engine.errors import DefinitionError, ModelError
from deep_raster.engine.models.onnx_describe import describe_onnx
from deep_raster.engine.models.roles import NetworkRoles
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from torch import nn  # noqa: E402

from .onnx_support import add_texts, files, load, segmentation  # noqa: E402


def test_segmentation_logits(tmp_path):
    net = segmentation(4)
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 64, 64), dynamic=(0, 2, 3))
    members = describe_onnx(path)
    assert members["ModelType"] == "ImageClassification"
    assert len(members["Classes"]) == 4
    model = load(tmp_path, members)
    assert model.values == (1, 2, 3, 4)
    assert not model.plan.fixed
    assert model.plan.batch == 1
    batch = files.pixels((3, 3, 48, 80))
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    files.same_scores(model, batch, wanted)


def test_segmentation_with_background_left_out_of_classes(tmp_path):
    path = files.export(segmentation(4), tmp_path / "net.onnx", (1, 3, 32, 32))
    model = load(tmp_path, describe_onnx(path), Classes=files.classes(3, 5))
    assert model.values == (0, 5, 6, 7)


def test_one_channel_probability_with_threshold(tmp_path):
    net = segmentation(1, last=nn.Sigmoid())
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 32, 32))
    members = describe_onnx(path)
    batch = files.pixels((2, 3, 32, 32))
    with torch.no_grad():
        chances = net(files.scaled(batch)).numpy()[:, 0]
    threshold = float(np.quantile(chances, 0.7))
    wanted = chances > threshold
    model = load(tmp_path, members, Classes=files.classes(1, 9), Threshold=threshold)
    assert model.values == (0, 9)
    assert model.plan.fixed
    assert abs(threshold - 0.5) > 0.001
    found = model.scores(batch, files.everywhere(batch)).argmax(1)
    assert 0.02 < wanted.mean() < 0.98
    assert (found == wanted).mean() >= 0.9999


def test_class_map_of_16_bit_pixels_channels_last(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = segmentation(3)

        def forward(self, x):
            return self.net(x.permute(0, 3, 1, 2) / 4000).argmax(1)

    net = Net()
    path = files.export(net, tmp_path / "net.onnx", (1, 32, 32, 3))
    members = describe_onnx(path)
    configuration = members["ModelConfiguration"]
    assert configuration["Input"]["Layout"] == "NHWC"
    assert configuration["Output"]["Kind"] == "PixelClasses"
    model = load(tmp_path, members, Classes=files.classes(3, 0), Normalization={"Method": "none", "Fill": 0})
    batch = files.pixels((2, 3, 32, 32), "uint16")
    with torch.no_grad():
        wanted = net(torch.from_numpy(batch.astype("float32").transpose(0, 2, 3, 1))).numpy()
    assert (model.scores(batch, files.everywhere(batch)).argmax(1) == wanted).mean() >= 0.9999


def test_unsigned_bytes_reach_the_network_untouched_and_invalid_pixels_as_fill(tmp_path):
    node = helper.make_node("Cast", ["images"], ["out"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 2, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2, 8, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    members = describe_onnx(tmp_path / "net.onnx")
    members["ModelConfiguration"]["Output"] = {"Kind": "Bands"}
    model = load(tmp_path, members)
    batch, valid = files.pixels((1, 2, 8, 8)), np.ones((1, 8, 8), bool)
    valid[0, 2, 3] = False
    found = model.scores(batch, valid)
    assert model.values is None
    np.testing.assert_array_equal(found[:, :, valid[0]], batch[:, :, valid[0]])
    np.testing.assert_array_equal(found[:, :, 2, 3], 0)
    np.testing.assert_array_equal(model.scores(batch.astype("uint16") * 300, valid)[:, :, 0, 0] <= 255, True)


def test_super_resolution_and_strided_logits(tmp_path):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    members = describe_onnx(files.export(net, tmp_path / "net.onnx", (1, 3, 16, 16)))
    assert members["ModelType"] == "SuperResolution"
    model = load(tmp_path, members)
    batch = files.pixels((2, 3, 16, 16))
    assert model.plan.scale == 2
    with torch.no_grad():
        np.testing.assert_allclose(
            model.scores(batch, files.everywhere(batch)), net(files.scaled(batch)).numpy(), atol=1e-5
        )
    net = nn.Conv2d(3, 3, 4, 4)  # logits at a quarter of the size, as transformers give them
    members = describe_onnx(files.export(net, tmp_path / "small.onnx", (1, 3, 32, 32)))
    model = load(tmp_path, members)
    batch = files.pixels((1, 3, 32, 32))
    with torch.no_grad():
        large = nn.functional.interpolate(net(files.scaled(batch)), size=(32, 32), mode="bilinear")
    np.testing.assert_allclose(model.scores(batch, files.everywhere(batch)), large.softmax(1).numpy(), atol=1e-4)


def test_image_classification(tmp_path):
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 24, 24), dynamic=(0,))
    members = describe_onnx(path)
    assert members["ModelType"] == "ObjectClassification"
    model = load(tmp_path, members, BlackenAroundFeature=1)
    batch = files.pixels((3, 3, 24, 24))
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(model.probabilities(batch, files.everywhere(batch)), wanted, atol=1e-5)
    assert model.blacken
    assert model.fixed_crop
    with pytest.raises(ModelError, match="5 classes apart, but the definition lists 2"):
        load(tmp_path, members, Classes=files.classes(2))


def test_texts_of_deepness(tmp_path):
    net = segmentation(2, last=nn.Softmax(1))
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 32, 32))
    add_texts(
        path,
        model_type="Segmentor",
        class_names={"0": "_background", "1": "field"},
        resolution=50,
        tile_size=32,
        tiles_overlap=25,
        seg_thresh=0.5,
        standardization_mean=[0.5, 0.4, 0.3],
        standardization_std=[0.2, 0.2, 0.1],
    )
    members = describe_onnx(path)
    assert [entry["Name"] for entry in members["Classes"]] == ["_background", "field"]
    assert members["MinCellSize"] == {"x": 0.5, "y": 0.5}
    assert members["Padding"] == 4
    model = load(tmp_path, members)
    batch = files.pixels((1, 3, 32, 32))
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.5, 0.4, 0.3], [0.2, 0.2, 0.1]))
    with torch.no_grad():
        wanted = net((files.scaled(batch) - mean) / std).numpy()
    np.testing.assert_allclose(model.scores(batch, files.everywhere(batch)), wanted, atol=1e-4)


def test_a_bare_definition_takes_what_the_file_tells(tmp_path):
    files.export(segmentation(3), tmp_path / "net.onnx", (1, 3, 32, 32))
    members = {
        "Framework": "ONNX",
        "ModelConfiguration": "Network",
        "ModelType": "ImageClassification",
        "ModelFile": "net.onnx",
        "Classes": files.classes(3),
    }
    assert load(tmp_path, members).plan.width == 32


def test_roles_survive_the_definition():
    members = {
        "Input": {"Name": "x", "Layout": "NHWC", "Extra": {"size": ["Width", "Height"]}},
        "Output": {"Kind": "Boxes", "Tensors": {"Boxes": "b", "Scores": "s"}, "Threshold": 0.25, "Suppress": True},
    }
    roles = NetworkRoles.from_members(members)
    assert roles.to_members() == members
    with pytest.raises(DefinitionError) as caught:
        NetworkRoles.from_members({"Input": {"Layout": "HWC", "Colour": 1}, "Output": {"Kind": "Boxs"}})
    assert len(caught.value.problems) == 3
