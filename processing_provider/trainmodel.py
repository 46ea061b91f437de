"""Train a network on chips."""

from __future__ import annotations

from typing import List

from qgis.core import (
    QgsProcessingException,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputFile,
    QgsProcessingOutputHtml,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
)

from ..engine import jobs
from . import parameters
from .base import TRAINING, EngineAlgorithm
from .reader import ParameterReader
from .text import tr

AUTO = "AUTO"
MODEL_TYPES = (
    AUTO,
    "FCOS",
    "RETINANET",
    "FASTERRCNN",
    "MASKRCNN",
    "UNET",
    "UNETPLUSPLUS",
    "MANET",
    "LINKNET",
    "FPN",
    "PSPNET",
    "DEEPLAB",
    "DEEPLABV3PLUS",
    "UPERNET",
    "SEGFORMER",
    "FEATURE_CLASSIFIER",
)


class TrainModel(EngineAlgorithm):
    """deepraster:trainmodel."""

    ID = "trainmodel"
    GROUP = TRAINING
    TAGS = ("learning", "fine-tune", "transfer learning", "Train Deep Learning Model")

    def title(self) -> str:
        return tr("Train model")

    def summary(self) -> str:
        return tr("Trains a network on exported chips and writes it as a deep learning package (.dlpk) with a report.")

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        rare = parameters.advanced
        return [
            parameters.folder(
                "INPUT", tr("Training data"), tr("Folder of exported chips; several folders with semicolons between.")
            ),
            parameters.choice(
                "MODEL_TYPE",
                tr("Model type"),
                tr(
                    "Family of the network: FCOS, RETINANET and FASTERRCNN find boxes, MASKRCNN outlines, UNET to "
                    "SEGFORMER classify pixels, FEATURE_CLASSIFIER objects. AUTO takes one that suits the labels."
                ),
                MODEL_TYPES,
            ),
            parameters.string(
                "BACKBONE",
                tr("Backbone"),
                tr("Network that sees the image, such as resnet18, resnet34 or resnet50; empty for the family's own."),
            ),
            rare(
                parameters.file(
                    "BACKBONE_WEIGHTS",
                    tr("Weights of the backbone"),
                    tr("File of weights to start from (.safetensors, .pth); empty starts from scratch."),
                    file_filter=tr("Weights") + " (*.safetensors *.pth *.pt)",
                    optional=True,
                )
            ),
            rare(
                parameters.model(
                    tr("Model to go on from"),
                    tr("A package of the same type whose network is trained further."),
                    name="PRETRAINED_MODEL",
                    optional=True,
                )
            ),
            parameters.integer("EPOCHS", tr("Epochs"), tr("How often all chips are shown."), 20, minimum=1),
            parameters.integer(
                "BATCH_SIZE", tr("Batch size"), tr("Chips per step; 0 chooses what fits the memory."), 0
            ),
            parameters.real(
                "LEARNING_RATE",
                tr("Learning rate"),
                tr("Empty or 0 takes one that suits the family."),
                None,
                decimals=9,
            ),
            rare(
                parameters.integer(
                    "CHIP_SIZE", tr("Chip size"), tr("Pixels to crop chips to while training; 0 takes them whole."), 0
                )
            ),
            parameters.real(
                "VALIDATION",
                tr("Part held back"),
                tr("Part of the chips (0 to 1), in spatial blocks, that measures the result and is not trained on."),
                0.1,
                maximum=0.9,
            ),
            rare(
                parameters.string(
                    "AUGMENTATION",
                    tr("Augmentation"),
                    tr(
                        "DEFAULT shows turned, mirrored and brightened chips as well, NONE does not; or single "
                        "strengths such as zoom=1.2;brightness=0.1;turn=0."
                    ),
                    default="DEFAULT",
                )
            ),
            rare(
                parameters.integer(
                    "EARLY_STOPPING",
                    tr("Stop without progress"),
                    tr("Stop after so many epochs without progress; 0 never."),
                    0,
                )
            ),
            rare(parameters.boolean("FREEZE", tr("Freeze the backbone"), tr("Train only what follows the backbone."))),
            rare(
                parameters.string(
                    "ARGUMENTS",
                    tr("Further arguments"),
                    tr("Settings of the model family as name=value;name=value or as JSON."),
                )
            ),
            rare(
                parameters.integer(
                    "SEED", tr("Seed"), tr("The same seed gives the same network on the same computer."), 42
                )
            ),
            rare(parameters.processor()),
            rare(parameters.gpu_id()),
            rare(
                parameters.boolean(
                    "RESUME",
                    tr("Go on where an interrupted run stopped"),
                    tr("Take up the last epoch that an earlier run of the same training has finished."),
                    default=True,
                )
            ),
            parameters.new_folder(
                "OUTPUT", tr("Model folder"), tr("Folder of the package, the report and the state of the training.")
            ),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [
            QgsProcessingOutputFile("MODEL", tr("Package (.dlpk)")),
            QgsProcessingOutputHtml("REPORT", tr("Report")),
            QgsProcessingOutputNumber("BEST_METRIC", tr("Best value of the measure")),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        folders = read.paths("INPUT")
        if not folders:
            raise QgsProcessingException(tr("Give a folder of training data (INPUT)."))
        output = read.file_output("OUTPUT")
        model_type = read.choice("MODEL_TYPE")
        return jobs.TrainModel(
            inputs=folders,
            output=output,
            model_type="" if model_type == AUTO else model_type,
            backbone=read.text("BACKBONE"),
            backbone_weights=read.existing_file("BACKBONE_WEIGHTS", tr("file of weights")),
            pretrained_model=read.existing_file("PRETRAINED_MODEL", tr("model")),
            epochs=read.whole("EPOCHS"),
            batch_size=read.whole("BATCH_SIZE"),
            learning_rate=read.number("LEARNING_RATE"),
            chip_size=read.whole("CHIP_SIZE"),
            validation=read.number("VALIDATION"),
            augmentation=read.text("AUGMENTATION") or "DEFAULT",
            early_stopping=read.whole("EARLY_STOPPING"),
            freeze=read.flag("FREEZE"),
            arguments=read.arguments(),
            seed=read.whole("SEED"),
            processor=read.choice("PROCESSOR"),
            gpu_id=read.whole_numbers("GPU_ID"),
            resume=read.flag("RESUME"),
        )
