"""Deep Raster: deep learning on rasters inside QGIS."""


def classFactory(iface):  # noqa: N802 - the name is QGIS's
    """Return the plugin object; QGIS calls this when it loads the plugin."""
    from .plugin.plugin import DeepRasterPlugin

    return DeepRasterPlugin(iface)
