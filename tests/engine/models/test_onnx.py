"""ONNX files exported from torch: our adapter against the torch module itself on the same pixels."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from deep_raster.engine.errors import DefinitionError, ModelError, PackageError
from deep_raster.engine.models import onnx_network
from deep_raster.engine.models.network import Feeder, OutOfDeviceMemory, TensorInfo
from deep_raster.engine.models.normalisation import Normalisation
from deep_raster.engine.models.onnx_describe import describe_onnx
from deep_raster.engine.models.onnx_session import choose_providers
from deep_raster.engine.models.roles import NetworkRoles
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from torch import nn  # noqa: E402

_spec = importlib.util.spec_from_file_location("network_files", Path(__file__).with_name("network_files.py"))
files = importlib.util.module_from_spec(_spec)
sys.modules["network_files"] = files
_spec.loader.exec_module(files)


def load(folder, members, arguments=None, **changes):
    return onnx_network.load(files.package(folder, members, **changes), "cpu", 1, arguments or {})


def add_texts(path, **texts):
    model = onnx.load(path)
    for key, value in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    onnx.save(model, path)


def segmentation(channels, seed=0, last=None):
    torch.manual_seed(seed)
    parts = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, channels, 3, padding=1)]
    return nn.Sequential(*parts, *([last] if last else []))


class Head(nn.Module):
    """A detection head over a stride-8 grid, in the layouts that exporters write."""

    def __init__(self, layout, classes, masks=0):
        super().__init__()
        torch.manual_seed(3)
        self.layout, self.classes, self.masks = layout, classes, masks
        self.objectness = layout in ("yolov5", "yolov7")
        self.numbers = 4 + self.objectness + classes + masks
        self.body = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.SiLU(), nn.Conv2d(8, self.numbers, 3, padding=1))
        self.protos = nn.Conv2d(3, masks, 4, 4) if masks else None

    def forward(self, x):
        h, w = x.shape[2] // 8, x.shape[3] // 8
        out = self.body(x).flatten(2)
        y, x_ = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centres = torch.stack([x_, y]).reshape(1, 2, -1).float() * 8 + 4 + out[:, :2] * 8
        sizes = 20 * (out[:, 2:4] * 0.5).exp()
        scores = (out[:, 4 : self.numbers - self.masks] * 4).sigmoid()
        table = torch.cat([centres, sizes, scores, out[:, self.numbers - self.masks :]], 1)
        if self.objectness:
            return table.transpose(1, 2)
        return (table, self.protos(x)) if self.masks else table


def reference_detections(table, classes, threshold, overlap, objectness=False):
    """Boxes, scores, labels of one image by torch and torchvision alone; ``table`` is (boxes, numbers)."""
    scores = table[:, 5 : 5 + classes] * table[:, 4:5] if objectness else table[:, 4 : 4 + classes]
    best, label = scores.max(1)
    chosen = best > threshold
    boxes = torchvision.ops.box_convert(table[chosen, :4], "cxcywh", "xyxy")
    best, label = best[chosen], label[chosen]
    kept = torchvision.ops.batched_nms(boxes, best, label, overlap)
    return boxes[kept], best[kept], label[kept], chosen.nonzero()[:, 0][kept]


def assert_same(found, boxes, scores, labels):
    assert len(found.boxes) == len(boxes) > 0
    order, wanted = np.argsort(-found.scores, kind="stable"), np.argsort(-np.asarray(scores), kind="stable")
    np.testing.assert_allclose(found.scores[order], np.asarray(scores)[wanted], atol=1e-4)
    np.testing.assert_allclose(found.boxes[order], np.asarray(boxes)[wanted], atol=0.01)
    np.testing.assert_array_equal(found.labels[order], np.asarray(labels)[wanted])


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
    found = model.scores(batch, files.everywhere(batch))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.9999


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


@pytest.mark.parametrize("layout", ["yolov5", "yolov8"])
def test_yolo_heads(tmp_path, layout):
    net = Head(layout, 3)
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 96, 128))
    members = describe_onnx(path)
    output = members["ModelConfiguration"]["Output"]
    assert output["Kind"] == "Rows"
    assert members["ModelType"] == "ObjectDetection"
    assert len(members["Classes"]) == 3
    model = load(tmp_path, members, {"threshold": "0.15", "nms_overlap": "0.4"})
    batch = files.pixels((2, 3, 96, 128))  # a network of batch one gets them one by one
    found = model.detect(batch, files.everywhere(batch))
    assert len(found) == 2
    assert (model.plan.width, model.plan.height) == (128, 96)
    for index in range(2):
        with torch.no_grad():
            table = net(files.scaled(batch[index : index + 1]))[0]
        table = table if layout == "yolov5" else table.T
        boxes, scores, labels, _ = reference_detections(table, 3, 0.15, 0.4, layout == "yolov5")
        assert_same(found[index], boxes, scores, labels)


def test_yolo_segmentation_masks(tmp_path):
    net = Head("yolov8", 2, masks=6)
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 64, 64), names=("output0", "output1"))
    add_texts(path, names="{0: 'roof', 1: 'pool'}", task="segment", stride="32", imgsz="[64, 64]")
    members = describe_onnx(path)
    assert members["ModelType"] == "InstanceDetection"
    assert members["Classes"][1]["Name"] == "pool"
    model = load(tmp_path, members, {"threshold": "0.5", "nms_overlap": "0.5"})
    batch = files.pixels((1, 3, 64, 64))
    found = model.detect(batch, files.everywhere(batch))[0]
    with torch.no_grad():
        table, protos = net(files.scaled(batch))
    boxes, scores, labels, rows = reference_detections(table[0].T, 2, 0.5, 0.5)
    mixed = torch.einsum("nk,khw->nhw", table[0].T[rows, 6:], protos[0])
    large = nn.functional.interpolate(mixed[None], size=(64, 64), mode="bilinear")[0] > 0
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    inside = (x >= boxes[:, 0, None, None]) & (x < boxes[:, 2, None, None])
    inside &= (y >= boxes[:, 1, None, None]) & (y < boxes[:, 3, None, None])
    masks = (large & inside).numpy()
    keep = masks.any((1, 2))
    assert_same(found, boxes[keep], scores[keep], labels[keep])
    boxes_only = load(tmp_path, members, {"threshold": "0.5", "nms_overlap": "0.5", "return_bboxes": "True"})
    assert boxes_only.detect(batch, files.everywhere(batch))[0].rings is None
    from skimage.measure import label as connected

    for ring, mask in zip(found.rings, masks[keep]):
        parts = connected(mask, connectivity=1)
        largest = np.bincount(parts[parts > 0]).max()
        areas = [abs(np.dot(r[:-1, 0], r[1:, 1]) - np.dot(r[1:, 0], r[:-1, 1])) / 2 for r in ring]
        assert areas[0] - sum(areas[1:]) == largest


def test_end_to_end_rows(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            row = torch.tensor([[4.0, 5, 20, 30, 0.9, 1], [1, 2, 8, 9, 0.7, 0], [0, 0, 0, 0, 0, 0]])
            return nn.functional.pad(row, (0, 0, 0, 17))[None] + x.mean() * 0

    path = files.export(Net(), tmp_path / "net.onnx", (1, 3, 32, 32))
    members = describe_onnx(path)
    assert members["ModelConfiguration"]["Output"]["Kind"] == "EndToEnd"
    model = load(tmp_path, members, Classes=files.classes(2))
    batch = files.pixels((1, 3, 32, 32))
    found = model.detect(batch, files.everywhere(batch))[0]
    np.testing.assert_array_equal(found.boxes, [[4, 5, 20, 30], [1, 2, 8, 9]])
    np.testing.assert_array_equal(found.labels, [1, 0])
    with pytest.raises(ModelError, match="class number 2, but the definition lists 1 class"):
        load(tmp_path, members, Classes=files.classes(1)).detect(batch, files.everywhere(batch))


class Transformer(nn.Module):
    """A stand-in with DETR's outputs: a fixed number of queries, logits and boxes as fractions."""

    def __init__(self, queries, logits):
        super().__init__()
        torch.manual_seed(5)
        self.logits = nn.Linear(3 * 16, queries * logits)
        self.boxes = nn.Linear(3 * 16, queries * 4)
        self.queries = queries

    def forward(self, x):
        flat = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return (
            self.logits(flat).reshape(len(x), self.queries, -1) * 4,
            self.boxes(flat).reshape(len(x), self.queries, 4).sigmoid(),
        )


