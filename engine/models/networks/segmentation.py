"""Pixel networks of segmentation-models-pytorch (U-Net, DeepLab, PSPNet and others) on any of its encoders."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from torch import nn

from ...errors import ModelError
from . import backbones
from .options import Option, from_configuration
from .unused import drop_unused

# our name -> name of segmentation-models-pytorch
ARCHITECTURES = {
    "unet": "unet",
    "unetplusplus": "unetplusplus",
    "manet": "manet",
    "linknet": "linknet",
    "fpn": "fpn",
    "pspnet": "pspnet",
    "deeplab": "deeplabv3",
    "deeplabv3": "deeplabv3",
    "deeplabv3plus": "deeplabv3plus",
    "upernet": "upernet",
    "segformer": "segformer",
}
_DECODERS = ("unet", "unetplusplus", "manet", "linknet")
_DEPTH = (
    Option("depth", "int", 5, "halvings of the image in the encoder", 3, 5),
    Option("decoder_channels", "numbers", None, "channels of the decoder, one number per halving", 4, 1024),
)
_DROPOUT: tuple[Option, ...] = ()
OPTIONS: dict[str, tuple[Option, ...]] = {
    name: (_DEPTH if name in _DECODERS[:3] else _DROPOUT) for name in ARCHITECTURES
}


def build(configuration: Mapping[str, Any], bands: int, classes: int, image_size: Sequence[int]) -> nn.Module:
    """Build a pixel network with random weights.

    It takes (N, bands, H, W) float32 with sides a multiple of :func:`multiple` and returns (N, classes, H, W) scores
    before softmax (values, for the task regression).

    Args:
        configuration: ``Architecture``, ``Backbone`` and the options of :data:`OPTIONS`.
        bands: input channels.
        classes: output channels.
        image_size: (height, width) of the images it is usually given; these networks take any size.

    Raises:
        ModelError: architecture, backbone or an option is unknown or impossible.
    """
    import segmentation_models_pytorch as smp

    architecture = str(configuration.get("Architecture", "")).lower()
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"There is no pixel network called '{configuration.get('Architecture')}'.",
            stage="building the network",
            hint=f"Known are: {', '.join(ARCHITECTURES)}.",
        )
    options = from_configuration(OPTIONS[architecture], configuration)
    members: dict[str, Any] = {}
    if "depth" in options:
        default = (256, 128, 64, 32, 16)[-options["depth"] :]
        channels = tuple(int(value) for value in options["decoder_channels"] or default)
        if len(channels) != options["depth"]:
            raise ModelError(
                f"decoder_channels has {len(channels)} numbers, but depth is {options['depth']}.",
                stage="building the network",
            )
        members = {"encoder_depth": options["depth"], "decoder_channels": channels}
    backbone = str(configuration.get("Backbone") or "resnet18")
    try:
        network: nn.Module = smp.create_model(
            ARCHITECTURES[architecture],
            encoder_name=encoder_name(backbone),
            encoder_weights=None,
            in_channels=bands,
            classes=classes,
            **members,
        )
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"The network '{architecture}' cannot be built on the backbone '{backbone}': {error}.",
            stage="building the network",
            hint="Choose another backbone, for example resnet18, resnet34, resnet50 or mobilenet_v2.",
        ) from error
    # Only the shallow ones leave stages of the encoder out; the others need no look.
    return drop_unused(network, bands) if architecture == "pspnet" or options.get("depth", 5) < 5 else network


def encoder_name(backbone: str) -> str:
    """Return what segmentation-models-pytorch calls a backbone; its own encoders come before timm's.

    Raises:
        ModelError: neither has such a backbone.
    """
    from segmentation_models_pytorch.encoders import get_encoder_names

    word = backbone.strip().lower().removeprefix("timm:").removeprefix("tu-")
    own = set(get_encoder_names())
    if not backbone.strip().lower().startswith("timm:"):
        for spelling in (word, word.replace("_", "-"), word.replace("-", "_")):
            if spelling in own:
                return spelling
    plain = backbones.plain_name(backbone)
    backbones.require(plain)
    return f"tu-{plain}"


def multiple(configuration: Mapping[str, Any]) -> int:
    """Return the number of pixels that sides of images must be a multiple of."""
    options = from_configuration(OPTIONS[str(configuration.get("Architecture", "")).lower()], configuration)
    return int(2 ** options["depth"]) if "depth" in options else 32
