"""Give every pixel a class with a trained network."""

from __future__ import annotations

from typing import List

from qgis.core import QgsProcessingParameterDefinition

from ..engine import jobs
from . import parameters
from .base import INFERENCE, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class ClassifyPixels(EngineAlgorithm):
    """deepraster:classifypixels."""

    ID = "classifypixels"
    GROUP = INFERENCE
    TAGS = ("segmentation", "land cover", "inference", "Classify Pixels Using Deep Learning")

    def title(self) -> str:
        return tr("Classify pixels")

    def summary(self) -> str:
        return tr(
            "Runs a trained network over a raster and writes a class raster with colours and names (or the values "
            "of a regression or super-resolution network)."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            *parameters.input_rasters(),
            *parameters.inference_model(),
            *parameters.run_options(),
            parameters.new_raster(
                "OUTPUT",
                tr("Classified raster"),
                tr(
                    "A GeoTIFF with the class values. With ITEMS_SEPARATELY this and the other outputs are folders, "
                    "named without the ending, that receive one file per raster under the raster's name."
                ),
            ),
            parameters.new_raster(
                "CONFIDENCE", tr("Confidence"), tr("The probability of the class chosen, per pixel."), extra=True
            ),
            parameters.new_raster(
                "PROBABILITIES", tr("Probabilities"), tr("One band per class with its probability."), extra=True
            ),
            parameters.new_vector(
                "POLYGONS", tr("Class polygons"), tr("The classified areas as polygons."), extra=True
            ),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        options = read.run_options()
        separately = options.processing_mode == jobs.ITEMS_SEPARATELY
        output = read.folder_beside if separately else read.layer_output
        return jobs.ClassifyPixels(
            inputs=read.rasters("INPUT", "COLLECTION"),
            model=read.existing_file("MODEL", tr("model")),
            output=output("OUTPUT"),
            options=options,
            confidence_output=output("CONFIDENCE"),
            probabilities_output=output("PROBABILITIES"),
            polygons_output=output("POLYGONS"),
        )