def test_detr_softmax(tmp_path):
    net = Transformer(20, 4)
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 64, 96), names=("logits", "pred_boxes"), dynamic=(0,))
    model = load(tmp_path, describe_onnx(path), {"threshold": "0.3"}, Classes=files.classes(3))
    batch = files.pixels((2, 3, 64, 96))
    with torch.no_grad():
        logits, boxes = net(files.scaled(batch))
    for index, found in enumerate(model.detect(batch, files.everywhere(batch))):
        scores, labels = logits[index].softmax(-1)[:, :-1].max(-1)
        keep = scores > 0.3
        corners = torchvision.ops.box_convert(boxes[index], "cxcywh", "xyxy") * torch.tensor([96, 64, 96, 64])
        assert_same(found, corners[keep], scores[keep], labels[keep])


def test_rt_detr_with_the_size_as_second_input(tmp_path):
    class Net(Transformer):
        def forward(self, x, orig_target_sizes):
            logits, boxes = super().forward(x)
            scores, places = logits.sigmoid().flatten(1).topk(30)
            corners = torchvision.ops.box_convert(boxes, "cxcywh", "xyxy")
            corners = corners.gather(1, (places // 3)[..., None].expand(-1, -1, 4))
            return places % 3, corners * orig_target_sizes.repeat(1, 2)[:, None], scores

    net = Net(20, 3)
    size = torch.tensor([[96, 64]])
    path = files.export(
        net,
        tmp_path / "net.onnx",
        (1, 3, 64, 96),
        names=("labels", "boxes", "scores"),
        inputs=("images", "orig_target_sizes"),
        extra=(size,),
    )
    members = describe_onnx(path)
    assert members["ModelConfiguration"]["Input"]["Extra"] == {"orig_target_sizes": ["Width", "Height"]}
    model = load(tmp_path, members, {"threshold": "0.55"}, Classes=files.classes(3))
    batch = files.pixels((1, 3, 64, 96))
    with torch.no_grad():
        labels, boxes, scores = net(files.scaled(batch), size)
    keep = scores[0] > 0.55
    found = model.detect(batch, files.everywhere(batch))[0]
    assert_same(found, boxes[0][keep], scores[0][keep], labels[0][keep])


def test_ssd_tables(tmp_path):
    class Net(Transformer):
        def forward(self, x):
            logits, boxes = super().forward(x)
            return logits.softmax(-1), torchvision.ops.box_convert(boxes, "cxcywh", "xyxy")

    net = Net(40, 4)
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 64, 64), names=("scores", "boxes"))
    model = load(tmp_path, describe_onnx(path), {"threshold": "0.3", "nms_overlap": "0.3"})
    batch = files.pixels((1, 3, 64, 64))
    with torch.no_grad():
        scores, boxes = net(files.scaled(batch))
    best, labels = scores[0, :, 1:].max(-1)
    keep = best > 0.3
    kept = torchvision.ops.batched_nms(boxes[0][keep], best[keep], labels[keep], 0.3)
    found = model.detect(batch, files.everywhere(batch))[0]
    assert_same(found, boxes[0][keep][kept] * 64, best[keep][kept], labels[keep][kept])


