"""Trunks of arcgis.learn's networks: a backbone of torchvision or timm, cut before its pooling, as fastai 1 cuts it.

The trunk is a sequence of the backbone's children, so that the names in a state dictionary begin with their positions.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, Sequence

import torch
from torch import nn

from ..errors import ModelError

TIMM = "timm:"
STAGE = "building the network"
# torchvision's families whose children are not cut at the last pooling, and how many children are dropped.
_DROPPED = {"resnet": 2, "resnext": 2, "wide_resnet": 2, "densenet": 1, "vgg": 1, "mobilenet": 1, "squeezenet": 1}


def build_encoder(backbone: str, bands: int, *, dilated: bool = False) -> nn.Sequential:
    """Build a trunk with random weights.

    Args:
        backbone: as ``ModelParameters.backbone`` writes it, "resnet34" or "timm:mobilenetv3_large_100".
        bands: input channels.
        dilated: whether the output keeps stride 8: the last two strides become dilation.

    Raises:
        ModelError: the backbone is unknown or cannot be dilated.
    """
    name = backbone.strip().lower()
    try:
        if name.startswith(TIMM):
            return _timm_encoder(name.removeprefix(TIMM), bands, dilated)
        return _torchvision_encoder(name, bands, dilated)
    except (RuntimeError, ValueError, TypeError, StopIteration) as error:
        kind = "dilated network" if dilated else "network"
        raise ModelError(
            f"The model definition names the backbone '{backbone}', of which no {kind} can be built here.",
            stage=STAGE,
            hint="Check ModelParameters.backbone of the model definition.",
        ) from error


def _timm_encoder(name: str, bands: int, dilated: bool) -> nn.Sequential:
    import timm

    options: dict[str, Any] = {"output_stride": 8} if dilated else {}
    children = list(timm.create_model(name, pretrained=False, in_chans=bands, **options).children())
    cut = next(place for place in reversed(range(len(children))) if _has_pooling(children[place]))
    return nn.Sequential(*children[:cut])


def _torchvision_encoder(name: str, bands: int, dilated: bool) -> nn.Sequential:
    import torchvision

    family = next((one for one in _DROPPED if name.startswith(one)), "")
    if not family:
        raise ValueError(name)
    network = torchvision.models.get_model(name, weights=None)
    if bands != 3:
        _take_bands(network, bands)
    if dilated:
        if "resne" not in family:
            raise ValueError(name)
        _dilate(network.layer3, first=1, others=2)
        _dilate(network.layer4, first=2, others=4)
    return nn.Sequential(*list(network.children())[: -_DROPPED[family]])


def _take_bands(network: nn.Module, bands: int) -> None:
    """Replace the first convolution by one of the same kind with another number of input channels."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            owner = network.get_submodule(name.rpartition(".")[0])
            new = nn.Conv2d(
                bands,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            setattr(owner, name.rpartition(".")[2], new)
            return


def _dilate(stage: nn.Module, first: int, others: int) -> None:
    """Turn the stride of a stage into dilation, as torchvision's and timm's networks of output stride 8 do.

    The first 3 x 3 convolution of the stage keeps the dilation of the stage before. torchvision does so for
    bottlenecks only; arcgis.learn dilates basic blocks as well.
    """
    convolutions = [one for one in stage.modules() if isinstance(one, nn.Conv2d)]
    threes = [one for one in convolutions if one.kernel_size == (3, 3)]
    for convolution in convolutions:
        convolution.stride = (1, 1)
    for place, convolution in enumerate(threes):
        rate = first if place == 0 else others
        convolution.dilation = convolution.padding = (rate, rate)


def _has_pooling(module: nn.Module) -> bool:
    return any(re.search(r"Pool[123]d$", type(one).__name__) for one in module.modules())


def child_outputs(children: Sequence[nn.Module], images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the output of each of some modules that follow one another."""
    for child in children:
        images = child(images)
        yield images


def feature_shapes(encoder: nn.Sequential, bands: int, size: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (channels, rows, columns) of each child's output for an image of ``size`` (rows, columns)."""
    encoder.eval()
    with torch.inference_mode():
        outputs = child_outputs(list(encoder), torch.zeros(1, bands, *size))
        return [(one.shape[1], one.shape[2], one.shape[3]) for one in outputs]


def channels_of(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    """Return the output channels of a named tensor in a state dictionary; 0 if it is not there."""
    return int(tensors[name].shape[0]) if name in tensors else 0
