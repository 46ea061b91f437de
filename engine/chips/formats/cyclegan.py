"""CycleGAN: images of two domains, each a data set of its own below A and B."""

from __future__ import annotations

from .base import ChipFormat

FORMAT = ChipFormat()
