"""Single-shot detectors of arcgis.learn, SingleShotDetector and RetinaNet, rebuilt from the definition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from ..errors import DefinitionError, ModelError
from . import weights
from .arcgis_encoders import build_encoder, feature_shapes
from .arcgis_unet import conv_layer, skip_places
from .arguments import Arguments
from .base import TilePlan
from .normalisation import Normalisation
from .own import band_count, batch_size
from .ssd import CHANNELS, Anchors, OutConv, StandardConv, found_objects
from .torch_models import Found, TorchDetector, best_of_each_class
from .torch_runtime import Runner

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

_SCALES = (1.0, 2 ** (-1 / 3), 2 ** (-2 / 3))
_RATIOS = (0.5, 1.0, 2.0)
_MOST_CANDIDATES = 1000


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchDetector:
    """Load a SingleShotDetector or a RetinaNet that arcgis.learn trained.

    Raises:
        DefinitionError: no classes, or unusable grids.
        ModelError: the variant of the network is not known, or the weights do not fit.
    """
    definition, given = package.definition, Arguments(arguments)
    classes = len(definition.classes)
    if not classes:
        raise DefinitionError("The model definition lists no classes.", stage="loading the model")
    normalisation = Normalisation.from_definition(definition)
    bands = band_count(definition, normalisation)
    side = definition.image_height or 224
    path = package.file(definition.model_file)
    tensors = weights.load_weights(path)
    network: ArcgisSsd | ArcgisRetinaNet
    if definition.configuration.lower() == "_dynamicssd":
        network = build_ssd(definition, bands)
    else:
        network = build_retinanet(definition, bands)
    weights.fit(network, tensors, path)
    runner = Runner(network, normalisation, device, threads)
    runner.fold(bands, side, "encoder" if isinstance(network, ArcgisRetinaNet) else "0")
    threshold = given.number("threshold", 0.5, 0, 1)
    overlap = given.number("nms_overlap", 0.1, 0, 1)

    def find(images: torch.Tensor) -> Sequence[Found]:
        return network.find(images, threshold, overlap)

    plan = TilePlan(side, side, halo=given.integer("padding", side // 4), batch=batch_size(definition, given, runner))
    return TorchDetector(runner, plan, find, classes=classes, percent=True)


def backbone_name(definition: ModelDefinition) -> str:
    """Return the backbone that the definition names."""
    return str(definition.get("ModelParameters", {}).get("backbone") or definition.get("backbone", "resnet34"))


class SsdHead(nn.Module):
    """Convolutions that step from grid to grid, each with its outputs."""

    def __init__(self, entering: int, side: int, grids: Sequence[int], anchors: int, outputs: int) -> None:
        super().__init__()
        self.sconvs = nn.ModuleList([StandardConv(entering, 1)])
        for grid in grids:
            self.sconvs.append(step(side, grid))
            side = grid
        self.oconvs = nn.ModuleList(OutConv(anchors, outputs, column_major=False) for _ in grids)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class scores before the sigmoid and box deltas of all grids, in their order."""
        result = self.sconvs[0](features.relu())
        scores, deltas = [], []
        for convolution, out in zip(self.sconvs[1:], self.oconvs):
            result = convolution(result)
            of_classes, of_boxes = out(result)
            scores.append(of_classes)
            deltas.append(of_boxes)
        return torch.cat(scores, dim=1), torch.cat(deltas, dim=1)


def step(side: int, grid: int) -> StandardConv:
    """Return the convolution that brings a map of ``side`` cells to ``grid`` cells, enlarging it first if need be."""
    for stride in (1, 2):
        for padding in (0, 1):
            if side + 2 * padding >= 3 and (side + 2 * padding - 3) // stride + 1 == grid:
                return StandardConv(CHANNELS, stride, padding)
    return StandardConv(CHANNELS, 1, 1, grid)


class ArcgisSsd(nn.Sequential):
    """Trunk and head; the first output of each anchor is background."""

    def __init__(self, encoder: nn.Sequential, head: SsdHead, anchors: Anchors) -> None:
        super().__init__(encoder, head)
        self._anchors = anchors

    def find(self, images: torch.Tensor, threshold: float, overlap: float) -> Sequence[Found]:
        """Return the objects of each image."""
        logits, deltas = self(images)
        anchors = self._anchors.to(images.device)
        size = (images.shape[2], images.shape[3])
        return [
            found_objects(one[:, 1:], anchors.boxes(delta), size, threshold, overlap)
            for one, delta in zip(logits, deltas)
        ]


def build_ssd(definition: ModelDefinition, bands: int) -> ArcgisSsd:
    """Build a SingleShotDetector with random weights."""
    version = int(definition.get("SSDVersion", 1))
    if version != 2:
        raise ModelError(
            f"The package holds a SingleShotDetector of version {version}, whose layout this program cannot rebuild.",
            stage="building the network",
            hint="Load and save it with a later arcgis.learn, or train it again.",
        )
    grids = _integers(definition, "Grids")
    zooms = [float(one) for one in definition.get("Zooms", [1.0])]
    ratios = [(float(high), float(wide)) for high, wide in definition.get("Ratios", [[1.0, 1.0]])]
    side = definition.image_height or 224
    encoder = build_encoder(backbone_name(definition), bands)
    channels, rows, _ = feature_shapes(encoder, bands, (side, side))[-1]
    head = SsdHead(channels, rows, grids, len(zooms) * len(ratios), len(definition.classes) + 1)
    return ArcgisSsd(encoder, head, Anchors.on_grids(grids, zooms, ratios))


