"""In which numbers the forward pass is carried out."""

from __future__ import annotations

import contextlib
from typing import ContextManager

import torch


def autocast(precision: str, device: torch.device) -> ContextManager[object]:
    """Return the context of a forward pass.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 where the processor multiplies it in hardware.
        device: where the network is.
    """
    if precision == "float32" or (precision == "auto" and not _has_bfloat16(device)):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
