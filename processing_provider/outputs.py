"""Styles of results: colours of classes in a style file beside the data, applied when the layer is loaded."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsFillSymbol,
    QgsLineSymbol,
    QgsMapLayer,
    QgsMarkerSymbol,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRendererCategory,
    QgsSymbol,
    QgsVectorLayer,
    QgsWkbTypes,
)

from ..engine.errors import DeepRasterError
from ..engine.package.reading import ClassInfo, Color

MAX_CATEGORIES = 300


def colour_of(position: int) -> Color:
    """Return a colour for the class at ``position`` (from 0): hues a golden angle apart stay easy to tell."""
    red, green, blue = colorsys.hsv_to_rgb((0.08 + position * 0.61803398875) % 1.0, 0.72, 0.86)
    return round(red * 255), round(green * 255), round(blue * 255)


def with_colours(classes: Sequence[ClassInfo]) -> List[ClassInfo]:
    """Return the classes, those without a colour with one of :func:`colour_of`."""
    return [
        one if one.color is not None else ClassInfo(one.value, one.name, colour_of(position))
        for position, one in enumerate(classes)
    ]


def class_colours(model: str) -> Dict[str, Color]:
    """Return colour by class name as the model defines them; a model that cannot be read has none."""
    from ..engine.package.peek import peek_definition

    try:
        definition = peek_definition(model)
    except DeepRasterError:
        return {}
    return {one.name: one.color for one in with_colours(definition.classes) if one.color is not None}


def outline_symbol(layer: QgsVectorLayer, colour: Color, *, filled: bool = False) -> QgsSymbol:
    """Return a symbol that shows the image below: an outline, a thin fill where ``filled``."""
    red, green, blue = colour
    solid = f"{red},{green},{blue},255"
    kind = layer.geometryType()
    if kind == QgsWkbTypes.GeometryType.PointGeometry:
        return QgsMarkerSymbol.createSimple({"name": "circle", "color": solid, "size": "2.4", "outline_width": "0.2"})
    if kind == QgsWkbTypes.GeometryType.LineGeometry:
        return QgsLineSymbol.createSimple({"color": solid, "width": "0.6"})
    fill = f"{red},{green},{blue},{70 if filled else 0}"
    return QgsFillSymbol.createSimple({"color": fill, "outline_color": solid, "outline_width": "0.5"})


def class_renderer(
    layer: QgsVectorLayer, field: str, colours: Mapping[object, Color], labels: Optional[Mapping[object, str]] = None
) -> QgsCategorizedSymbolRenderer:
    """Return a renderer with one category per value of ``field``."""
    labels = labels or {}
    categories = [
        QgsRendererCategory(value, outline_symbol(layer, colour, filled=True), labels.get(value, str(value)))
        for value, colour in colours.items()
    ]
    return QgsCategorizedSymbolRenderer(field, categories)


def value_map(classes: Sequence[ClassInfo]) -> QgsEditorWidgetSetup:
    """Return an editor in which a person picks the class by name and the value is stored."""
    return QgsEditorWidgetSetup("ValueMap", {"map": [{one.name: str(one.value)} for one in classes]})


def write_class_style(path: str, field: str, colours: Mapping[str, Color]) -> None:
    """Write ``<name>.qml`` beside a vector file, with a category for each class that occurs in it."""
    layer = QgsVectorLayer(path, "style", "ogr")
    if not layer.isValid():
        return
    index = layer.fields().lookupField(field)
    if index < 0 or layer.geometryType() == QgsWkbTypes.GeometryType.NullGeometry:
        return
    found = sorted((str(value) for value in layer.uniqueValues(index, MAX_CATEGORIES + 1) if value), key=str.casefold)
    if not found or len(found) > MAX_CATEGORIES:
        return
    ordered = [name for name in colours if name in found] + [name for name in found if name not in colours]
    layer.setRenderer(
        class_renderer(
            layer, layer.fields().at(index).name(), {n: colours.get(n, colour_of(i)) for i, n in enumerate(ordered)}
        )
    )
    layer.saveNamedStyle(str(style_file(path)))


def style_file(path: str) -> Path:
    """Return the path of the style beside a data file, where QGIS looks for it."""
    return Path(path).with_suffix(".qml")


class StyleWhenLoaded(QgsProcessingLayerPostProcessorInterface):
    """Applies the style file beside the data to the layer that Processing adds to the project."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Load the style; runs in the main thread."""
        style = style_file(self.path)
        if style.exists():
            layer.loadNamedStyle(str(style))
        elif isinstance(layer, QgsVectorLayer):
            layer.loadDefaultStyle()  # the one inside the GeoPackage, if there is one
        layer.triggerRepaint()
        _waiting.pop(self.path, None)


# QGIS keeps no reference to a post-processor made in Python: without one here it is silently never run.
_waiting: Dict[str, StyleWhenLoaded] = {}


def style_when_loaded(path: str, context: QgsProcessingContext) -> None:
    """Arrange that the layer at ``path`` gets its style when it is added to a project, if it is to be added."""
    if path and context.willLoadLayerOnCompletion(path):
        processor = _waiting[path] = StyleWhenLoaded(path)
        context.layerToLoadOnCompletionDetails(path).setPostProcessor(processor)
