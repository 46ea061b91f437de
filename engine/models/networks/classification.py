"""Image classifiers of timm, for objects and tiles."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from torch import nn

from ...errors import ModelError
from . import backbones
from .options import Option, from_configuration

ARCHITECTURES = ("classifier",)
OPTIONS: dict[str, tuple[Option, ...]] = {
    "classifier": (Option("dropout", "float", 0.0, "share of features dropped before the last layer", 0, 0.9),)
}
# Networks whose position tables depend on the image's size take it as an argument of timm.
_SIZED = ("vit", "swin", "deit", "beit", "mixer", "coat", "cait", "eva", "maxvit", "xcit", "levit")


def build(configuration: Mapping[str, Any], bands: int, classes: int, image_size: Sequence[int]) -> nn.Module:
    """Build a classifier with random weights.

    It takes (N, bands, H, W) float32 and returns (N, classes) scores before softmax.

    Args:
        configuration: ``Backbone`` (any of timm's models) and the options of :data:`OPTIONS`.
        bands: input channels.
        classes: number of classes.
        image_size: (height, width), which transformers are built for.

    Raises:
        ModelError: the backbone is unknown or does not take such images.
    """
    import timm

    options = from_configuration(OPTIONS["classifier"], configuration)
    name = backbones.plain_name(str(configuration.get("Backbone") or "resnet18"))
    if name == backbones.SLIM:
        name = "resnet10t"
    backbones.require(name)
    members: dict[str, Any] = {"img_size": tuple(image_size)} if name.startswith(_SIZED) else {}
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, in_chans=bands, num_classes=classes, drop_rate=options["dropout"], **members
        )
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(
            f"A classifier cannot be built on the backbone '{name}' for images of "
            f"{image_size[1]} x {image_size[0]} pixels: {error}.",
            stage="building the network",
            hint="Choose another backbone, for example resnet18 or resnet34.",
        ) from error
    return network
