"""FeatureClassifier of arcgis.learn, and the PyTorch configuration of the same name: fastai 1's image classifier.

A backbone without its pooling, then maximum and average pooling side by side, and two linear layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import torch
from torch import nn

from ..errors import DefinitionError
from . import weights
from .arcgis_encoders import build_encoder, channels_of, feature_shapes
from .arguments import Arguments
from .base import TilePlan
from .normalisation import Normalisation
from .own import band_count, batch_size
from .torch_models import TorchObjectClassifier
from .torch_runtime import Runner

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage

_HIDDEN = 512


class ConcatPool(nn.Module):
    """Largest and mean value of each channel, side by side, in this order."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 2 * channels, 1, 1)."""
        largest = nn.functional.adaptive_max_pool2d(images, 1)
        return torch.cat([largest, nn.functional.adaptive_avg_pool2d(images, 1)], dim=1)


def build_head(features: int, classes: int, hidden: int = _HIDDEN) -> nn.Sequential:
    """Return fastai 1's head: positions in the sequence are part of the names in a state dictionary."""
    return nn.Sequential(
        ConcatPool(),
        nn.Flatten(),
        nn.BatchNorm1d(2 * features),
        nn.Dropout(0.25),
        nn.Linear(2 * features, hidden),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(hidden),
        nn.Dropout(0.5),
        nn.Linear(hidden, classes),
    )


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchObjectClassifier:
    """Load a feature classifier.

    Raises:
        DefinitionError: no classes.
        ModelError: the backbone is unknown, or the weights do not fit.
    """
    definition, given = package.definition, Arguments(arguments)
    if not definition.classes:
        raise DefinitionError(
            "The model definition lists no classes.", stage="loading the model", hint="Add Classes to the definition."
        )
    normalisation = Normalisation.from_definition(definition)
    bands = band_count(definition, normalisation)
    path = package.file(definition.model_file)
    tensors = weights.load_weights(path)
    backbone = str(definition.get("ModelParameters", {}).get("backbone") or definition.get("backbone", "resnet34"))
    encoder = build_encoder(backbone, bands)
    side = (definition.image_height or 224, definition.image_width or 224)
    features = feature_shapes(encoder, bands, side)[-1][0]
    head = build_head(features, len(definition.classes), channels_of(tensors, "1.4.weight") or _HIDDEN)
    network = nn.Sequential(encoder, head)
    weights.fit(network, tensors, path)
    runner = Runner(network, normalisation, device, threads)
    runner.fold(bands, min(side))
    plan = TilePlan(side[1], side[0], batch=batch_size(definition, given, runner))
    model = TorchObjectClassifier(
        runner,
        plan,
        blacken=definition.blacken_around_feature,
        fixed_crop=definition.crop_size_fixed,
        classes=len(definition.classes),
        independent=given.number("threshold", 0.5, 0, 1) if definition.has_several_labels else None,
    )
    runner.try_half(model.predict, (2, bands, *side))
    return model
