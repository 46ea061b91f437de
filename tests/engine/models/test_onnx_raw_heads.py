"""Heads without decoding: torchvision's RetinaNet and SSD called whole, YOLOX and rotated boxes by hand and shapely."""

from __future__ import annotations

import json
import math
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pyogrio = pytest.importorskip("pyogrio")
rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")
from deep_raster.engine import jobs  # noqa: E402
from deep_raster.engine.errors import DefinitionError, ModelError  # noqa: E402
from deep_raster.engine.models.anchors import AnchorRole, anchor_boxes, decode_deltas  # noqa: E402
from deep_raster.engine.models.onnx_describe import describe_onnx  # noqa: E402
from deep_raster.engine.models.roles import NetworkRoles  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models.detection import RetinaNet, ssd  # noqa: E402
from torchvision.models.detection._utils import BoxCoder  # noqa: E402
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator  # noqa: E402
from torchvision.models.detection.image_list import ImageList  # noqa: E402

from . import engine_support as engine  # noqa: E402
from .onnx_support import add_texts, assert_same, files, load, reference_detections  # noqa: E402

PLAIN = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}


class Trunk(nn.Module):
    """Two levels, of strides 8 and 16."""

    out_channels = 16

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())

    def forward(self, x):
        first = self.first(x)
        return OrderedDict([("0", first), ("1", self.second(first))])


def members(described_shape, output, classes):
    height, width = described_shape
    return {
        "Framework": "ONNX",
        "ModelConfiguration": {"Name": "Network", "Input": {"Name": "images"}, "Output": output},
        "ModelType": "ObjectDetection",
        "ModelFile": "net.onnx",
        "ImageHeight": height,
        "ImageWidth": width,
        "ExtractBands": [0, 1, 2],
        "Normalization": {"Method": "scale", "Scale": 255, "Fill": 0},
        "Classes": files.classes(classes),
    }


def spread(network):
    """Random heads that do not all answer the same."""
    generator = torch.Generator().manual_seed(5)
    for name, weight in network.named_parameters():
        if weight.ndim == 4 and "head" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * (2 / weight[0].numel()) ** 0.5
        elif "head" in name:
            weight.data.zero_()


class Raw(nn.Module):
    """A network of torchvision whose trunk and head answer without decoding: what ``read`` makes of head and levels."""

    def __init__(self, net, read):
        super().__init__()
        self.net, self.read = net, read

    def forward(self, x):
        return self.read(self.net.head, list(self.net.backbone(x).values()))


def joined(head, levels):
    found = head(levels)
    return found["cls_logits"], found["bbox_regression"]


def level_by_level(head, levels):
    scores = [head.classification_head.cls_logits(head.classification_head.conv(one)) for one in levels]
    boxes = [head.regression_head.bbox_reg(head.regression_head.conv(one)) for one in levels]
    return (*scores, *boxes)


@pytest.mark.parametrize("by_level", [False, True], ids=["joined", "levels"])
def test_retinanet_of_torchvision(tmp_path, by_level):
    torch.manual_seed(0)
    sizes, ratios = ((16, 22), (32, 45)), ((0.5, 1.0, 2.0),) * 2
    options = {"score_thresh": 0.505, "nms_thresh": 0.4, "topk_candidates": 100_000, "detections_per_img": 100_000}
    net = RetinaNet(Trunk(), 2, 64, 96, anchor_generator=AnchorGenerator(sizes, ratios), **PLAIN, **options).eval()
    spread(net)

    names = ("s0", "s1", "b0", "b1") if by_level else ("scores", "boxes")
    files.export(Raw(net, level_by_level if by_level else joined), tmp_path / "net.onnx", (1, 3, 64, 96), names=names)
    tensors = {"Scores": ["s0", "s1"], "Boxes": ["b0", "b1"]} if by_level else {"Scores": "scores", "Boxes": "boxes"}
    anchors = {"Kind": "retinanet", "Strides": [8, 16], "Sizes": sizes, "Ratios": ratios[0], "Round": True}
    output = {"Kind": "Boxes", "Encoding": "anchors", "Anchors": anchors, "Tensors": tensors, "Activation": "sigmoid"}
    output |= {"MultiLabel": True, "Suppress": True, "Overlap": 0.4, "Threshold": 0.505}
    model = load(tmp_path, members((64, 96), output, 2))
    batch = files.pixels((2, 3, 64, 96))
    for index, found in enumerate(model.detect(batch, files.everywhere(batch))):
        with torch.no_grad():
            wanted = net([files.scaled(batch[index])])[0]
        assert_same(found, wanted["boxes"], wanted["scores"], wanted["labels"])
        assert len(set(wanted["labels"].tolist())) == 2
    if not by_level:
        wrong = members((64, 96), {**output, "Anchors": {**anchors, "Strides": [16, 32]}}, 2)
        model = load(tmp_path, wrong)
        with pytest.raises(ModelError, match="gives 720 boxes per image, but the definition's anchors are 180"):
            model.detect(batch, files.everywhere(batch))


