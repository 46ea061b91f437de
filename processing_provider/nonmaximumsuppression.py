"""Remove duplicates among detected objects."""

from __future__ import annotations

from typing import List

from qgis.core import (
    QgsProcessingException,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
)

from ..engine import jobs
from . import parameters
from .base import INFERENCE, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class NonMaximumSuppression(EngineAlgorithm):
    """deepraster:nonmaximumsuppression."""

    ID = "nonmaximumsuppression"
    GROUP = INFERENCE
    TAGS = ("nms", "duplicates", "overlap", "Non Maximum Suppression")

    def title(self) -> str:
        return tr("Non-maximum suppression")

    def summary(self) -> str:
        return tr("Of polygons that overlap too much, keeps only the most confident one.")

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            parameters.features(
                "INPUT", tr("Detected objects"), tr("Polygons with a confidence."), geometry=[parameters.POLYGON]
            ),
            parameters.field(
                "CONFIDENCE_FIELD",
                tr("Confidence field"),
                tr("Field with the confidence (any scale; larger is better)."),
                "INPUT",
                default="Confidence",
            ),
            parameters.field(
                "CLASS_FIELD",
                tr("Class field"),
                tr("Only objects of the same class compete; empty takes Class, Classvalue or Value if there is one."),
                "INPUT",
            ),
            parameters.real(
                "MAX_OVERLAP",
                tr("Largest overlap"),
                tr("Part of their common area that two objects may share (intersection over union, 0 to 1)."),
                0.0,
                maximum=1.0,
            ),
            parameters.new_vector("OUTPUT", tr("Remaining objects"), tr("The objects that are kept.")),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [QgsProcessingOutputNumber("COUNT", tr("Number of objects kept"))]

    def job(self, read: ParameterReader) -> jobs.Job:
        features = read.vector("INPUT")
        if features is None:
            raise QgsProcessingException(tr("Give the detected objects (INPUT)."))
        return jobs.SuppressNonMaximum(
            features=features,
            output=read.layer_output("OUTPUT"),
            confidence_field=read.text("CONFIDENCE_FIELD") or "Confidence",
            class_field=read.text("CLASS_FIELD"),
            max_overlap=read.number("MAX_OVERLAP"),
        )
