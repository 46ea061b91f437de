"""The PyTorch configuration FastaiSSD: ResNet-34 with a single-shot head of three grids, 224 x 224 pixels.

Source: Esri/raster-deep-learning (Apache-2.0), whose weights this network loads. Its quirks are kept: cells are listed
column by column, the background is the last output, and every object is reported as the first class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import torch
from torch import nn

from ..errors import DefinitionError
from . import weights
from .arcgis_encoders import build_encoder
from .arguments import Arguments
from .base import TilePlan
from .normalisation import Normalisation
from .own import batch_size
from .ssd import Anchors, OutConv, StandardConv, found_objects
from .torch_models import Found, TorchDetector
from .torch_runtime import Runner

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage

SIDE = 224
OVERLAP = 0.1
GRIDS = (4, 2, 1)
ZOOMS = (0.7, 1.0, 1.3)
RATIOS = ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0))
OUTPUTS = 3  # two classes and, last, background
ANCHORS = len(ZOOMS) * len(RATIOS)


class FastaiHead(nn.Module):
    """The head; ``out0`` has weights but no use."""

    def __init__(self) -> None:
        super().__init__()
        self.sconv0 = StandardConv(512, 1)
        self.sconv1, self.sconv2, self.sconv3 = (StandardConv(256, 2) for _ in GRIDS)
        self.out0, self.out1, self.out2, self.out3 = (OutConv(ANCHORS, OUTPUTS, True) for _ in range(4))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (N, 189, 3) class scores before the sigmoid and (N, 189, 4) box deltas."""
        result = self.sconv0(features.relu())
        scores, deltas = [], []
        for enlarge, out in ((self.sconv1, self.out1), (self.sconv2, self.out2), (self.sconv3, self.out3)):
            result = enlarge(result)
            of_classes, of_boxes = out(result)
            scores.append(of_classes)
            deltas.append(of_boxes)
        return torch.cat(scores, dim=1), torch.cat(deltas, dim=1)


def build() -> nn.Sequential:
    """Build the network with random weights: the trunk's eight children, then the head."""
    return nn.Sequential(*build_encoder("resnet34", 3), FastaiHead())


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchDetector:
    """Load a FastaiSSD model.

    Raises:
        DefinitionError: the definition names no class, another image size, or other than three bands.
        ModelError: the weights do not fit.
    """
    definition, given = package.definition, Arguments(arguments)
    if not definition.classes:
        raise DefinitionError("The model definition lists no classes.", stage="loading the model")
    if (definition.image_width, definition.image_height) != (SIDE, SIDE):
        raise DefinitionError(
            f"FastaiSSD networks take images of {SIDE} x {SIDE} pixels, but the definition says "
            f"{definition.image_width} x {definition.image_height}.",
            stage="loading the model",
            hint="Correct ImageWidth and ImageHeight of the model definition.",
        )
    if len(definition.extract_bands) not in (0, 3):
        raise DefinitionError(
            f"FastaiSSD networks take three bands, but ExtractBands names {len(definition.extract_bands)}.",
            stage="loading the model",
        )
    path = package.file(definition.model_file)
    network = build()
    weights.fit(network, weights.load_weights(path), path)
    runner = Runner(network, Normalisation.from_definition(definition), device, threads)
    anchors = Anchors.on_grids(GRIDS, ZOOMS, RATIOS).to(runner.device)
    threshold = given.number("score_threshold", 0.6, 0, 1)

    def find(images: torch.Tensor) -> Sequence[Found]:
        scores, deltas = network(images)
        return [_found(one, anchors.boxes(delta), threshold) for one, delta in zip(scores, deltas)]

    plan = TilePlan(SIDE, SIDE, halo=given.integer("padding", 0), batch=batch_size(definition, given, runner))
    return TorchDetector(runner, plan, find, classes=len(definition.classes))


def _found(logits: torch.Tensor, boxes: torch.Tensor, threshold: float) -> Found:
    found = found_objects(logits[:, : OUTPUTS - 1], boxes, (SIDE, SIDE), threshold, OVERLAP)
    inside = found["boxes"][:, 3] > 0
    return {
        "boxes": found["boxes"][inside],
        "scores": found["scores"][inside],
        "labels": torch.zeros_like(found["labels"][inside]),
    }