def test_ssd_of_torchvision(tmp_path):
    torch.manual_seed(1)
    ratios, scales, steps = [[2], [2, 3]], [0.15, 0.4, 0.8], [8, 16]
    generator = DefaultBoxGenerator(ratios, scales=scales, steps=steps)
    head = ssd.SSDHead([16, 16], generator.num_anchors_per_location(), 4)
    limits = {"score_thresh": 0.4, "nms_thresh": 0.3, "topk_candidates": 100_000, "detections_per_img": 100_000}
    net = ssd.SSD(Trunk(), generator, (96, 64), 4, head=head, **PLAIN, **limits).eval()
    spread(net)

    files.export(Raw(net, joined), tmp_path / "net.onnx", (1, 3, 64, 96), names=("scores", "boxes"))
    output = {
        "Kind": "Boxes", "Encoding": "anchors", "Weights": [10, 10, 5, 5], "Activation": "softmax",
        "Background": "first", "MultiLabel": True, "Suppress": True, "Overlap": 0.3, "Threshold": 0.4,
        "Anchors": {"Kind": "ssd", "Ratios": ratios, "Scales": scales, "Strides": steps},
        "Tensors": {"Scores": "scores", "Boxes": "boxes"},
    }  # fmt: skip
    model = load(tmp_path, members((64, 96), output, 3))
    batch = files.pixels((2, 3, 64, 96))
    for index, found in enumerate(model.detect(batch, files.everywhere(batch))):
        with torch.no_grad():
            wanted = net([files.scaled(batch[index])])[0]
        assert_same(found, wanted["boxes"], wanted["scores"], wanted["labels"] - 1)


def torchvision_anchors(generator, image, grids):
    images = ImageList(torch.zeros(1, 3, *image), [image])
    return generator(images, [torch.zeros(1, 1, *grid) for grid in grids])[0].numpy()


