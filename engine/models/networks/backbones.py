"""Trunks of the networks: every backbone of timm that gives feature maps, and a slim residual network for small data.

Names are accepted as people write them: ``RESNET34``, ``resnet34`` or ``timm:resnet34``. ``slim`` is a residual network
with few channels (basic blocks of torchvision): trained from scratch on some hundred labels it learns faster and runs
several times faster than the usual ones.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Sequence

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from ...errors import ModelError

if TYPE_CHECKING:
    StateDict = Mapping[str, torch.Tensor]

SLIM = "slim"
NORMS = ("batch", "group")
_STAGE = "building the network"
# Names that people know, and what timm calls the same network.
_ALIASES = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3": "mobilenetv3_large_100",
    "darknet53": "darknet53",
    "squeezenet1_0": "squeezenet1_0",
}


def norm_layer(kind: str) -> Callable[[int], nn.Module]:
    """Return a factory of normalisation layers: batch statistics, or groups of channels (for batches of one or two)."""
    if kind == "group":
        return lambda channels: nn.GroupNorm(_groups(channels), channels)
    return nn.BatchNorm2d


def _groups(channels: int) -> int:
    """Return the largest number of groups up to 32 that divides the channels into groups of four or more."""
    return max(count for count in range(1, 33) if channels % count == 0 and (count == 1 or channels // count >= 4))


def plain_name(name: str) -> str:
    """Return the backbone's name as timm writes it."""
    word = name.strip().lower().removeprefix("timm:").removeprefix("tu-").replace("-", "_").replace(" ", "")
    return _ALIASES.get(word, word)


class SlimResNet(nn.Module):
    """A residual network of basic blocks with ``width`` channels at stride 4, doubled at each further stride.

    The forward pass returns one map per stride of ``strides`` (4, 8, 16, 32, as far as asked for).
    """

    def __init__(self, bands: int, width: int, strides: Sequence[int], norm: str, depth: int = 2) -> None:
        super().__init__()
        norms = norm_layer(norm)
        self.stem = nn.Sequential(
            nn.Conv2d(bands, width, 7, 2, 3, bias=False), norms(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        self.strides = tuple(strides)
        self.channels: list[int] = []
        stages, entering, stride = [], width, 4
        while stride <= max(strides):
            leaving = width * stride // 4
            # One block at stride 4, where pixels are many and features simple.
            blocks = [_block(entering, leaving, 1 if stride == 4 else 2, norms)]
            blocks += [_block(leaving, leaving, 1, norms) for _ in range(0 if stride == 4 else depth - 1)]
            stages.append(nn.Sequential(*blocks))
            if stride in self.strides:
                self.channels.append(leaving)
            entering, stride = leaving, stride * 2
        self.stages = nn.ModuleList(stages)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of an (N, bands, H, W) batch, finest first."""
        maps, features, stride = [], self.stem(images), 4
        for stage in self.stages:
            features = stage(features)
            if stride in self.strides:
                maps.append(features)
            stride *= 2
        return maps


def _block(entering: int, leaving: int, stride: int, norms: Callable[[int], nn.Module]) -> nn.Module:
    shortcut: Optional[nn.Module] = None
    if stride != 1 or entering != leaving:
        shortcut = nn.Sequential(nn.Conv2d(entering, leaving, 1, stride, bias=False), norms(leaving))
    block: nn.Module = BasicBlock(entering, leaving, stride, shortcut, norm_layer=norms)
    return block


def features(
    name: str, bands: int, strides: Sequence[int], *, width: int = 32, norm: str = "batch"
) -> tuple[nn.Module, list[int]]:
    """Build a trunk that returns feature maps.

    Args:
        name: backbone.
        bands: input channels.
        strides: image pixels per feature pixel, ascending; one map each.
        width: channels at stride 4, of the slim network.
        norm: "batch" or "group", of the slim network.

    Returns:
        the module and the channels of its maps.

    Raises:
        ModelError: there is no such backbone, or it has no map of a stride.
    """
    plain = plain_name(name)
    if plain == SLIM:
        slim = SlimResNet(bands, width, strides, norm)
        return slim, slim.channels
    import timm

    require(plain)
    try:
        trunk: Any = timm.create_model(plain, pretrained=False, features_only=True, in_chans=bands)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The backbone '{name}' cannot be used here, because it gives no feature maps.",
            stage=_STAGE,
            hint="Choose a convolutional backbone such as resnet18, resnet34, resnet50 or slim.",
        ) from error
    reductions = list(trunk.feature_info.reduction())
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        raise ModelError(
            f"The backbone '{name}' has no feature map at stride {missing[0]}.",
            stage=_STAGE,
            hint=f"It has maps at the strides {', '.join(map(str, reductions))}.",
        )
    places = tuple(reductions.index(stride) for stride in strides)
    trunk = timm.create_model(plain, pretrained=False, features_only=True, in_chans=bands, out_indices=places)
    return trunk, list(trunk.feature_info.channels())


def require(name: str) -> None:
    """Check that timm knows a backbone.

    Raises:
        ModelError: it does not; similar names are given.
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), 4, 0.6)
        raise ModelError(
            f"There is no backbone called '{name}'.",
            stage=_STAGE,
            hint=f"Similar names: {', '.join(near)}." if near else "Common ones: slim, resnet18, resnet34, resnet50.",
        )
