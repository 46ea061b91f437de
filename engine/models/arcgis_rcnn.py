"""FasterRCNN and MaskRCNN of arcgis.learn: torchvision's networks, with its feature pyramid or on a single map.

Images come in as 0..1 and are normalised and enlarged inside, to between 1.5 and 2 times the training chip.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d, batched_nms

from ..errors import DefinitionError, ModelError
from . import weights
from .arcgis_detection import backbone_name
from .arcgis_encoders import build_encoder, channels_of, feature_shapes
from .arguments import Arguments
from .base import TilePlan
from .normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from .own import band_count, batch_size
from .torch_models import Found, TorchDetector
from .torch_runtime import Runner

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

_SMALLEST, _LARGEST = 1.5, 2.0  # sides of the images inside the network, in training chips
_RATIOS = (0.5, 1.0, 2.0)
# Sides of anchors on a single map, pixels. arcgis.learn keeps torchvision's defaults, of which one map takes the first
# alone; torchvision's own example of a network without a pyramid takes all. The outputs per cell tell them apart.
_SINGLE_MAP_SIZES = (32, 64, 128, 256, 512)
_KEYWORDS = re.compile(r"(box|rpn)_\w+$")
# Names before torchvision 0.12, and what they are called now.
_RENAMED = (
    (re.compile(r"^rpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
)


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchDetector:
    """Load a FasterRCNN or MaskRCNN that arcgis.learn trained.

    Raises:
        DefinitionError: no classes.
        ModelError: the variant of the network is not known, or the weights do not fit.
    """
    definition, given = package.definition, Arguments(arguments)
    if not definition.classes:
        raise DefinitionError("The model definition lists no classes.", stage="loading the model")
    if definition.get("ModelParameters", {}).get("pointrend"):
        raise ModelError(
            "The model uses PointRend, an extension that this program cannot rebuild.",
            stage="building the network",
            hint="Train it again in ArcGIS without PointRend, or save it there as TorchScript or ONNX.",
        )
    normalisation = Normalisation.from_definition(definition)
    bands = band_count(definition, normalisation)
    masks = definition.model_type == "InstanceDetection"
    path = package.file(definition.model_file)
    tensors = present_names(weights.load_weights(path))
    network = build(definition, tensors, bands, masks)
    weights.fit(network, tensors, path)
    network.transform.image_mean, network.transform.image_std = inner_moments(normalisation, bands)
    network.roi_heads.score_thresh = given.number("threshold", 0.9 if masks else 0.5, 0, 1)
    overlap = given.number("nms_overlap", 1.0 if masks else 0.1, 0, 1)
    runner = Runner(network, normalisation.without_moments(), device, threads)
    runner.fold(bands, 64, "backbone")

    def find(images: torch.Tensor) -> Sequence[Found]:
        return [_plain(found, overlap) for found in network(list(images))]

    side = given.integer("tile_size", 0) or definition.image_height or 256
    plan = TilePlan(side, side, halo=given.integer("padding", side // 4), batch=batch_size(definition, given, runner))
    return TorchDetector(
        runner,
        plan,
        find,
        classes=len(definition.classes),
        percent=True,
        boxes_only=given.flag("return_bboxes", False),
    )


def build(definition: ModelDefinition, tensors: Mapping[str, torch.Tensor], bands: int, masks: bool) -> Any:
    """Build the network with random weights; the names of its tensors tell pyramid and single map apart."""
    backbone = backbone_name(definition)
    side = definition.image_height or 256
    options: dict[str, Any] = {
        "min_size": int(_SMALLEST * side),
        "max_size": int(_LARGEST * side),
        **keywords(definition),
    }
    trunk: Any
    if any(name.startswith("backbone.fpn.") for name in tensors):
        trunk = _pyramid(backbone, tensors, bands)
    else:
        trunk = build_encoder(backbone, bands)
        trunk.out_channels = feature_shapes(trunk, bands, (side, side))[-1][0]
        per_cell = channels_of(tensors, "rpn.head.cls_logits.weight")
        sizes = _SINGLE_MAP_SIZES if per_cell == len(_SINGLE_MAP_SIZES) * len(_RATIOS) else _SINGLE_MAP_SIZES[:1]
        options["rpn_anchor_generator"] = AnchorGenerator((sizes,), (_RATIOS,))
    kind: Callable[..., nn.Module] = MaskRCNN if masks else FasterRCNN
    return kind(trunk, len(definition.classes) + 1, **options)


def keywords(definition: ModelDefinition) -> dict[str, Any]:
    """Return the numbers that training overrode, of torchvision's keywords; anything else is refused."""
    given = {**definition.get("MaskRCNNkwargs", {}), **definition.get("Kwargs", {})}
    for name, value in given.items():
        if not _KEYWORDS.match(name) or not isinstance(value, (int, float)):
            raise ModelError(
                f"The model was trained with the option {name} = {value!r}, which this program cannot rebuild.",
                stage="building the network",
                hint="Train it again without this option, or save it in ArcGIS as TorchScript.",
            )
    return given


