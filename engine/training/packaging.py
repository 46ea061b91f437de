"""From a trained network to a model package: its definition, its weights, and what is to be told about it."""

from __future__ import annotations

import io
import math
from typing import Any, Mapping, Sequence

import torch

from ..models.networks import options
from ..models.normalisation import Normalisation
from .chips import TrainingSet
from .metrics import ClassFigures
from .pictures import colors
from .settings import CLASSIFICATION, DETECTION, INSTANCE, SEGMENTATION, Settings, network_options
from .splitting import Member

_MODEL_TYPES = {
    DETECTION: "ObjectDetection",
    INSTANCE: "InstanceDetection",
    SEGMENTATION: "ImageClassification",
    CLASSIFICATION: "ObjectClassification",
}
# Transformers with tables of positions take only the size that they were built for.
_FIXED_SIZE = ("vit", "swin", "deit", "beit", "mixer", "eva")


def configuration(settings: Settings) -> dict[str, Any]:
    """Return ``ModelConfiguration``: all that is needed to build the network again."""
    return {
        "Name": "DeepRaster",
        "Task": settings.task,
        "Architecture": settings.architecture,
        "Backbone": settings.backbone,
        **options.to_members(network_options(settings.task, settings.architecture), settings.network),
    }


def definition(
    settings: Settings,
    chips: TrainingSet,
    normalisation: Normalisation,
    *,
    name: str,
    figures: Mapping[str, float],
    rows: Sequence[ClassFigures],
) -> dict[str, Any]:
    """Return the members of the model definition.

    Args:
        settings: of the training.
        chips: that it learnt from.
        normalisation: of the network's input.
        name: of the model; the weights are ``<name>.pth``.
        figures: of the best epoch.
        rows: figures per class of the best epoch.
    """
    rows_, columns = chips.sample(chips.training[0]).size
    # Networks for pixels and objects run on tiles as large as the chips; classifiers on what they were trained on.
    height, width = (settings.chip_size,) * 2 if settings.task == CLASSIFICATION else (rows_, columns)
    palette = colors([one.color for one in chips.classes])
    members: dict[str, Any] = {
        "Framework": "PyTorch",
        "ModelConfiguration": configuration(settings),
        "ModelType": _MODEL_TYPES[settings.task],
        "MetaDataMode": chips.training[0].folder.format,
        "ExtractBands": list(range(chips.bands)),
        "Classes": [
            {"Value": one.value, "Name": one.name, "Color": list(color)}
            for one, color in zip(chips.classes, palette, strict=True)
        ],
        "ModelFile": f"{name}.pth",
        "ModelFormat": "NCHW",
        "ModelName": name,
        "ImageHeight": height,
        "ImageWidth": width,
        "ImageSpaceUsed": "PIXEL_SPACE" if chips.pixel_space else "MAP_SPACE",
        "SupportsVariableTileSize": not settings.backbone.removeprefix("timm:").startswith(_FIXED_SIZE),
        "Normalization": normalisation.to_members(),
        **_cell_sizes(chips.training),
        "LearningRate": f"{settings.rate:.4e}",
        f"monitored_{settings.monitor}": _number(figures.get(settings.monitor, math.nan)),
        "per_class_metrics": {row.name: {key: _number(value) for key, value in row.figures.items()} for row in rows},
        "TrainingParameters": {
            "Epochs": settings.epochs,
            "BatchSize": settings.batch,
            "ChipSize": settings.chip_size,
            "Seed": settings.seed,
            "Augmentation": settings.augmentation,
            "TrainingChips": len(chips.training),
            "ValidationChips": len(chips.validation),
        },
    }
    if settings.task == CLASSIFICATION:
        members |= {"CropSizeFixed": 0, "BlackenAroundFeature": 0}
        exported = chips.training[0].folder.members
        members |= {key: int(exported[key]) for key in ("CropSizeFixed", "BlackenAroundFeature") if key in exported}
    return {key: value for key, value in members.items() if value is not None}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _cell_sizes(members: Sequence[Member]) -> dict[str, Any]:
    """Return the range of cell sizes of the chips in map units, as far as it is known."""
    sizes = []
    for member in members:
        box = member.bounds
        if box is not None and member.folder.width and member.folder.height:
            sizes.append(((box[2] - box[0]) / member.folder.width, (box[3] - box[1]) / member.folder.height))
    if not sizes:
        exported = members[0].folder.members
        return {key: exported[key] for key in ("MinCellSize", "MaxCellSize") if isinstance(exported.get(key), dict)}
    return {
        "MinCellSize": {"x": min(one[0] for one in sizes), "y": min(one[1] for one in sizes)},
        "MaxCellSize": {"x": max(one[0] for one in sizes), "y": max(one[1] for one in sizes)},
    }


def weights(network: torch.nn.Module) -> bytes:
    """Return the network's state dictionary as a file that loads without running anything."""
    file = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, file)
    return file.getvalue()
