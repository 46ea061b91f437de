"""Find objects with a trained network."""

from __future__ import annotations

from typing import Any, Dict, List

from qgis.core import (
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


class DetectObjects(EngineAlgorithm):
    """deepraster:detectobjects."""

    ID = "detectobjects"
    GROUP = INFERENCE
    TAGS = ("detection", "instance segmentation", "boxes", "inference", "Detect Objects Using Deep Learning")

    def title(self) -> str:
        return tr("Detect objects")

    def summary(self) -> str:
        return tr(
            "Runs a trained network over a raster and writes the objects it finds as polygons with class and "
            "confidence."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            *parameters.input_rasters(),
            *parameters.inference_model(),
            parameters.boolean(
                "RUN_NMS",
                tr("Remove duplicates"),
                tr(
                    "Of objects that overlap (also where tiles meet), keep only the most confident one "
                    "(non-maximum suppression)."
                ),
                default=True,
            ),
            parameters.real(
                "MAX_OVERLAP",
                tr("Largest overlap"),
                tr("Part of their common area that two objects may share (intersection over union, 0 to 1)."),
                0.1,
                maximum=1.0,
            ),
            parameters.advanced(
                parameters.new_field(
                    "CONFIDENCE_FIELD",
                    tr("Confidence field"),
                    tr("Name of the field that receives the confidence."),
                    "Confidence",
                )
            ),
            parameters.advanced(
                parameters.new_field(
                    "CLASS_FIELD", tr("Class field"), tr("Name of the field that receives the class name."), "Class"
                )
            ),
            *parameters.run_options(),
            parameters.new_vector("OUTPUT", tr("Detected objects"), tr("One polygon per object.")),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [QgsProcessingOutputNumber("COUNT", tr("Number of objects"))]

    def job(self, read: ParameterReader) -> jobs.Job:
        return jobs.DetectObjects(
            inputs=read.rasters("INPUT", "COLLECTION"),
            model=read.existing_file("MODEL", tr("model")),
            output=read.layer_output("OUTPUT"),
            options=read.run_options(),
            run_nms=read.flag("RUN_NMS"),
            max_overlap=read.number("MAX_OVERLAP"),
            confidence_field=read.text("CONFIDENCE_FIELD") or "Confidence",
            class_field=read.text("CLASS_FIELD") or "Class",
        )

    def finish(self, results: Dict[str, Any], feedback: QgsProcessingFeedback) -> None:
        outputs.write_class_style(results["OUTPUT"], self._job.class_field, outputs.class_colours(self._job.model))