def test_generators_are_those_of_torchvision_at_their_own_sizes():
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    ratios = ((0.5, 1.0, 2.0),) * 5
    grids = ((40, 52), (20, 26), (10, 13), (5, 7), (3, 4))  # 320 x 416, where the last strides do not divide the image
    wanted = torchvision_anchors(AnchorGenerator(sizes, ratios), (320, 416), grids)
    stated = {"Kind": "retinanet", "Strides": [8, 16, 32, 64, 128], "Sizes": sizes, "Ratios": [0.5, 1, 2]}
    role = AnchorRole.from_members({**stated, "Round": True, "Spacing": "divided"})
    np.testing.assert_allclose(anchor_boxes(role, 416, 320), wanted, atol=1e-3)
    ssd300 = {"Kind": "ssd", "Ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]], "Strides": [8, 16, 32, 64, 100, 300]}
    ssd300 |= {"Scales": [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05], "Grids": [38, 19, 10, 5, 3, 1]}
    generator = DefaultBoxGenerator(ssd300["Ratios"], scales=ssd300["Scales"], steps=ssd300["Strides"])
    wanted = torchvision_anchors(generator, (300, 300), [(one, one) for one in ssd300["Grids"]])
    assert len(wanted) == 8732
    role = AnchorRole.from_members(ssd300)
    assert AnchorRole.from_members(role.to_members()) == role
    np.testing.assert_allclose(anchor_boxes(role, 300, 300), wanted, atol=1e-3)
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(8732, 4, generator=generator) * 3
    coded = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(deltas, torch.from_numpy(wanted))
    coded = torchvision.ops.clip_boxes_to_image(coded, (300, 300)).numpy()
    np.testing.assert_allclose(decode_deltas(deltas.numpy(), wanted, (10, 10, 5, 5), 300, 300), coded, atol=0.01)


def test_yolox_without_its_decoding(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.heads = nn.ModuleList(nn.Conv2d(3, 7, stride, stride) for stride in (8, 16))

        def forward(self, x):
            found = [head(x) for head in self.heads]
            maps = [torch.cat([one[:, :4], (one[:, 4:] * 4).sigmoid()], 1).flatten(2) for one in found]
            return torch.cat(maps, 2).permute(0, 2, 1)

    net = Net().eval()
    files.export(net, tmp_path / "net.onnx", (1, 3, 64, 96), names=("output",))
    output = {"Kind": "Rows", "BoxFormat": "cxcywh", "Objectness": True, "Encoding": "grid", "Strides": [8, 16]}
    output |= {"Suppress": True, "Overlap": 0.5, "Threshold": 0.25}
    model = load(tmp_path, members((64, 96), output, 2))
    batch = files.pixels((1, 3, 64, 96))
    with torch.no_grad():
        rows = net(files.scaled(batch))[0].numpy()
    place = 0
    for stride in (8, 16):  # the formulas of the paper, one cell after the other
        for row in range(64 // stride):
            for column in range(96 // stride):
                x, y, w, h = rows[place, :4]
                rows[place, :4] = (x + column) * stride, (y + row) * stride, math.exp(w) * stride, math.exp(h) * stride
                place += 1
    assert place == len(rows)
    boxes, scores, labels, _ = reference_detections(torch.from_numpy(rows), 2, 0.25, 0.5, objectness=True)
    found = model.detect(batch, files.everywhere(batch))[0]
    assert_same(found, boxes, scores, labels)
    wrong = load(tmp_path, members((64, 96), {**output, "Strides": [16]}, 2))
    with pytest.raises(ModelError, match="120 boxes per image, but Strides make 24 cells"):
        wrong.detect(batch, files.everywhere(batch))


class Rotated(nn.Module):
    """Ultralytics' layout of rotated boxes: centre, size, class scores, angle; one column per box."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.body = nn.Conv2d(3, 7, 8, 8)

    def forward(self, x):
        out = self.body(x).flatten(2)
        place = torch.arange(out.shape[2])
        columns = x.shape[3] // 8
        centres = torch.stack([place % columns, place // columns])[None] * 8.0 + 4 + out[:, :2]
        sizes = torch.stack([12 + 4 * out[:, 2], 5 + out[:, 3]], 1)
        return torch.cat([centres, sizes, (3 * out[:, 4:6]).sigmoid(), 3 * out[:, 6:]], 1)


def rotated_reference(table, threshold, overlap):
    """(polygons, scores, labels) by rotating corners with shapely and a plain loop."""
    from shapely import affinity

    found = []
    for cx, cy, width, height, *scores, angle in table.tolist():
        box = shapely.box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        label = int(np.argmax(scores))
        if scores[label] > threshold:
            found.append((affinity.rotate(box, angle, use_radians=True), scores[label], label))
    kept = []
    for one in sorted(found, key=lambda item: -item[1]):
        same = [other[0] for other in kept if other[2] == one[2]]
        if all(one[0].intersection(other).area <= overlap * one[0].union(other).area for other in same):
            kept.append(one)
    return kept


def test_rotated_boxes_through_the_engine(tmp_path):
    net = Rotated().eval()
    path = files.export(net, tmp_path / "net.onnx", (1, 3, 64, 96))
    add_texts(path, task="obb", names="{0: 'ship', 1: 'plane'}")
    definition = describe_onnx(path)
    assert definition["ModelConfiguration"]["Output"]["Angle"] == "radians"
    assert [one["Name"] for one in definition["Classes"]] == ["ship", "plane"]
    pixels = files.pixels((3, 64, 96), seed=4)
    with torch.no_grad():
        table = net(files.scaled(pixels[np.newaxis]))[0].T
    wanted = rotated_reference(table, 0.5, 0.3)
    assert len(wanted) > 5
    model = load(tmp_path, definition, {"threshold": "0.5", "nms_overlap": "0.3"})
    found = model.detect(pixels[np.newaxis], np.ones((1, 64, 96), bool))[0]
    assert len(found.rings) == len(wanted)
    for ring, score, (polygon, other, _) in zip(found.rings, found.scores, wanted):
        assert abs(score - other) < 1e-4
        assert shapely.Polygon(ring[0]).symmetric_difference(polygon).area < 0.01

    source, output = engine.write_raster(tmp_path / "scene.tif", pixels), str(tmp_path / "out.gpkg")
    (tmp_path / "model.emd").write_text(json.dumps({**definition, "Padding": 0}))
    asked = engine.options(threshold=0.5, nms_overlap=0.3)
    engine.run(jobs.DetectObjects((source,), str(tmp_path / "model.emd"), output, asked, run_nms=False))
    shapes, fields = engine.read_layer(output)
    order = np.argsort(-fields["Confidence"], kind="stable")
    frame = shapely.box(0, 0, 96, 64)
    wanted = [one for one in wanted if one[0].intersection(frame).area > 0]
    assert len(shapes) == len(wanted)
    assert list(fields["Class"][order]) == [("ship", "plane")[label] for _, _, label in wanted]
    for shape, (polygon, _, _) in zip(engine.to_pixels(shapes[order]), wanted):
        visible = polygon.intersection(frame)
        assert shape.intersection(visible).area > 0.99 * visible.area
        assert shape.area <= polygon.area * 1.0001


def test_what_contradicts_itself_is_told_with_the_member():
    good = {"Kind": "Boxes", "Encoding": "anchors", "Anchors": {"Kind": "list", "Boxes": [[0.5, 0.5, 0.2, 0.1]]}}
    good["Tensors"] = {"Boxes": ["a", "b"], "Scores": "s"}
    assert NetworkRoles.from_members({"Output": good}).to_members()["Output"] == good
    for change, sentence in (
        ({"Anchors": {"Kind": "retinanet", "Strides": [8]}}, "Sizes, Ratios is missing or does not fit"),
        ({"Anchors": {"Kind": "ssd", "Scale": 1}}, "Scale is not known"),
        ({"Anchors": None}, r"Output\.Anchors is missing"),
        ({"Encoding": "grid"}, r"Output\.Strides is missing"),
        ({"Weights": [1, 1]}, "Weights are four numbers"),
        ({"Kind": "Rows"}, "for the kind Boxes alone"),
    ):
        with pytest.raises(DefinitionError, match=sentence):
            NetworkRoles.from_members({"Output": {**good, **change}})
