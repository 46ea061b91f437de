"""Torch modules exported to ONNX, and the answers that torch and torchvision give without us."""

from __future__ import annotations

import json

import numpy as np
import onnx
import torch
import torchvision
from deep_raster.engine.models import onnx_network
from torch import nn

from . import network_files as files


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
