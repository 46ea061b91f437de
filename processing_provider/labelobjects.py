"""Make a label layer: training samples with their classes, as ArcGIS and the exporter name their fields."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from qgis.core import (
    QgsCoordinateTransform,
    QgsCsException,
    QgsDefaultValue,
    QgsExpression,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsFeatureSource,
    QgsFields,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
    QgsRasterLayer,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsWkbTypes,
)

from ..engine.package.reading import ClassInfo
from ..engine.package.schema import read_schema
from . import outputs, parameters
from .base import LABELLING, DeepRasterAlgorithm
from .compat import INTEGER, TEXT, is_null, make_field
from .reader import ParameterReader
from .text import tr

FIELDS = (("Classname", TEXT), ("Classvalue", INTEGER), ("RED", INTEGER), ("GREEN", INTEGER), ("BLUE", INTEGER),
          ("Count", INTEGER))  # fmt: skip
CLASS_FIELDS = ("classvalue", "value", "classname", "class", "name")
CLASS_FIELD, SCHEMA_FILTER = "Classvalue", "*.ecs *.ecd *.json *.csv *.qml *.emd"


class LabelObjects(DeepRasterAlgorithm):
    """deepraster:labelobjects."""

    ID = "labelobjects"
    GROUP = LABELLING
    TAGS = ("samples", "training samples", "digitise", "schema", "Label Objects for Deep Learning")

    def title(self) -> str:
        return tr("Label objects")

    def summary(self) -> str:
        return tr(
            "Makes a label layer for a raster from a class schema: empty to draw in, or filled with existing features "
            "whose classes the schema knows."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            parameters.raster(
                "INPUT", tr("Raster"), tr("The imagery that is labelled; the layer takes its coordinate system.")
            ),
            parameters.file(
                "SCHEMA",
                tr("Class schema"),
                tr(
                    "The classes with values and colours: a schema (.ecs, .json), a table (.csv with name, value, red, "
                    "green, blue), a QGIS style (.qml) or a model definition (.emd)."
                ),
                file_filter=tr("Class schemas") + f" ({SCHEMA_FILTER})",
            ),
            parameters.features(
                "FEATURES",
                tr("Existing features"),
                tr("Polygons to take over as samples; all or the selected ones."),
                optional=True,
                geometry=[parameters.POLYGON],
            ),
            parameters.field(
                "CLASS_FIELD",
                tr("Class field"),
                tr(
                    "Field with the class, as value or as name; empty takes Classvalue, Value, Classname or Class if "
                    "there is one. With a single class in the schema none is needed."
                ),
                "FEATURES",
            ),
            parameters.new_vector(
                "OUTPUT",
                tr("Label layer"),
                tr(
                    "A GeoPackage with the fields Classname, Classvalue, RED, GREEN, BLUE and Count (area of the "
                    "sample in pixels), colours and a form in which the class is picked by name."
                ),
                any_format=False,
            ),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [QgsProcessingOutputNumber("COUNT", tr("Number of samples"))]

    def gather(self, read: ParameterReader) -> None:
        schema = read.existing_file("SCHEMA", tr("class schema"))
        if not schema:
            raise QgsProcessingException(tr("Give a class schema (SCHEMA)."))
        self._classes = outputs.with_colours(read_schema(schema))
        self._take_raster(read.raster_layers("INPUT"))
        self._source = read.source("FEATURES")
        self._field = self._class_field(read.text("CLASS_FIELD"))
        self._output = read.layer_output("OUTPUT")
        if Path(self._output).suffix.lower() != ".gpkg":
            # Colours and the form are kept inside the file.
            raise QgsProcessingException(tr("Label layers are GeoPackages; choose an output that ends with .gpkg."))

    def _take_raster(self, layers: Sequence[QgsRasterLayer]) -> None:
        if not layers or not layers[0].isValid():
            raise QgsProcessingException(tr("Give the raster to label (INPUT)."))
        layer = layers[0]
        if not layer.crs().isValid():
            raise QgsProcessingException(
                tr("The raster “{}” has no coordinate system. Set one in the properties of the layer.").format(
                    layer.name()
                )
            )
        self._crs, self._extent, self._raster_name = layer.crs(), layer.extent(), layer.name()
        width, height = layer.width(), layer.height()
        # Web layers have no pixels of their own; their samples count none.
        self._pixel_area = layer.extent().area() / (width * height) if width > 0 and height > 0 else 0.0

    def _class_field(self, asked: str) -> Optional[int]:
        """Return the index of the class field, or None if a single class needs none."""
        if self._source is None:
            return None
        fields = self._source.fields()
        if asked:
            index = fields.lookupField(asked)
            if index < 0:
                known = ", ".join(field.name() for field in fields)
                raise QgsProcessingException(
                    tr("The features have no field “{asked}”. They have: {known}.").format(asked=asked, known=known)
                )
            return index
        names = [field.name().casefold() for field in fields]
        found = next((names.index(name) for name in CLASS_FIELDS if name in names), None)
        if found is None and len(self._classes) > 1:
            raise QgsProcessingException(
                tr("Name the field that holds the class of the features (CLASS_FIELD); the schema has several classes.")
            )
        return found

    def work(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
        path = Path(self._output)
        part = path.with_name(f".{path.stem}.part.gpkg")
        part.unlink(missing_ok=True)
        try:
            count = self._write(str(part), path.stem, context, feedback)
            self._style(str(part))
            for old in (path, outputs.style_file(self._output)):
                old.unlink(missing_ok=True)
            part.replace(path)
        except OSError as error:
            raise QgsProcessingException(
                tr("{path} cannot be written: {error}").format(path=path, error=error.strerror or error)
            ) from error
        finally:
            for left in path.parent.glob(part.name + "*"):
                left.unlink(missing_ok=True)
        feedback.pushInfo(tr("{} samples.").format(count))
        return {"OUTPUT": self._output, "COUNT": count}

    def _write(self, path: str, name: str, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> int:
        fields = QgsFields()
        for field, kind in FIELDS:
            fields.append(make_field(field, kind, 254 if kind == TEXT else 0))
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", name
        writer = QgsVectorFileWriter.create(
            path, fields, QgsWkbTypes.Type.MultiPolygon, self._crs, context.transformContext(), options
        )
        if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
            raise QgsProcessingException(
                tr("{path} cannot be written: {error}").format(path=self._output, error=writer.errorMessage())
            )
        count = 0
        samples = self._samples(self._source, context, feedback) if self._source is not None else ()
        for one, geometry in samples:
            if feedback.isCanceled():
                raise QgsProcessingException(tr("Cancelled."))
            feature = QgsFeature(fields)
            feature.setGeometry(geometry)
            red, green, blue = one.color or (0, 0, 0)
            pixels = round(geometry.area() / self._pixel_area) if self._pixel_area else 0
            feature.setAttributes([one.name, one.value, red, green, blue, pixels])
            writer.addFeature(feature, QgsFeatureSink.Flag.FastInsert)
            count += 1
        del writer
        return count

    def _samples(
        self, source: QgsFeatureSource, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Iterator[Tuple[ClassInfo, QgsGeometry]]:
        """Yield class and geometry in the raster's CRS of the features that lie on the raster.

        Raises:
            QgsProcessingException: there are features, but none can be used.
        """
        by_value = {one.value: one for one in self._classes}
        by_name = {one.name.casefold(): one for one in self._classes}
        transform = QgsCoordinateTransform(source.sourceCrs(), self._crs, context.transformContext())
        unknown: Counter = Counter()
        outside = unusable = used = 0
        total = max(1, source.featureCount())
        for number, feature in enumerate(source.getFeatures(QgsFeatureRequest())):
            feedback.setProgress(100.0 * number / total)
            one = self._class_of(feature, by_value, by_name)
            if one is None:
                unknown[str(feature.attribute(self._field))] += 1
                continue
            geometry = self._placed(feature.geometry(), transform)
            if geometry is None:
                unusable += 1
            elif not geometry.boundingBoxIntersects(self._extent):
                outside += 1
            else:
                used += 1
                yield one, geometry
        self._tell(used, unknown, outside, unusable, feedback)

    def _class_of(
        self, feature: QgsFeature, by_value: Dict[int, ClassInfo], by_name: Dict[str, ClassInfo]
    ) -> Optional[ClassInfo]:
        if self._field is None:
            return self._classes[0]
        value = feature.attribute(self._field)
        if is_null(value):
            return None
        found = by_name.get(str(value).strip().casefold())
        if found is not None:
            return found
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return by_value.get(int(number)) if number == int(number) else None

    def _placed(self, geometry: QgsGeometry, transform: QgsCoordinateTransform) -> Optional[QgsGeometry]:
        if geometry.isNull() or geometry.isEmpty():
            return None
        placed = QgsGeometry(geometry)
        try:
            placed.transform(transform)
        except QgsCsException:
            return None
        placed.convertToMultiType()
        return placed

    def _tell(self, used: int, unknown: Counter, outside: int, unusable: int, feedback: QgsProcessingFeedback) -> None:
        """Say what was left out, and fail if nothing was used."""
        told: List[str] = []
        if unknown:
            names = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(10))
            told.append(tr("The schema does not know these classes: {}.").format(names))
        if outside:
            told.append(
                tr("{count} features lie outside the raster “{name}”.").format(count=outside, name=self._raster_name)
            )
        if unusable:
            told.append(tr("{} features have no geometry that can be placed on the raster.").format(unusable))
        if not used:
            raise QgsProcessingException(" ".join([tr("No feature could be taken over."), *told]))
        for sentence in told:
            feedback.pushWarning(sentence)

    def _style(self, path: str) -> None:
        """Store colours and form inside the GeoPackage, so that they go where it goes."""
        layer = QgsVectorLayer(path, "labels", "ogr")
        colours = {one.value: one.color for one in self._classes if one.color is not None}
        layer.setRenderer(
            outputs.class_renderer(layer, CLASS_FIELD, colours, {one.value: one.name for one in self._classes})
        )
        for name, expression in self._defaults().items():
            layer.setDefaultValueDefinition(layer.fields().lookupField(name), QgsDefaultValue(expression, True))
        layer.setEditorWidgetSetup(layer.fields().lookupField(CLASS_FIELD), outputs.value_map(self._classes))
        layer.saveStyleToDatabase(tr("Classes"), "", True, "")

    def _defaults(self) -> Dict[str, str]:
        """Return expressions that fill the other fields when a sample is drawn or its class changed by hand."""

        def of_class(member: Callable[[ClassInfo], object]) -> str:
            cases = [
                f'WHEN "{CLASS_FIELD}" = {one.value} THEN {QgsExpression.quotedValue(member(one))}'
                for one in self._classes
            ]
            return f"CASE {' '.join(cases)} END"

        defaults = {"Classname": of_class(lambda one: one.name)}
        for position, name in enumerate(("RED", "GREEN", "BLUE")):
            defaults[name] = of_class(lambda one, at=position: (one.color or (0, 0, 0))[at])
        if self._pixel_area:
            defaults["Count"] = f"round(area($geometry) / {self._pixel_area!r})"
        return defaults
