"""Pack a model definition and its files."""

from __future__ import annotations

from typing import List

from qgis.core import QgsProcessingException, QgsProcessingParameterDefinition

from ..engine import jobs
from . import parameters
from .base import PACKAGES, EngineAlgorithm
from .reader import ParameterReader
from .text import tr


class CreatePackage(EngineAlgorithm):
    """deepraster:createpackage."""

    ID = "createpackage"
    GROUP = PACKAGES
    TAGS = ("model", "zip", "ONNX", "definition")

    def title(self) -> str:
        return tr("Create model package")

    def summary(self) -> str:
        return tr("Packs a model definition and its files into one deep learning package (.dlpk).")

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        return [
            parameters.file(
                "DEFINITION",
                tr("Model definition"),
                tr(
                    "The definition (.emd); or a bare network (ONNX, TorchScript, torch.export, Keras, TensorFlow "
                    "graph), from which a definition is proposed."
                ),
                file_filter=tr("Definitions and networks")
                + " (*.emd *.json *.onnx *.pt *.pt2 *.ts *.torchscript *.keras *.h5 *.pb)",
            ),
            parameters.string(
                "FILES",
                tr("Further files"),
                tr("Files to pack besides those the definition names, with semicolons between."),
            ),
            parameters.advanced(
                parameters.string(
                    "ANSWERS",
                    tr("What the network does not tell"),
                    tr(
                        "For a bare network: name=value;name=value or JSON with members of the definition, for example "
                        "ModelType=ObjectDetection;Classes=tree,house."
                    ),
                )
            ),
            parameters.new_file(
                "OUTPUT", tr("Package"), tr("The package to write."), tr("Deep learning packages (*.dlpk)")
            ),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        definition = read.existing_file("DEFINITION", tr("definition"))
        if not definition:
            raise QgsProcessingException(tr("Give a model definition (DEFINITION)."))
        return jobs.CreatePackage(
            definition=definition,
            output=read.file_output("OUTPUT"),
            files=read.paths("FILES"),
            answers=read.arguments("ANSWERS"),
        )