def _pyramid(backbone: str, tensors: Mapping[str, torch.Tensor], bands: int) -> nn.Module:
    frozen = not any(name.startswith("backbone.body.") and name.endswith("num_batches_tracked") for name in tensors)
    norm: Any = _frozen_norm if frozen else nn.BatchNorm2d
    try:
        trunk: nn.Module = resnet_fpn_backbone(
            backbone_name=backbone.strip().lower(), weights=None, norm_layer=norm, trainable_layers=5
        )
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"The model definition names the backbone '{backbone}', of which no feature pyramid can be built here.",
            stage="building the network",
            hint="Check ModelParameters.backbone of the model definition.",
        ) from error
    body: Any = trunk.body
    if bands != 3:
        body["conv1"] = nn.Conv2d(bands, body["conv1"].out_channels, 7, 2, 3, bias=False)
    return trunk


def _frozen_norm(channels: int) -> FrozenBatchNorm2d:
    """Return the layer of torchvision's pretrained pyramids, which have no epsilon."""
    return FrozenBatchNorm2d(channels, eps=0.0)


def inner_moments(normalisation: Normalisation, bands: int) -> tuple[list[float], list[float]]:
    """Return what the network subtracts and divides by: of the training bands, or ImageNet's for three of them."""
    if normalisation.mean:
        return list(normalisation.mean), list(normalisation.std)
    if bands == len(IMAGENET_MEAN):
        return list(IMAGENET_MEAN), list(IMAGENET_STD)
    raise DefinitionError(
        f"The model takes {bands} bands, but its definition has no NormalizationStats for them.",
        stage="loading the model",
        hint="Ask the maker of the package for a complete model definition.",
    )


def present_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under the names that torchvision uses today, without what wrappers put in front."""
    front = ""
    first = next((name for name in tensors if ".roi_heads.box_head." in name), "")
    if first:
        front = first[: first.index("roi_heads.")]
    renamed: dict[str, torch.Tensor] = OrderedDict()
    for name, tensor in tensors.items():
        current = name.removeprefix(front)
        for pattern, replacement in _RENAMED:
            current = pattern.sub(replacement, current)
        current = re.sub(
            r"^(roi_heads\.mask_head)\.mask_fcn(\d+)\.", lambda hit: f"{hit[1]}.{int(hit[2]) - 1}.0.", current
        )
        renamed[current] = tensor
    return renamed


def _plain(found: Mapping[str, torch.Tensor], overlap: float) -> dict[str, torch.Tensor]:
    """Count labels from 0, drop the channel of masks, and suppress once more at the overlap that was asked for."""
    kept = torch.arange(len(found["scores"]), device=found["scores"].device)
    if overlap < 1:
        kept = batched_nms(found["boxes"], found["scores"], found["labels"], overlap)
    plain = {"boxes": found["boxes"][kept], "scores": found["scores"][kept], "labels": found["labels"][kept] - 1}
    if "masks" in found:
        plain["masks"] = found["masks"][kept, 0]
    return plain
