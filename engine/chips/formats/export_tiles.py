"""Export_Tiles: images alone."""

from __future__ import annotations

from .base import ChipFormat

FORMAT = ChipFormat()
