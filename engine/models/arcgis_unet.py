"""The U-Net of fastai 1 over any encoder, which arcgis.learn uses in UnetClassifier and PSPNetClassifier.

Layers stand in one list (encoder, batch normalisation, ReLU, two convolutions, one block per skip connection, pixel
shuffle, and so on), because the names in a state dictionary count them. Source: fastai 1.0.61 (Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

import torch
from torch import nn
from torch.nn import functional

from .arcgis_encoders import feature_shapes


@dataclass(frozen=True)
class DecoderStyle:
    """What varies between the two uses of the network.

    Attributes:
        batch_norm: whether decoder convolutions are followed by batch normalisation (and have no bias then).
        weight_norm: whether the convolutions before pixel shuffles are weight-normalised.
        cross: whether the image itself joins the decoder before the last block.
        bottleneck: whether that block narrows to half its channels.
        gap: layers without weights between the last pixel shuffle and the joining.
    """

    batch_norm: bool = False
    weight_norm: bool = False
    cross: bool = True
    bottleneck: bool = True
    gap: int = 0

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], prefix: str, blocks: int) -> DecoderStyle:
        """Read the style off the names in a state dictionary; ``blocks`` is the number of skip connections."""
        names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
        crossing = [int(name.split(".")[0]) for name in names if name.endswith(".layers.0.0.weight")]
        inner = tensors.get(f"{prefix}{crossing[0]}.layers.0.0.weight") if crossing else None
        # Four layers before the blocks, then the pixel shuffle and the joining without weights.
        expected = 4 + blocks + 2
        return cls(
            batch_norm="3.0.2.weight" in names,
            weight_norm=any(name.endswith("weight_g") for name in names),
            cross=bool(crossing),
            bottleneck=inner is not None and inner.shape[0] < inner.shape[1],
            gap=max(0, min(crossing[0] - expected, 2)) if crossing else 0,
        )


def conv_layer(entering: int, leaving: int, *, size: int = 3, norm: bool = False, active: bool = True) -> nn.Sequential:
    """Return convolution, ReLU and batch normalisation, in fastai's order."""
    layers: list[nn.Module] = [nn.Conv2d(entering, leaving, size, padding=size // 2, bias=not norm)]
    if active:
        layers.append(nn.ReLU(inplace=True))
    if norm:
        layers.append(nn.BatchNorm2d(leaving))
    return nn.Sequential(*layers)


class WeightNormed(nn.Module):
    """A 1 x 1 convolution whose weights are kept as direction and length, under the names PyTorch gave them."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        plain = nn.Conv2d(entering, leaving, 1)
        self.bias = nn.Parameter(torch.zeros(leaving))
        self.weight_g = nn.Parameter(torch.ones(leaving, 1, 1, 1))
        self.weight_v = nn.Parameter(plain.weight.detach().clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the convolved images."""
        length = self.weight_v.flatten(1).norm(dim=1).view_as(self.weight_g)
        return functional.conv2d(images, self.weight_v * (self.weight_g / length), self.bias)


class PixelShuffle(nn.Module):
    """Doubles the size: a 1 x 1 convolution to four times the channels, ReLU, and their rearrangement."""

    def __init__(self, entering: int, leaving: int, weighted: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            WeightNormed(entering, 4 * leaving) if weighted else nn.Conv2d(entering, 4 * leaving, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return images of twice the size."""
        return functional.pixel_shuffle(self.conv(images).relu(), 2)


class UnetBlock(nn.Module):
    """Doubles the size and joins the encoder's map of that size."""

    def __init__(self, entering: int, skipped: int, last: bool, style: DecoderStyle) -> None:
        super().__init__()
        self.shuf = PixelShuffle(entering, entering // 2, style.weight_norm)
        self.bn = nn.BatchNorm2d(skipped)
        joined = entering // 2 + skipped
        self.leaving = joined // 2 if last else joined
        self.conv1 = conv_layer(joined, self.leaving, norm=style.batch_norm)
        self.conv2 = conv_layer(self.leaving, self.leaving, norm=style.batch_norm)

    def forward(self, images: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        """Return the map at the size of ``skipped``."""
        up = self.shuf(images)
        if up.shape[-2:] != skipped.shape[-2:]:
            up = functional.interpolate(up, skipped.shape[-2:], mode="nearest")
        joined = torch.cat([up, self.bn(skipped)], dim=1).relu()
        result: torch.Tensor = self.conv2(self.conv1(joined))
        return result


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, channels: int, inner: int, norm: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv_layer(channels, inner, norm=norm), conv_layer(inner, channels, norm=norm)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        result = images
        for layer in self.layers:
            result = layer(result)
        return result + images


class DynamicUnet(nn.Module):
    """The U-Net.

    Args:
        encoder: its children, in order, are the layers that skip connections may leave.
        bands: input channels.
        classes: output channels.
        size: (rows, columns) of the images it was trained on.
        style: see there; None reads nothing and takes the defaults.
    """

    def __init__(
        self,
        encoder: nn.Sequential,
        bands: int,
        classes: int,
        size: Sequence[int],
        style: Optional[DecoderStyle] = None,
    ) -> None:
        super().__init__()
        style = style or DecoderStyle()
        shapes = feature_shapes(encoder, bands, size)
        self.taps = skip_places(shapes)
        width = shapes[-1][0]
        norm = style.batch_norm
        middle = nn.Sequential(conv_layer(width, 2 * width, norm=norm), conv_layer(2 * width, width, norm=norm))
        layers: list[nn.Module] = [encoder, nn.BatchNorm2d(width), nn.ReLU(), middle]
        for number, place in enumerate(self.taps):
            block = UnetBlock(width, shapes[place][0], number == len(self.taps) - 1, style)
            layers.append(block)
            width = block.leaving
        self.enlarges = shapes[0][1:] != tuple(size)
        if self.enlarges:
            layers.append(PixelShuffle(width, width, style.weight_norm))
        self.crosses = style.cross
        if style.cross:
            layers += [nn.Identity() for _ in range(style.gap + 1)]
            width += bands
            layers.append(ResidualBlock(width, width // 2 if style.bottleneck else width, norm))
        layers.append(conv_layer(width, classes, size=1, norm=norm, active=False))
        self.layers = nn.ModuleList(layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores (N, classes, rows, columns) before softmax."""
        kept: dict[int, torch.Tensor] = {}
        result = images
        for place, child in enumerate(self.layers[0].children()):
            result = child(result)
            if place in self.taps:
                kept[place] = result
        for layer in self.layers[1:4]:
            result = layer(result)
        last = 4 + len(self.taps)
        for layer, place in zip(self.layers[4:last], self.taps):
            result = layer(result, kept[place])
        if self.enlarges:
            result = self.layers[last](result)
        if result.shape[-2:] != images.shape[-2:]:
            result = functional.interpolate(result, images.shape[-2:], mode="nearest")
        if self.crosses:
            result = self.layers[-2](torch.cat([result, images], dim=1))
        scores: torch.Tensor = self.layers[-1](result)
        return scores


def skip_places(shapes: Sequence[tuple[int, int, int]]) -> list[int]:
    """Return the layers whose output is larger than the next layer's, the deepest first."""
    columns = [shape[2] for shape in shapes]
    places = [place for place in range(len(columns) - 1) if columns[place] != columns[place + 1]]
    if columns[0] != columns[1]:
        places = [0, *places]
    return places[::-1]
