"""Batch normalisation folded into the convolution before it: the same network in about nine tenths of the time.

Only where one surely follows the other: neighbours in a sequence, and the residual blocks of torchvision. The result
is compared with the original on a trial image all the same, and dropped if it differs.
"""

from __future__ import annotations

import copy
import logging
from typing import Iterator, Mapping

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

logger = logging.getLogger(__name__)

_ORDERED = (nn.Sequential, BasicBlock, Bottleneck, ResNet)
_TOLERANCE = 1e-4  # of the largest output, as for scores


def folded(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a network in evaluation mode with its batch normalisations folded, or the network itself.

    Args:
        network: maps images to a tensor, or to tuples or mappings of tensors; not changed.
        example: (N, bands, rows, columns) images on the network's device, to compare on.
    """
    candidate = copy.deepcopy(network)
    if not sum(_fold_children(module) for module in candidate.modules() if isinstance(module, _ORDERED)):
        return network
    with torch.inference_mode():
        pairs = zip(_tensors(network(example)), _tensors(candidate(example)))
        same = all(bool((one - other).abs().max() <= _TOLERANCE * one.abs().max()) for one, other in pairs)
    if not same:
        logger.info("Folding batch normalisation would change the results of the network; it is left as it is.")
        return network
    return candidate


def _fold_children(owner: nn.Module) -> int:
    """Fold neighbouring children and return how many pairs there were; normalisations become identities."""
    names, count = list(owner._modules), 0
    for name, following in zip(names, names[1:]):
        convolution, normalisation = owner._modules[name], owner._modules[following]
        # Exact types: subclasses may do more, such as the activation that timm's normalisation includes.
        if type(convolution) is nn.Conv2d and type(normalisation) is nn.BatchNorm2d:
            owner._modules[name] = fuse_conv_bn_eval(convolution, normalisation)
            owner._modules[following] = nn.Identity()
            count += 1
    return count


def _tensors(outputs: object) -> Iterator[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, (list, tuple)):
        for one in outputs:
            yield from _tensors(one)
    elif isinstance(outputs, Mapping):
        for one in outputs.values():
            yield from _tensors(one)
