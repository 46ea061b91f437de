"""Compare detected objects with reference objects."""

from __future__ import annotations

from typing import List

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
)

from ..engine import jobs
from . import parameters
from .base import EVALUATION, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class ComputeAccuracy(EngineAlgorithm):
    """deepraster:computeaccuracy."""

    ID = "computeaccuracy"
    GROUP = EVALUATION
    TAGS = ("precision", "recall", "mAP", "average precision", "Compute Accuracy For Object Detection")

    def title(self) -> str:
        return tr("Compute accuracy for object detection")

    def summary(self) -> str:
        return tr(
            "Matches detected objects with reference objects and reports precision, recall, F1 and average precision "
            "per class and overall."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            parameters.features(
                "DETECTED", tr("Detected objects"), tr("Polygons that a network found."), geometry=[parameters.POLYGON]
            ),
            parameters.features(
                "REFERENCE",
                tr("Reference objects"),
                tr("Polygons that are known to be right."),
                geometry=[parameters.POLYGON],
            ),
            parameters.field(
                "DETECTED_CLASS_FIELD",
                tr("Class field of detected objects"),
                tr("Empty takes a field Class, Classvalue or Value if there is one."),
                "DETECTED",
            ),
            parameters.field(
                "REFERENCE_CLASS_FIELD",
                tr("Class field of reference objects"),
                tr("Empty takes a field Classname, Classvalue, Class or Value if there is one."),
                "REFERENCE",
            ),
            parameters.advanced(
                parameters.field(
                    "CONFIDENCE_FIELD",
                    tr("Confidence field"),
                    tr("Field of the detected objects with their confidence (any scale)."),
                    "DETECTED",
                    default="Confidence",
                )
            ),
            parameters.real(
                "MIN_IOU",
                tr("Least overlap of a match"),
                tr("A detected object matches a reference object from this intersection over union on (0 to 1)."),
                0.5,
                maximum=1.0,
            ),
            parameters.features(
                "MASK",
                tr("Mask"),
                tr("Only objects inside these polygons count."),
                optional=True,
                geometry=[parameters.POLYGON],
            ),
            parameters.new_vector(
                "OUTPUT",
                tr("Accuracy table"),
                tr("A table with one row per class and one for all."),
                QgsProcessing.SourceType.TypeVector,
                any_format=False,
            ),
            parameters.new_file(
                "REPORT",
                tr("Accuracy report"),
                tr("A page with the figures and the precision–recall curve."),
                tr("HTML files (*.html)"),
            ),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [
            QgsProcessingOutputNumber("PRECISION", tr("Precision")),
            QgsProcessingOutputNumber("RECALL", tr("Recall")),
            QgsProcessingOutputNumber("F1", tr("F1 score")),
            QgsProcessingOutputNumber("AP", tr("Average precision")),
            QgsProcessingOutputNumber("MAP", tr("Mean average precision (IoU 0.5 to 0.95)")),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        detected, reference = read.vector("DETECTED"), read.vector("REFERENCE")
        if detected is None or reference is None:
            raise QgsProcessingException(tr("Give detected and reference objects (DETECTED and REFERENCE)."))
        return jobs.ComputeAccuracy(
            detected=detected,
            reference=reference,
            output=read.layer_output("OUTPUT"),
            report=read.file_output("REPORT"),
            detected_class_field=read.text("DETECTED_CLASS_FIELD"),
            reference_class_field=read.text("REFERENCE_CLASS_FIELD"),
            confidence_field=read.text("CONFIDENCE_FIELD") or "Confidence",
            min_iou=read.number("MIN_IOU"),
            mask=read.vector("MASK"),
        )
