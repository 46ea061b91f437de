"""Give every feature a class with a trained network."""

from __future__ import annotations

from typing import Any, Dict, List

from qgis.core import (
    QgsProcessing,
    QgsProcessingFeedback,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
)

from ..engine import jobs
from . import outputs, parameters
from .base import INFERENCE, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class ClassifyObjects(EngineAlgorithm):
    """deepraster:classifyobjects."""

    ID = "classifyobjects"
    GROUP = INFERENCE
    TAGS = ("image classification", "damage", "inference", "Classify Objects Using Deep Learning")

    def title(self) -> str:
        return tr("Classify objects")

    def summary(self) -> str:
        return tr(
            "Shows a trained network the image under each feature and writes the features with the class it "
            "recognises; without features each raster is one object."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        rasters, further = parameters.input_rasters()
        return [
            rasters,
            parameters.features(
                "FEATURES",
                tr("Features"),
                tr("Points, lines or polygons to classify; all or the selected ones."),
                optional=True,
            ),
            *parameters.inference_model(),
            parameters.new_field(
                "LABEL_FIELD", tr("Label field"), tr("Name of the field that receives the class name."), "ClassLabel"
            ),
            further,
            *parameters.run_options(),
            parameters.new_vector(
                "OUTPUT",
                tr("Classified features"),
                tr("The features, their class and its confidence."),
                QgsProcessing.SourceType.TypeVectorAnyGeometry,
            ),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [QgsProcessingOutputNumber("COUNT", tr("Number of features"))]

    def job(self, read: ParameterReader) -> jobs.Job:
        return jobs.ClassifyObjects(
            inputs=read.rasters("INPUT", "COLLECTION"),
            model=read.existing_file("MODEL", tr("model")),
            output=read.layer_output("OUTPUT"),
            features=read.vector("FEATURES"),
            label_field=read.text("LABEL_FIELD") or "ClassLabel",
            options=read.run_options(),
        )

    def finish(self, results: Dict[str, Any], feedback: QgsProcessingFeedback) -> None:
        outputs.write_class_style(results["OUTPUT"], self._job.label_field, outputs.class_colours(self._job.model))
