"""Find what changed between two dates with a trained network."""

from __future__ import annotations

from typing import List

from qgis.core import QgsProcessingException, QgsProcessingParameterDefinition

from ..engine import jobs
from . import parameters
from .base import INFERENCE, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class DetectChange(EngineAlgorithm):
    """deepraster:detectchange."""

    ID = "detectchange"
    GROUP = INFERENCE
    TAGS = ("change", "two dates", "inference", "Detect Change Using Deep Learning")

    def title(self) -> str:
        return tr("Detect change")

    def summary(self) -> str:
        return tr("Compares two rasters of the same place with a trained network and writes what changed.")

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            parameters.raster("FROM", tr("From raster"), tr("The raster of the earlier date.")),
            parameters.raster("TO", tr("To raster"), tr("The raster of the later date, with the same bands.")),
            *parameters.inference_model(),
            *parameters.run_options(mode=False),
            parameters.new_raster(
                "OUTPUT", tr("Change raster"), tr("A GeoTIFF: 0 where nothing changed, else the class of the change.")
            ),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        earlier, later = read.raster("FROM"), read.raster("TO")
        if earlier is None or later is None:
            raise QgsProcessingException(tr("Give both rasters (FROM and TO)."))
        return jobs.DetectChange(
            from_raster=earlier,
            to_raster=later,
            model=read.existing_file("MODEL", tr("model")),
            output=read.layer_output("OUTPUT"),
            options=read.run_options(),
        )
