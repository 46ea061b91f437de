"""Show what is inside a package."""

from __future__ import annotations

from typing import List

from qgis.core import QgsProcessingParameterDefinition

from ..engine import jobs
from . import parameters
from .base import PACKAGES, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class PackageInfo(EngineAlgorithm):
    """deepraster:packageinfo."""

    ID = "packageinfo"
    GROUP = PACKAGES
    TAGS = ("model", "card", "classes", "inspect")

    def title(self) -> str:
        return tr("Model package information")

    def summary(self) -> str:
        return tr(
            "Writes the card of a model: type, classes, bands, tile size, arguments, figures, files and what the "
            "checks found. Nothing of the package is run."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            parameters.model(tr("Model"), tr("A deep learning package (.dlpk) or a model definition (.emd).")),
            parameters.new_file("HTML", tr("Card"), tr("The card as a page for people."), tr("HTML files (*.html)")),
            parameters.new_file(
                "JSON", tr("Card as JSON"), tr("The card for scripts."), tr("JSON files (*.json)"), extra=True
            ),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        return jobs.PackageInfo(
            model=read.existing_file("MODEL", tr("model")),
            html=read.file_output("HTML"),
            json=read.file_output("JSON"),
        )
