"""Parts of a network that no pixel passes: encoders come whole, but shallow decoders take only their first stages."""

from __future__ import annotations

import torch
from torch import nn

# Pixels; a multiple of what every network here asks for, small enough to take no time.
_SIDE = 64


def drop_unused(network: nn.Module, bands: int) -> nn.Module:
    """Put nothing in the place of modules that are never called, and return the network; its answers stay the same.

    Of a ResNet-18 below a U-Net of depth 3 that is nine tenths of all weights, which would otherwise be trained by
    the optimizer's book-keeping, saved, sent around and loaded.

    Args:
        network: takes (N, bands, H, W) float32; its weights are on the CPU.
        bands: input channels.
    """
    was_training = network.training
    network.eval()  # one image has no statistics for batch normalisation, and dropout would hide equality
    try:
        used = _called(network, bands)
        unused = _topmost(network, used)
        if unused:
            _replace(network, unused, bands)
    finally:
        network.train(was_training)
    return network


def _called(network: nn.Module, bands: int) -> set[str]:
    """Return the names of the modules that an image passes."""
    found: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda _module, _input, _output, name=name: found.add(name))  # type: ignore[misc]
        for name, module in network.named_modules()
    ]
    try:
        _answer(network, bands)
    finally:
        for one in hooks:
            one.remove()
    return found


def _topmost(network: nn.Module, used: set[str]) -> list[str]:
    """Return the largest modules with weights of which no part is used."""
    names = [name for name, module in network.named_modules() if name and any(True for _ in module.parameters())]
    dead = [name for name in names if not any(one == name or one.startswith(f"{name}.") for one in used)]
    roots: list[str] = []
    for name in dead:
        if not any(name.startswith(f"{root}.") for root in roots):
            roots.append(name)
    return roots


def _replace(network: nn.Module, names: list[str], bands: int) -> None:
    """Replace the modules, unless the network turns out to use their weights without calling them."""
    before = _answer(network, bands)
    kept = {name: network.get_submodule(name) for name in names}
    for name in names:
        network.set_submodule(name, nn.Identity())
    try:
        same = torch.equal(before, _answer(network, bands))
    except (AttributeError, RuntimeError, TypeError):
        same = False
    if not same:
        for name, module in kept.items():
            network.set_submodule(name, module)


def _answer(network: nn.Module, bands: int) -> torch.Tensor:
    with torch.no_grad():
        image = torch.linspace(-1.0, 1.0, bands * _SIDE * _SIDE).reshape(1, bands, _SIDE, _SIDE)
        answer: torch.Tensor = network(image)
    return answer
