"""Backbones that have learnt something before: weights from a file, or ImageNet's from the network's publisher.

Only training comes here; a trained package holds all its weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import torch
from torch import nn

from ...errors import ModelError
from ..weights import load_weights
from . import backbones
from .segmentation import encoder_name

IMAGENET = "IMAGENET"
STAGE = "loading the backbone's weights"
# Below this share of matching tensors the file is of another network.
_ENOUGH = 0.8


def backbone_of(network: nn.Module, task: str) -> nn.Module:
    """Return the part of a network that weights of a backbone belong to; of classifiers, the network itself."""
    if task == "classification":
        return network
    place = "encoder" if task in ("segmentation", "regression") else "backbone.body"
    return network.get_submodule(place)


def classifier_names(network: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of a classifier's last layer, which belongs to its classes and not to the backbone."""
    given = (getattr(network, "default_cfg", None) or {}).get("classifier", ())
    names = (given,) if isinstance(given, str) else tuple(given or ())
    return tuple(f"{name}." for name in names)


def load_backbone(network: nn.Module, task: str, backbone: str, source: str) -> int:
    """Load weights of a backbone into a network; a first layer for three bands is adapted to other numbers of bands.

    Args:
        network: from :func:`.build`.
        task: of its configuration.
        backbone: name of the backbone.
        source: path of a weights file, or ``IMAGENET`` to download what the network's publisher offers.

    Returns:
        the number of tensors that were loaded.

    Raises:
        ModelError: the file is missing, is no weights file or one of another network, or the download fails.
    """
    if source.strip().upper() == IMAGENET:
        tensors = _download(task, backbone)
    else:
        path = Path(source)
        if not path.is_file():
            raise ModelError(
                "The file with the backbone's weights does not exist.",
                stage=STAGE,
                file=source,
                hint=f"Give the path of a .pth or .safetensors file, or {IMAGENET} to download weights.",
            )
        tensors = load_weights(path)
    target = backbone_of(network, task)
    loaded = _fill(target, tensors, classifier_names(target))
    wanted = sum(1 for name in target.state_dict() if not name.endswith("num_batches_tracked"))
    if loaded < _ENOUGH * wanted:
        raise ModelError(
            f"The weights are not those of the backbone '{backbone}': {loaded} of {wanted} tensors fit.",
            stage=STAGE,
            file=source,
            hint="Choose the backbone that the weights were made for.",
        )
    return loaded


def _fill(target: nn.Module, tensors: Mapping[str, torch.Tensor], skipped: tuple[str, ...]) -> int:
    """Copy what fits by name and shape. Wrappers write dots as underscores or add a prefix; both are seen through."""
    by_name: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        plain = name.replace(".", "_")
        by_name.setdefault(plain, tensor)
        for prefix in ("model_", "encoder_", "backbone_", "body_"):
            by_name.setdefault(plain.removeprefix(prefix), tensor)
    loaded = 0
    first = True
    for name, mine in target.state_dict().items():
        its = by_name.get(name.replace(".", "_"))
        if its is None:
            its = by_name.get(name.removeprefix("model.").replace(".", "_"))
        if its is None or (skipped and name.startswith(skipped)):
            continue
        if first and mine.ndim == 4 and its.ndim == 4 and mine.shape[1] != its.shape[1]:
            its = _other_bands(its, mine.shape[1])
        first = first and mine.ndim != 4
        if its.shape == mine.shape:
            mine.copy_(its)
            loaded += not name.endswith("num_batches_tracked")
    return loaded


def _other_bands(weight: torch.Tensor, bands: int) -> torch.Tensor:
    """Repeat the filters over the bands, at a scale that keeps the size of the sums."""
    repeats = -(-bands // weight.shape[1])
    return weight.repeat(1, repeats, 1, 1)[:, :bands] * (weight.shape[1] / bands)


def _download(task: str, backbone: str) -> dict[str, torch.Tensor]:
    """Fetch weights through the library that the network comes from."""
    try:
        module = _published(task, backbone)
    except Exception as error:
        # The libraries raise whatever their download clients raise: connection, certificate, proxy and disk errors.
        raise ModelError(
            f"The weights of the backbone '{backbone}' cannot be downloaded: {_first_line(error)}.",
            stage=STAGE,
            hint="Without a network, give the path of a weights file as BACKBONE_WEIGHTS, or leave it empty to train "
            "from scratch.",
        ) from error
    return dict(module.state_dict())


def _published(task: str, backbone: str) -> nn.Module:
    if task in ("segmentation", "regression"):
        name = encoder_name(backbone)
        if not name.startswith("tu-"):
            from segmentation_models_pytorch.encoders import get_encoder

            encoder: nn.Module = get_encoder(name, in_channels=3, weights="imagenet")
            return encoder
    import timm

    plain = backbones.plain_name(backbone)
    if plain == backbones.SLIM:
        raise ValueError("nobody has published weights for 'slim'")
    network: Any = timm.create_model(plain, pretrained=True)
    return network  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