def test_torchvision_detector_exported_whole(tmp_path):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1))
    body.out_channels = 16
    net = FasterRCNN(
        body,
        min_size=64,
        max_size=64,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 3, 2),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU()),
        box_predictor=torchvision.models.detection.faster_rcnn.FastRCNNPredictor(32, 3),
        box_score_thresh=0.01,
    ).eval()

    class Single(nn.Module):
        """The exporter's list of images, as a module of one tensor."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, image):
            found = self.net([image])[0]
            return found["boxes"], found["labels"], found["scores"]

    path = files.export(Single(), tmp_path / "net.onnx", (3, 64, 64), names=("boxes", "labels", "scores"))
    members = describe_onnx(path)
    assert members["ModelConfiguration"]["Input"]["Batched"] is False
    model = load(tmp_path, members, {"threshold": "0.3"}, Classes=files.classes(2))
    batch = files.pixels((2, 3, 64, 64))
    for index, found in enumerate(model.detect(batch, files.everywhere(batch))):
        with torch.no_grad():
            wanted = net([files.scaled(batch[index])])[0]
        keep = wanted["scores"] > 0.3
        assert_same(found, wanted["boxes"][keep], wanted["scores"][keep], wanted["labels"][keep] - 1)


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


def test_texts_of_a_deepness_detector(tmp_path):
    path = files.export(Head("yolov8", 2), tmp_path / "net.onnx", (1, 3, 64, 64))
    add_texts(
        path,
        model_type="Detector",
        det_type="YOLO_Ultralytics",
        class_names={"0": "palm", "1": "car"},
        det_conf=0.3,
        det_iou_thresh=0.6,
    )
    members = describe_onnx(path)
    assert members["Threshold"] == 0.3
    assert members["ModelConfiguration"]["Output"]["Overlap"] == 0.6
    assert [entry["Name"] for entry in members["Classes"]] == ["palm", "car"]


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


def test_truncated_file(tmp_path):
    path = files.export(segmentation(3), tmp_path / "net.onnx", (1, 3, 32, 32))
    members = describe_onnx(path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ModelError, match="damaged, truncated"):
        load(tmp_path, members)


def test_contradictions_with_the_definition(tmp_path):
    members = describe_onnx(files.export(segmentation(3), tmp_path / "net.onnx", (1, 3, 32, 32)))
    with pytest.raises(ModelError, match="3 channels, but the definition lists 5 classes"):
        load(tmp_path, members, Classes=files.classes(5))
    with pytest.raises(DefinitionError, match="32 pixels width only, but the definition says 64"):
        load(tmp_path, members, ImageWidth=64)
    with pytest.raises(DefinitionError, match="takes 3 bands, but ExtractBands of the definition names 4"):
        load(tmp_path, members, ExtractBands=[0, 1, 2, 3])
    wrong = {"Name": "Network", "Output": {"Kind": "PixelScores", "Tensors": {"Main": "mask"}}}
    with pytest.raises(DefinitionError, match="no output called 'mask'"):
        load(tmp_path, members, ModelConfiguration=wrong)
    with pytest.raises(DefinitionError, match="padding must be a whole number"):
        load(tmp_path, members, {"padding": "2.5"})


def external(folder, location, length=None):
    path = files.export(segmentation(3), folder / "net.onnx", (1, 3, 32, 32))
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
            if entry.key == "length" and length:
                entry.value = length
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_inside_the_package(tmp_path):
    path = external(tmp_path, "weights.bin")
    members = describe_onnx(path)
    batch = files.pixels((1, 3, 32, 32))
    net = segmentation(3)
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(load(tmp_path, members).scores(batch, files.everywhere(batch)), wanted, atol=1e-4)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "C:\\secret", "a/../../secret", "missing.bin"])
def test_external_data_outside_the_package(tmp_path, location):
    (tmp_path / "secret").write_bytes(b"x" * 10_000)
    (tmp_path / "model").mkdir()
    with pytest.raises(PackageError, match="not a file of the package"):
        describe_onnx(external(tmp_path / "model", location))


def test_external_data_through_a_link_or_too_long(tmp_path):
    path = external(tmp_path, "weights.bin", length="99999999")
    with pytest.raises(PackageError, match="truncated"):
        describe_onnx(path)
    (tmp_path / "model").mkdir()
    path = external(tmp_path / "model", "link.bin")
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(PackageError, match="not a file of the package"):
        describe_onnx(path)


def test_operators_of_unknown_sets_are_refused_even_in_branches(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("Steal", ["images"], ["inner"], domain="evil")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    with pytest.raises(PackageError, match="operator Steal of the set 'evil'"):
        describe_onnx(tmp_path / "net.onnx")


def test_execution_providers():
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider"]
    assert [name for name, _ in choose_providers("cuda:1", available)] == [
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    assert choose_providers("cuda:1", available)[0][1]["device_id"] == 1
    assert [name for name, _ in choose_providers("tensorrt:0", available)][:2] == available[:2]
    assert next(name for name, _ in choose_providers("cuda:0", available[2:])) == "DmlExecutionProvider"
    assert [name for name, _ in choose_providers("cpu", available)] == ["CPUExecutionProvider"]


def test_out_of_memory_halves_the_batch(caplog):
    class Small:
        inputs = (TensorInfo("x", "float32", (None, 1, 4, 4)),)
        outputs = (TensorInfo("y", "float32", (None, 1, 4, 4)),)
        sizes: list[int] = []  # noqa: RUF012 - one test, one instance

        def run(self, feeds, wanted):
            self.sizes.append(len(feeds["x"]))
            if len(feeds["x"]) > 2:
                raise OutOfDeviceMemory("no room")
            return [feeds["x"]]

    roles = NetworkRoles.from_members({"Output": {"Kind": "Bands"}})
    batch = files.pixels((7, 1, 4, 4))
    feeder = Feeder(Small(), roles, Normalisation(), 8)
    parts = [outputs["Main"] for _, outputs in feeder(batch, files.everywhere(batch))]
    np.testing.assert_array_equal(np.concatenate(parts), batch.astype("float32"))
    assert Small.sizes == [7, 4, 2, 2, 2, 1]
    assert "going on with 2 images" in caplog.text
