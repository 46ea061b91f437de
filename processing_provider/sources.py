"""From what a user picks (layers of any provider, paths, folders) to what the engine can open.

A layer that GDAL or OGR can open goes to the engine by path. Everything else is copied: its path in the job is that of
a temporary file, which a :class:`Copy` fills when the algorithm runs, in its own thread and before the engine starts.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Protocol, Tuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingUtils,
    QgsProperty,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsVectorLayer,
)

from ..engine import jobs
from .compat import has_added_fields, text_of
from .text import tr

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".vrt", ".ecw", ".mrf")


class Copy(Protocol):
    """Work to do before the engine starts; runs in the algorithm's thread."""

    def __call__(self, feedback: QgsProcessingFeedback) -> None:
        """Write the temporary file."""


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """Return a CRS as authority code, else as WKT, else empty."""
    if not crs.isValid():
        return ""
    return crs.authid() if crs.authid() and not crs.authid().startswith("USER:") else crs.toWkt()


def absolute(path: str) -> str:
    """Return the absolute path of a local file; URLs, /vsi paths and driver prefixes are returned as they are."""
    return os.path.abspath(path) if path and os.path.exists(path) else path


# --- rasters -------------------------------------------------------------------------------------------------------


def raster_layers(value: Any, context: QgsProcessingContext) -> List[QgsRasterLayer]:
    """Return the raster layers of a parameter's value: a layer, a path, a folder, or a list of these.

    Raises:
        QgsProcessingException: something in the list is not a raster.
    """
    if value is None or value == "":
        return []
    if isinstance(value, QgsProperty):
        value = value.staticValue()
    if isinstance(value, (list, tuple)):
        return [layer for one in value for layer in raster_layers(one, context)]
    if isinstance(value, QgsRasterLayer):
        return [value]
    text = str(value)
    if os.path.isdir(text):
        paths = rasters_in(text)
        if not paths:
            raise QgsProcessingException(tr("The folder {} holds no raster.").format(text))
        return raster_layers(paths, context)
    layer = QgsProcessingUtils.mapLayerFromString(text, context)
    if not isinstance(layer, QgsRasterLayer):
        raise QgsProcessingException(unreadable(text, tr("raster")))
    return [layer]


def rasters_in(folder: str) -> List[str]:
    """Return the paths of the rasters in a folder, sorted by name."""
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(RASTER_SUFFIXES))
    return [os.path.join(folder, name) for name in names]


def without_folders(value: Any) -> Any:
    """Return the value of a list of layers with folders replaced by the rasters in them."""
    if isinstance(value, (list, tuple)):
        return [one for item in value for one in _unfolded(item)]
    return _unfolded(value) if isinstance(value, str) and os.path.isdir(value) else value


def _unfolded(item: Any) -> List[Any]:
    return rasters_in(item) or [item] if isinstance(item, str) and os.path.isdir(item) else [item]


def unreadable(source: str, kind: str) -> str:
    """Return the sentence for an input that cannot be opened."""
    if not os.path.exists(source) and "://" not in source and not source.startswith("/vsi"):
        return tr("The {kind} {source} does not exist. Check the path.").format(kind=kind, source=source)
    return tr("{source} cannot be opened as a {kind}. Check that QGIS can show it as a layer.").format(
        source=source, kind=kind
    )


def raster_input(layer: QgsRasterLayer) -> Optional[jobs.RasterInput]:
    """Return how the engine opens a layer, or None if only QGIS can read it (web layers, databases, stored logins)."""
    if not layer.isValid():
        raise QgsProcessingException(unreadable(layer.source(), tr("raster")))
    if layer.providerType() != "gdal":
        return None
    registry = QgsProviderRegistry.instance()
    members: Dict[str, Any] = registry.decodeUri("gdal", layer.source())
    if text_of(members.get("authcfg")):
        return None
    options = tuple(str(one) for one in members.pop("openOptions", None) or ())
    path = registry.encodeUri("gdal", members) if text_of(members.get("path")) else layer.source()
    return jobs.RasterInput(
        path=absolute(path),
        name=layer.name(),
        nodata=user_nodata(layer),
        crs=_changed_crs(layer),
        open_options=options,
    )


def user_nodata(layer: QgsRasterLayer) -> Optional[Tuple[float, ...]]:
    """Return the nodata values that the user has set in the layer's properties, one per band; None if none are set."""
    provider = layer.dataProvider()
    values, changed = [], False
    for band in range(1, layer.bandCount() + 1):
        ranges = provider.userNoDataValues(band)
        if ranges:
            values.append(float(ranges[0].min()))
            changed = True
        elif provider.sourceHasNoDataValue(band):
            # QGIS lets a user switch the file's own value off; NaN marks nothing in whole numbers and the always
            # invalid in floats, so it is the engine's "no value".
            own = provider.useSourceNoDataValue(band)
            values.append(float(provider.sourceNoDataValue(band)) if own else float("nan"))
            changed = changed or not own
        else:
            values.append(float("nan"))
    return tuple(values) if changed else None


def _changed_crs(layer: QgsMapLayer) -> str:
    """Return the layer's CRS if it is not what its file says."""
    provider = layer.dataProvider()
    return crs_text(layer.crs()) if layer.crs().isValid() and provider.crs() != layer.crs() else ""


# --- vectors -------------------------------------------------------------------------------------------------------


class PickedVector:
    """A vector layer as a user picked it: the layer, and whether only its selection counts."""

    def __init__(self, value: Any, context: QgsProcessingContext) -> None:
        self.selected_only, self.limited = False, False
        if isinstance(value, QgsProcessingFeatureSourceDefinition):
            self.selected_only = value.selectedFeaturesOnly
            self.limited = value.featureLimit > 0 or bool(getattr(value, "filterExpression", ""))
            value = value.source
        if isinstance(value, QgsProperty):
            value = value.staticValue()
        if isinstance(value, QgsVectorLayer):
            self.layer = value
        else:
            layer = QgsProcessingUtils.mapLayerFromString(str(value), context)
            if not isinstance(layer, QgsVectorLayer):
                raise QgsProcessingException(unreadable(str(value), tr("vector layer")))
            self.layer = layer


def vector_input(picked: PickedVector) -> Optional[jobs.VectorInput]:
    """Return how the engine opens a picked layer, or None if it has to be copied.

    A copy is needed for what OGR does not see: memory and virtual layers, databases with QGIS logins, unsaved edits,
    joined and computed fields, a limit or an expression of the Processing dialog.
    """
    layer = picked.layer
    if not layer.isValid():
        raise QgsProcessingException(unreadable(layer.source(), tr("vector layer")))
    if layer.providerType() != "ogr" or picked.limited or layer.isModified():
        return None
    if has_added_fields(layer.fields()):
        return None
    registry = QgsProviderRegistry.instance()
    members: Dict[str, Any] = registry.decodeUri("ogr", layer.source())
    path = f"{text_of(members.get('vsiPrefix'))}{text_of(members.get('path'))}{text_of(members.get('vsiSuffix'))}"
    if not path or text_of(members.get("authcfg")) or members.get("openOptions"):
        return None
    name = text_of(members.get("layerName"))
    index = text_of(members.get("layerId"))
    if not name and index not in ("", "0"):
        return None
    return jobs.VectorInput(
        path=absolute(path),
        layer=name,
        where=layer.subsetString(),
        fids=tuple(sorted(layer.selectedFeatureIds())) if picked.selected_only else None,
        crs=_changed_crs(layer),
    )