def _integers(definition: ModelDefinition, member: str) -> list[int]:
    given = definition.get(member, None)
    if not isinstance(given, list) or not given or not all(isinstance(one, (int, float)) and one >= 1 for one in given):
        raise DefinitionError(
            f"{member} of the model definition must be a list of whole numbers, not {given!r}.",
            stage="building the network",
        )
    return [int(one) for one in given]


class LateralMerge(nn.Module):
    """Adds a map of the trunk to the enlarged coarser one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_lat = nn.Conv2d(channels, CHANNELS, 1)

    def forward(self, coarse: torch.Tensor, lateral: torch.Tensor) -> torch.Tensor:
        """Return the map at the size of ``lateral``."""
        enlarged = functional.interpolate(coarse, lateral.shape[-2:], mode="nearest")
        result: torch.Tensor = self.conv_lat(lateral) + enlarged
        return result


class ArcgisRetinaNet(nn.Module):
    """RetinaNet as fast.ai's course built it: levels 3 to 7, one head for all (Lin et al. 2017).

    Args:
        encoder: trunk.
        bands: input channels.
        size: (rows, columns) of the images it was trained on.
        classes: object classes; there is no output for background.
        ratios: height by width of the anchors.
        scales: factors on each level's anchor size.
    """

    def __init__(
        self,
        encoder: nn.Sequential,
        bands: int,
        size: Sequence[int],
        classes: int,
        ratios: Sequence[float],
        scales: Sequence[float],
    ) -> None:
        super().__init__()
        shapes = feature_shapes(encoder, bands, size)
        self.taps = skip_places(shapes)[:2]
        self.shapes = [(scale * math.sqrt(one), scale * math.sqrt(1 / one)) for one in ratios for scale in scales]
        self.encoder = encoder
        self.c5top5 = nn.Conv2d(shapes[-1][0], CHANNELS, 1)
        self.c5top6 = nn.Conv2d(shapes[-1][0], CHANNELS, 3, 2, 1)
        self.p6top7 = nn.Sequential(nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1))
        self.merges = nn.ModuleList(LateralMerge(shapes[place][0]) for place in self.taps)
        self.smoothers = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(3))
        self.classifier = self._branch(classes)
        self.box_regressor = self._branch(4)

    def _branch(self, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(4):
            layer = conv_layer(CHANNELS, CHANNELS, norm=True)
            layer[0] = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)  # with a bias in spite of the normalisation
            layers.append(layer)
        return nn.Sequential(*layers, nn.Conv2d(CHANNELS, outputs * len(self.shapes), 3, padding=1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
        """Return (N, anchors, classes) scores before the sigmoid, (N, anchors, 4) deltas, and the levels' grids."""
        kept: dict[int, torch.Tensor] = {}
        deepest = images
        for place, child in enumerate(self.encoder):
            deepest = child(deepest)
            if place in self.taps:
                kept[place] = deepest
        sixth = self.c5top6(deepest)
        levels = [self.c5top5(deepest), sixth, self.p6top7(sixth)]
        for merge, place in zip(self.merges, self.taps):
            levels.insert(0, merge(levels[0], kept[place]))
        for place, smooth in enumerate(self.smoothers):
            levels[place] = smooth(levels[place])
        grids = [(level.shape[2], level.shape[3]) for level in levels]
        scores = [_flat(self.classifier(level), len(self.shapes)) for level in levels]
        deltas = [_flat(self.box_regressor(level), len(self.shapes)) for level in levels]
        return torch.cat(scores, dim=1), torch.cat(deltas, dim=1), grids

    def find(self, images: torch.Tensor, threshold: float, overlap: float) -> Sequence[Found]:
        """Return the objects of each image."""
        logits, deltas, grids = self(images)
        anchors = retinanet_anchors(grids, self.shapes).to(images.device)
        size = (images.shape[2], images.shape[3])
        return [
            best_of_each_class(_boxes(delta, anchors, size), one.sigmoid(), overlap, threshold, _MOST_CANDIDATES)
            for one, delta in zip(logits, deltas)
        ]


def _flat(maps: torch.Tensor, anchors: int) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, maps.shape[1] // anchors)


def retinanet_anchors(grids: Sequence[tuple[int, int]], shapes: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Return (n, 4) y, x, height, width in fractions; an anchor of scale 1 is four cells wide and high."""
    parts = []
    for rows, columns in grids:
        y = (torch.arange(rows, dtype=torch.float32) + 0.5) / rows
        x = (torch.arange(columns, dtype=torch.float32) + 0.5) / columns
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 1, 2)
        sizes = torch.tensor([(4 * high / rows, 4 * wide / columns) for high, wide in shapes]).unsqueeze(0)
        pair = torch.cat([centres.expand(-1, len(shapes), 2), sizes.expand(rows * columns, len(shapes), 2)], dim=2)
        parts.append(pair.reshape(-1, 4))
    return torch.cat(parts)


def _boxes(deltas: torch.Tensor, anchors: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return (n, 4) xmin, ymin, xmax, ymax in pixels."""
    centres = anchors[:, 2:] * deltas[:, :2] * 0.1 + anchors[:, :2]
    sizes = anchors[:, 2:] * (deltas[:, 2:] * 0.2).exp()
    corners = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1)[:, [1, 0, 3, 2]]
    return corners * corners.new_tensor([size[1], size[0], size[1], size[0]])


def build_retinanet(definition: ModelDefinition, bands: int) -> ArcgisRetinaNet:
    """Build a RetinaNet with random weights."""
    options: Mapping[str, Any] = definition.get("ModelParameters", {})
    side = definition.image_height or 224
    return ArcgisRetinaNet(
        build_encoder(backbone_name(definition), bands),
        bands,
        (side, side),
        len(definition.classes),
        [float(one) for one in options.get("ratios") or _RATIOS],
        [float(one) for one in options.get("scales") or _SCALES],
    )
