"""Pixel classifiers of arcgis.learn: UnetClassifier, DeepLab and PSPNetClassifier, rebuilt from the definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional, Sequence, Union

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from ..errors import DefinitionError, ModelError
from . import weights
from .arcgis_encoders import build_encoder, channels_of, child_outputs, feature_shapes
from .arcgis_unet import DecoderStyle, DynamicUnet, skip_places
from .arguments import Arguments
from .base import TilePlan
from .normalisation import Normalisation
from .own import band_count, batch_size
from .own_plan import chosen
from .torch_models import TorchPixelClassifier
from .torch_runtime import Runner

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

Tensors = Mapping[str, torch.Tensor]
_STRIDE = 32
_GRIDS = (1, 2, 3, 6)


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchPixelClassifier:
    """Load a pixel classifier that arcgis.learn trained.

    Raises:
        ModelError: the variant of the network is not known, or the weights do not fit.
    """
    definition, given = package.definition, Arguments(arguments)
    normalisation = Normalisation.from_definition(definition)
    bands = band_count(definition, normalisation)
    values = class_values(definition)
    path = package.file(definition.model_file)
    tensors = weights.load_weights(path)
    network = build(definition, tensors, bands, len(values))
    weights.fit(network, tensors, path)
    runner = Runner(network, normalisation, device, threads)
    runner.fold(bands, 2 * _STRIDE)
    plan = _plan(definition, given, runner)
    model = TorchPixelClassifier(runner, plan, values, _excluded(definition, given, len(values)))
    runner.try_half(model.predict, (1, bands, plan.height, plan.width))
    return model


def class_values(definition: ModelDefinition) -> tuple[int, ...]:
    """Return the class value of each channel: background comes first unless the definition lists a class 0 itself."""
    values = tuple(one.value for one in definition.classes)
    if not values:
        raise DefinitionError(
            "The model definition lists no classes.", stage="loading the model", hint="Add Classes to the definition."
        )
    return values if 0 in values else (0, *values)


def _excluded(definition: ModelDefinition, given: Arguments, channels: int) -> list[int]:
    """Return the channels that must not win: those to be ignored, and background if it is not to be predicted."""
    excluded = {int(place) for place in definition.get("ignore_mapped_class", ())}
    # The default is arcgis.learn's: class 0 is predicted unless several classes exist and none has that value.
    several = len(definition.classes) > 1
    default = channels == len(definition.classes) or not several
    if not given.flag("predict_background", default):
        excluded.add(0)
    return sorted(excluded)


def _plan(definition: ModelDefinition, given: Arguments, runner: Runner) -> TilePlan:
    side = given.integer("tile_size", 0) or definition.image_height or 256
    # DeepLab and PSPNet pool over the whole image, so their answer depends on its size: it stays that of the training.
    free = isinstance(runner.network, DynamicUnet) and definition.supports_variable_tile_size
    return TilePlan(
        side,
        side if chosen(definition, given, "tile_size") else definition.image_height or side,
        halo=given.integer("padding", side // 4),
        fixed=not free or chosen(definition, given, "tile_size") is not None or side % _STRIDE != 0,
        multiple=_STRIDE if side % _STRIDE == 0 else 1,
        batch=batch_size(definition, given, runner),
    )


def build(definition: ModelDefinition, tensors: Tensors, bands: int, channels: int) -> nn.Module:
    """Build the network of a definition.

    Args:
        definition: of an arcgis.learn pixel classifier.
        tensors: its weights, whose names tell variants apart that the definition does not name.
        bands: input channels.
        channels: output channels, background included.
    """
    options = definition.get("ModelParameters", {})
    backbone = str(options.get("backbone") or "resnet34")
    if options.get("pointrend"):
        raise ModelError(
            "The model uses PointRend, an extension that this program cannot rebuild.",
            stage="building the network",
            hint="Train it again in ArcGIS without PointRend, or save it there as TorchScript or ONNX.",
        )
    size = (definition.image_height or 256, definition.image_width or 256)
    configuration = definition.configuration.lower()
    if configuration == "_unet":
        return _unet(build_encoder(backbone, bands), tensors, bands, channels, size)
    if configuration == "_psp":
        return _psp(backbone, options, tensors, bands, channels, size)
    return ArcgisDeepLab(backbone, tensors, bands, channels)


def _unet(
    encoder: nn.Sequential, tensors: Tensors, bands: int, channels: int, size: Sequence[int], prefix: str = "layers."
) -> DynamicUnet:
    blocks = len(skip_places(feature_shapes(encoder, bands, size)))
    return DynamicUnet(encoder, bands, channels, size, DecoderStyle.of(tensors, prefix, blocks))


class PyramidPooling(nn.Module):
    """Averages over grids of several sizes, joined to the map itself (Zhao et al. 2017)."""

    def __init__(self, channels: int, reduced: int, grids: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(grid),
                nn.Conv2d(channels, reduced, 1, bias=False),
                nn.BatchNorm2d(reduced),
                nn.ReLU(inplace=True),
            )
            for grid in grids
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the map with the averages of each grid as further channels."""
        pooled = [
            functional.interpolate(one(images), images.shape[-2:], mode="bilinear", align_corners=False)
            for one in self.features
        ]
        return torch.cat([images, *pooled], dim=1)


