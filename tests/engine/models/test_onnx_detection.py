"""ONNX files of detectors in the usual layouts: our adapter against torch and torchvision on the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
from deep_raster.engine.errors import ModelError
from deep_raster.engine.models.onnx_describe import describe_onnx
from deep_raster.engine.package.parameters import declared_parameters

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from torch import nn  # noqa: E402

from .onnx_support import Head, add_texts, assert_same, files, load, reference_detections  # noqa: E402


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
    declared = [one.name for one in declared_parameters(files.package(tmp_path, members).definition)]
    assert "return_bboxes" in declared
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
