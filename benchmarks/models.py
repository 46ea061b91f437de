"""The networks to measure with: made here, deterministic, trained for a moment so that their answers are no noise."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Callable

import checkout  # noqa: F401
import numpy as np
import onnx
import scenes
import torch
from deep_raster.engine.models import networks
from onnx import TensorProto, helper, numpy_helper
from torch import nn

NAMES = {
    "pointwise": "1 x 1 convolution, 12 parameters",
    "small": "small U-Net, 0.48 M",
    "resnet18": "ResNet-18 U-Net, 14.3 M",
    "own": "U-Net trained here, PyTorch, ResNet-18, 14.3 M",
}
OWN = {"Name": "DeepRaster", "Task": "segmentation", "Architecture": "unet", "Backbone": "resnet18"}
_CLASSES = [{"Value": value, "Name": f"class {value}", "Color": [value * 80, 60, 60]} for value in (1, 2, 3)]
_TILE = 512
# the sides of images that every network here takes
ALIGNED = 32
# steps of training; multiple of the sides of tiles
_STEPS = {"small": 80, "resnet18": 40, "own": 40}
MULTIPLE = {"pointwise": 1, "small": 8, "resnet18": 32}


def _convolutions(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (inside, outside):
        layers += [nn.Conv2d(first, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


class SmallUnet(nn.Module):
    """The plain U-Net with three halvings."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_convolutions(one, other) for one, other in zip((3, *widths), widths))
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(one, other, 2, 2) for one, other in pairs)
        self.join = nn.ModuleList(_convolutions(one, other) for one, other in pairs)
        self.head = nn.Conv2d(widths[0], 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores before softmax."""
        kept = []
        for number, stage in enumerate(self.down):
            x = stage(x if not number else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for widen, join, beside in zip(self.up, self.join, kept[-2::-1]):
            x = join(torch.cat([widen(x), beside], 1))
        return self.head(x)


def pointwise() -> nn.Module:
    """Return the convolution whose best channel is the brightest band."""
    network = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.eye(3)[:, :, None, None] * 20)
        network.bias.zero_()
    return network


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "pointwise": pointwise,
    "small": SmallUnet,
    "resnet18": lambda: networks.build(OWN, 3, 3, (_TILE, _TILE)),
    "own": lambda: networks.build(OWN, 3, 3, (_TILE, _TILE)),
}


def make(folder: Path, name: str) -> Path:
    """Return the definition (``.emd``) of a network of :data:`NAMES`; it is made unless it is there."""
    place = folder / name
    definition = place / f"{name}.emd"
    if definition.exists():
        return definition
    place.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    network = _BUILDERS[name]()
    _train(network, _STEPS.get(name, 0))
    members: dict[str, Any] = {
        "ModelType": "ImageClassification",
        "ImageWidth": _TILE,
        "ImageHeight": _TILE,
        "ExtractBands": [0, 1, 2],
        "Classes": _CLASSES,
        "Normalization": {"Method": "scale"},
    }
    if name == "own":
        torch.save(network.state_dict(), place / "own.pth")
        members.update(Framework="PyTorch", ModelConfiguration=OWN, ModelFile="own.pth", SupportsVariableTileSize=True)
    else:
        export(nn.Sequential(network, nn.Softmax(1)), place / f"{name}.onnx")
        roles = {"Input": {"Name": "images", "Multiple": MULTIPLE[name]}, "Output": {"Kind": "PixelScores"}}
        members.update(Framework="ONNX", ModelConfiguration={"Name": "Network", **roles}, ModelFile=f"{name}.onnx")
    definition.write_text(json.dumps(members, indent=2), encoding="utf-8")
    return definition


def _train(network: nn.Module, steps: int) -> None:
    """Teach the network the brightest of the bands without noise, a few steps long."""
    random = np.random.default_rng(3)
    image = torch.from_numpy(scenes.rows_of(2048, 0, 512)).float() / 255
    truth = torch.from_numpy(scenes.classes(np.arange(512), np.arange(2048)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(steps):
        corners = [(int(random.integers(0, 512 - 128)), int(random.integers(0, 2048 - 128))) for _ in range(4)]
        batch = torch.stack([image[:, row : row + 128, column : column + 128] for row, column in corners])
        wanted = torch.stack([truth[row : row + 128, column : column + 128] for row, column in corners])
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batch), wanted).backward()
        optimizer.step()
    network.eval()


def export(network: nn.Module, path: Path) -> None:
    """Write a network that takes images of any size as ONNX."""
    axes = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.rand(1, 3, 128, 128),), str(path), dynamo=False, opset_version=17,
            input_names=["images"], output_names=["scores"], dynamic_axes={"images": axes, "scores": axes},
        )  # fmt: skip


def own_network(definition: Path) -> nn.Module:
    """Return the network of the package "own" as plain PyTorch."""
    network = _BUILDERS["own"]()
    network.load_state_dict(torch.load(definition.with_name("own.pth"), weights_only=True))
    return network.eval()


def detector(folder: Path, threshold: float = 0.95) -> Path:
    """Return the definition of a detector of the white squares of a scene: the mean of each cell of 16 x 16 pixels."""
    place = folder / "squares"
    definition, side = place / "squares.emd", _TILE // scenes.SQUARE
    if definition.exists():
        return definition
    place.mkdir(parents=True, exist_ok=True)
    row, column = np.divmod(np.arange(side * side, dtype=np.float32), side)
    corners = np.stack([column, row, column + 1, row + 1], 1)[None] * scenes.SQUARE
    bands = np.full((1, 3, 1, 1), 1 / 3, np.float32)
    constants = [
        numpy_helper.from_array(corners.astype(np.float32), "boxes_of_cells"),
        numpy_helper.from_array(bands, "bands"),
        numpy_helper.from_array(np.array([1, side * side, 1]), "rows"),
    ]
    size = {"kernel_shape": [scenes.SQUARE] * 2, "strides": [scenes.SQUARE] * 2}
    nodes = [
        helper.make_node("AveragePool", ["images"], ["means"], **size),
        helper.make_node("Conv", ["means", "bands"], ["brightness"]),
        helper.make_node("Reshape", ["brightness", "rows"], ["column"]),
        helper.make_node("Concat", ["boxes_of_cells", "column"], ["found"], axis=2),
    ]
    _write(place / "squares.onnx", nodes, [1, 3, _TILE, _TILE], [1, side * side, 5], constants, "found")
    members = {
        "Framework": "ONNX",
        "ModelConfiguration": {"Name": "Network", "Input": {"Name": "images"}, "Output": {"Kind": "Rows"}},
        "ModelType": "ObjectDetection",
        "ModelFile": "squares.onnx",
        "ImageWidth": _TILE,
        "ImageHeight": _TILE,
        "Padding": 64,
        "ExtractBands": [0, 1, 2],
        "Threshold": threshold,
        "Classes": [{"Value": 1, "Name": "square"}],
        "Normalization": {"Method": "scale"},
    }
    definition.write_text(json.dumps(members, indent=2), encoding="utf-8")
    return definition


def chip_classifier(folder: Path) -> Path:
    """Return the definition of a classifier of chips whose class is the band of the highest mean."""
    place = folder / "means"
    definition = place / "means.emd"
    if definition.exists():
        return definition
    place.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Flatten", ["means"], ["scores"]),
    ]
    _write(place / "means.onnx", nodes, ["n", 3, 64, 64], ["n", 3], [], "scores")
    members = {
        "Framework": "ONNX",
        "ModelConfiguration": {
            "Name": "Network",
            "Input": {"Name": "images"},
            "Output": {"Kind": "ImageScores", "Activation": "softmax"},
        },
        "ModelType": "ObjectClassification",
        "ModelFile": "means.onnx",
        "ImageWidth": 64,
        "ImageHeight": 64,
        "ExtractBands": [0, 1, 2],
        "Classes": _CLASSES,
        "Normalization": {"Method": "scale"},
    }
    definition.write_text(json.dumps(members, indent=2), encoding="utf-8")
    return definition


def _write(path: Path, nodes: list, image: list, answer: list, constants: list, output: str) -> None:
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, image)]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, answer)]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
