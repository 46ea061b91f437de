"""Deep Raster: deep learning on rasters inside QGIS."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin object; QGIS calls this when it loads the plugin."""
    from .plugin.plugin import DeepRasterPlugin

    return DeepRasterPlugin(iface)
