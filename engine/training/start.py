"""Where a training starts: the network with random or given weights, its input's normalisation, its kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import torch
from torch import nn

from ..errors import JobError, ModelError
from ..jobs import TrainModel
from ..models import networks
from ..models.networks import detection as detection_networks
from ..models.networks import pretrained
from ..models.networks import segmentation as segmentation_networks
from ..models.normalisation import Normalisation
from ..models.weights import load_weights
from ..package.dlpk import open_package
from ..package.opening import ModelPackage
from .chips import TrainingSet
from .classification import ClassificationFamily
from .detection import DetectionFamily, automatic_anchors
from .packaging import configuration
from .segmentation import SegmentationFamily, class_weights
from .settings import DETECTION, INSTANCE, SEGMENTATION, STAGE, Settings

Kind = DetectionFamily | SegmentationFamily | ClassificationFamily


@dataclass(frozen=True)
class Start:
    """All that the loop starts with."""

    network: nn.Module
    family: Kind
    normalisation: Normalisation
    settings: Settings
    frozen: tuple[nn.Module, ...]


def start(job: TrainModel, settings: Settings, chips: TrainingSet, tell: Callable[[str], None]) -> Start:
    """Build the network and everything around it.

    Raises:
        ModelError: the network cannot be built or given weights do not fit.
        JobError: the pretrained model is of another kind.
    """
    given = _pretrained_package(job, settings, chips)
    if given is not None:
        settings = _like(given, settings)
    elif settings.task in (DETECTION, INSTANCE) and settings.network.get("anchor_sizes", ()) is None:
        settings = replace(
            settings, network={**settings.network, "anchor_sizes": automatic_anchors(chips.object_sizes)}
        )
    members = configuration(settings)
    torch.manual_seed(settings.seed)
    network = networks.build(members, chips.bands, len(chips.classes), (settings.chip_size, settings.chip_size))
    normalisation = _normalisation(job, chips)
    if given is not None:
        normalisation = Normalisation.from_definition(given.definition)
        tell(_take_over(network, given))
    elif job.backbone_weights:
        count = pretrained.load_backbone(network, settings.task, settings.backbone, job.backbone_weights)
        tell(f"{count} tensors of the backbone were loaded.")
    frozen = _freeze(network, settings) if settings.freeze else ()
    family = _family(settings, chips, members)
    return Start(network, family, normalisation, settings, frozen)


def _normalisation(job: TrainModel, chips: TrainingSet) -> Normalisation:
    """Statistics of the training chips; ImageNet's for 8-bit RGB on a backbone that learnt from photographs."""
    if job.backbone_weights and chips.bands == 3 and chips.training[0].folder.dtype == "uint8":
        return Normalisation.imagenet()
    return Normalisation.from_statistics(
        "mean_std", mean=chips.statistics.mean.tolist(), std=chips.statistics.std.tolist()
    )


def _family(settings: Settings, chips: TrainingSet, members: dict[str, Any]) -> Kind:
    names = [one.name for one in chips.classes]
    values = settings.options
    if settings.task in (DETECTION, INSTANCE):
        return DetectionFamily(names, detection_networks.label_offset(members), settings.task)
    weights = class_weights(chips.counts, len(names)) if values["class_balancing"] else None
    if settings.task == SEGMENTATION:
        return SegmentationFamily(
            names,
            weights=weights,
            focal=values["focal_loss"],
            dice=values["dice_loss_fraction"],
            multiple=segmentation_networks.multiple(members),
        )
    return ClassificationFamily(names, settings.chip_size, weights=weights, smoothing=values["label_smoothing"])


def _freeze(network: nn.Module, settings: Settings) -> tuple[nn.Module, ...]:
    """Keep the backbone as it is; return the modules that must stay in their state of use."""
    body = pretrained.backbone_of(network, settings.task)
    learnt = pretrained.classifier_names(body) if body is network else ()
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(bool(learnt) and name.startswith(learnt))
    if body is not network:
        return (body,)
    return tuple(module for module in body.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))


def _pretrained_package(job: TrainModel, settings: Settings, chips: TrainingSet) -> ModelPackage | None:
    """Open PRETRAINED_MODEL and check that it is of the same kind."""
    if not job.pretrained_model:
        return None
    package = open_package(job.pretrained_model)
    members = package.definition.configuration_members
    if package.definition.configuration != "DeepRaster":
        raise JobError(
            "The pretrained model was not trained by this program, so its network cannot be trained further.",
            stage=STAGE,
            file=job.pretrained_model,
            hint="Choose a package that “Train model” has written, or give BACKBONE_WEIGHTS.",
        )
    its = (str(members.get("Task")), str(members.get("Architecture")))
    if its != (settings.task, settings.architecture) or (
        job.backbone and str(members.get("Backbone")) != settings.backbone
    ):
        raise JobError(
            f"The pretrained model is a {its[1]} on {members.get('Backbone')}, but a {settings.architecture} on "
            f"{settings.backbone} is to be trained.",
            stage=STAGE,
            file=job.pretrained_model,
            hint="Choose the same model type and backbone.",
        )
    bands = len(package.definition.extract_bands)
    if bands != chips.bands:
        raise JobError(
            f"The pretrained model takes {bands} bands, but the chips have {chips.bands}.",
            stage=STAGE,
            file=job.pretrained_model,
        )
    return package


def _like(package: ModelPackage, settings: Settings) -> Settings:
    """Build the network as the package's was built: its options decide about the shapes of the weights."""
    members = package.definition.configuration_members
    names = {option.name: option for option in _options(settings)}
    its = {name: option.read(members[option.member]) for name, option in names.items() if option.member in members}
    return replace(settings, backbone=str(members.get("Backbone")), network={**settings.network, **its})


def _options(settings: Settings) -> Sequence[Any]:
    from .settings import network_options

    return network_options(settings.task, settings.architecture)


def _take_over(network: nn.Module, package: ModelPackage) -> str:
    """Load all weights of a package that fit; layers that depend on the number of classes may differ."""
    path: Path = package.file(package.definition.model_file)
    tensors, mine = load_weights(path), network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in mine and mine[name].shape == tensor.shape}
    left = [name for name in mine if name not in fitting]
    if len(fitting) < 0.8 * len(mine):
        raise ModelError(
            f"The weights of the pretrained model do not fit: {len(fitting)} of {len(mine)} tensors.",
            stage=STAGE,
            file=str(path),
        )
    network.load_state_dict(fitting, strict=False)
    if not left:
        return "All weights of the pretrained model were taken over."
    return f"The weights of the pretrained model were taken over, but for those of the classes: {', '.join(left[:6])}."


def parameters(network: nn.Module) -> int:
    """Return the number of weights."""
    return int(np.sum([one.numel() for one in network.parameters()]))