class PspUnet(nn.Module):
    """PSPNet with the decoder of a U-Net; arcgis.learn wraps the network once more, hence ``model``."""

    def __init__(self, network: DynamicUnet) -> None:
        super().__init__()
        self.model = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores (N, classes, rows, columns) before softmax."""
        result: torch.Tensor = self.model(images)
        return result


def _psp(
    backbone: str,
    options: Mapping[str, Union[Sequence[int], bool, None]],
    tensors: Tensors,
    bands: int,
    channels: int,
    size: Sequence[int],
) -> PspUnet:
    if not options.get("use_unet", True) or options.get("unet_aux_loss"):
        variant = "an auxiliary loss" if options.get("unet_aux_loss") else "no U-Net decoder"
        raise ModelError(
            f"The PSPNet was trained with {variant}, a variant that this program cannot rebuild.",
            stage="building the network",
            hint="Train it again with the default use_unet=True and unet_aux_loss=False, or save it as TorchScript.",
        )
    trunk = build_encoder(backbone, bands, dilated=True)
    width = feature_shapes(trunk, bands, size)[-1][0]
    chosen_grids = options.get("pyramid_sizes")
    grids = [int(one) for one in chosen_grids] if isinstance(chosen_grids, (list, tuple)) else list(_GRIDS)
    reduced = width // len(grids)
    place = len(trunk)
    after = channels_of(tensors, f"model.layers.0.{place + 1}.weight") or width
    trunk.append(PyramidPooling(width, reduced, grids))
    trunk.append(nn.Conv2d(width + reduced * len(grids), after, 3, padding=1))
    return PspUnet(_unet(trunk, tensors, bands, channels, size, "model.layers."))


class ArcgisDeepLab(nn.Module):
    """DeepLabV3 of torchvision on a dilated trunk, with the auxiliary head that only training uses."""

    def __init__(self, backbone: str, tensors: Tensors, bands: int, channels: int) -> None:
        super().__init__()
        self.backbone = build_encoder(backbone, bands, dilated=True)
        shapes = feature_shapes(self.backbone, bands, (64, 64))
        self.classifier = DeepLabHead(shapes[-1][0], channels)
        self.aux_classifier: Optional[nn.Module] = None
        if "aux_classifier.0.weight" in tensors:
            self.aux_classifier = FCNHead(int(tensors["aux_classifier.0.weight"].shape[1]), channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores (N, classes, rows, columns) before softmax."""
        *_, features = child_outputs(list(self.backbone), images)
        scores = self.classifier(features)
        return functional.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)
