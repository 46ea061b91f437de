"""What a training does, settled before it starts: from the job's parameters to values without open questions."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping

from ..errors import JobError
from ..jobs import TrainModel
from ..models.networks import classification, detection, options, segmentation
from ..models.networks.options import Option

STAGE = "checking the training"
DETECTION, INSTANCE, SEGMENTATION, CLASSIFICATION = "detection", "instance", "segmentation", "classification"

BOX_FORMATS = ("PASCAL_VOC_rectangles", "KITTI_rectangles", "RCNN_Masks", "COCO", "YOLO", "YOLO_segmentation")
MASK_FORMATS = ("RCNN_Masks", "COCO", "YOLO_segmentation")
# task -> formats of chips it can learn from
FORMATS: dict[str, tuple[str, ...]] = {
    DETECTION: (*BOX_FORMATS, "Panoptic_Segmentation"),
    INSTANCE: (*MASK_FORMATS, "Panoptic_Segmentation"),
    SEGMENTATION: ("Classified_Tiles", "Panoptic_Segmentation"),
    CLASSIFICATION: ("Labeled_Tiles", "Imagenet"),
}

# What people write, without case and signs -> (task, architecture)
MODEL_TYPES: dict[str, tuple[str, str]] = {
    "FCOS": (DETECTION, "fcos"),
    "RETINANET": (DETECTION, "retinanet"),
    "FASTERRCNN": (DETECTION, "fasterrcnn"),
    "MASKRCNN": (INSTANCE, "maskrcnn"),
    **{name.upper(): (SEGMENTATION, name) for name in segmentation.ARCHITECTURES},
    "UNETCLASSIFIER": (SEGMENTATION, "unet"),
    "PSPNETCLASSIFIER": (SEGMENTATION, "pspnet"),
    "FEATURECLASSIFIER": (CLASSIFICATION, "classifier"),
    "CLASSIFIER": (CLASSIFICATION, "classifier"),
}
_BY_FORMAT = {
    "RCNN_Masks": "MASKRCNN",
    "Classified_Tiles": "UNET",
    "Panoptic_Segmentation": "UNET",
    "Labeled_Tiles": "FEATURECLASSIFIER",
    "Imagenet": "FEATURECLASSIFIER",
}
_DEFAULT_BACKBONE = {DETECTION: "slim", INSTANCE: "resnet18", SEGMENTATION: "resnet18", CLASSIFICATION: "resnet18"}
_DEFAULT_BATCH = {DETECTION: 8, INSTANCE: 2, SEGMENTATION: 8, CLASSIFICATION: 32}
_DEFAULT_RATE = {DETECTION: 2e-3, INSTANCE: 5e-4, SEGMENTATION: 1e-3, CLASSIFICATION: 1e-3}
# Weights that have learnt something already are spoilt by the rate that random ones need.
_RATE_OF_PRETRAINED = 0.25

MONITORS: dict[str, tuple[str, ...]] = {
    DETECTION: ("average_precision", "valid_loss"),
    INSTANCE: ("average_precision", "valid_loss"),
    SEGMENTATION: ("miou", "accuracy", "f1_score", "valid_loss"),
    CLASSIFICATION: ("accuracy", "f1_score", "valid_loss"),
}
_PRECISIONS = ("auto", "float32", "bfloat16")
_COMMON = (
    Option("precision", "choice", "auto", "numbers of the forward pass; automatic: the fastest", choices=_PRECISIONS),
    Option("weight_decay", "float", 0.05, "pull of the weights towards zero", 0, 1),
    Option("ema", "float", 0.995, "share kept by the running average of the weights; 0: no average", 0, 0.9999),
    Option("samples_per_chip", "int", 0, "random crops of each chip in an epoch; 0: as many as cover it", 0, 10_000),
    Option("warm_up", "float", 0.15, "share of the training in which the learning rate rises", 0.01, 0.9),
    Option("clip_norm", "float", 5.0, "longest step that the gradients may ask for", 0.01, 1e6),
)
_OF_TASK: dict[str, tuple[Option, ...]] = {
    DETECTION: (),
    INSTANCE: (),
    SEGMENTATION: (
        Option("class_balancing", "bool", False, "rare classes count more in the loss"),
        Option("focal_loss", "bool", False, "easy pixels count less in the loss"),
        Option("dice_loss_fraction", "float", 0.0, "share of the Dice loss", 0, 1),
        Option("ignore_classes", "numbers", None, "class values that are treated as unlabelled", -(2**31), 2**31),
    ),
    CLASSIFICATION: (
        Option("class_balancing", "bool", False, "rare classes count more in the loss"),
        Option("label_smoothing", "float", 0.05, "doubt about the labels", 0, 0.5),
    ),
}


@dataclass(frozen=True)
class Settings:
    """A training, settled.

    Attributes:
        task: detection, instance, segmentation or classification.
        architecture: name of the network in :mod:`..models.networks`.
        backbone: its trunk.
        epochs, batch, chip_size: ``chip_size`` in pixels, square.
        rate: highest learning rate.
        validation: share of chips held back, 0..1.
        patience: epochs without progress that end the training; 0 for never.
        freeze: whether the backbone keeps its weights.
        augmentation: as in the job.
        seed: of everything random.
        network: options of the architecture.
        options: options of the training.
        monitor: the figure that decides which epoch is the best.
    """

    task: str
    architecture: str
    backbone: str
    epochs: int
    batch: int
    chip_size: int
    rate: float
    validation: float
    patience: int
    freeze: bool
    augmentation: str
    seed: int
    monitor: str
    network: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> bool:
        """Whether the monitored figure should grow."""
        return self.monitor != "valid_loss"

    def to_members(self) -> dict[str, Any]:
        """Return everything as JSON-ready members."""
        return {**asdict(self), "network": dict(self.network), "options": dict(self.options)}


def network_options(task: str, architecture: str) -> tuple[Option, ...]:
    """Return the options of an architecture."""
    tables: dict[str, Mapping[str, tuple[Option, ...]]] = {
        DETECTION: detection.OPTIONS,
        INSTANCE: detection.OPTIONS,
        SEGMENTATION: segmentation.OPTIONS,
        CLASSIFICATION: classification.OPTIONS,
    }
    return tables[task][architecture]


def training_options(task: str) -> tuple[Option, ...]:
    """Return the options of the training itself."""
    monitor = Option(
        "monitor", "choice", MONITORS[task][0], "figure that decides about the best epoch", choices=MONITORS[task]
    )
    return (*_COMMON, monitor, *_OF_TASK[task])


def model_type(name: str, chip_format: str) -> tuple[str, str]:
    """Return (task, architecture) of a model type; an empty name takes the usual one for the chips' format.

    Raises:
        JobError: the name is unknown, or such a network cannot learn from such chips.
    """
    word = "".join(letter for letter in name.upper() if letter.isalnum()) or _BY_FORMAT.get(chip_format, "FCOS")
    if word not in MODEL_TYPES:
        raise JobError(
            f"There is no model type '{name}'.",
            stage=STAGE,
            hint=f"Known are: {', '.join(sorted(MODEL_TYPES))}.",
        )
    task, architecture = MODEL_TYPES[word]
    if chip_format not in FORMATS[task]:
        raise JobError(
            f"A {word} cannot learn from chips of the format {chip_format}.",
            stage=STAGE,
            hint=f"Export the training data again as {' or '.join(FORMATS[task][:2])}, or choose another model type.",
        )
    return task, architecture


def settle(job: TrainModel, chip_format: str, chip_side: int) -> Settings:
    """Decide everything that the job leaves open.

    Args:
        job: as asked for.
        chip_format: metadata format of the chips.
        chip_side: smaller side of the chips in pixels.

    Raises:
        JobError: a parameter is unknown, impossible or contradicts another.
    """
    task, architecture = model_type(job.model_type, chip_format)
    _check_numbers(job, chip_side)
    own = network_options(task, architecture)
    names = {option.name for option in own}
    arguments = {name.strip().lower(): value for name, value in job.arguments.items()}
    # chip_size is a parameter of the job; ArcGIS scripts give it as an argument.
    chip_size = _chip_size(job, arguments.pop("chip_size", ""), chip_side)
    known = {option.name: option for option in (*own, *training_options(task))}
    values = options.from_arguments(tuple(known.values()), arguments)
    warm = bool(job.backbone_weights or job.pretrained_model)
    if job.freeze and not warm:
        raise JobError(
            "FREEZE keeps the backbone as it is, but it has random weights and could not learn anything.",
            stage=STAGE,
            hint="Give BACKBONE_WEIGHTS or PRETRAINED_MODEL, or switch FREEZE off.",
        )
    rate = job.learning_rate or _DEFAULT_RATE[task] * (_RATE_OF_PRETRAINED if warm else 1.0)
    return Settings(
        task=task,
        architecture=architecture,
        backbone=(job.backbone or _DEFAULT_BACKBONE[task]).strip().lower(),
        epochs=job.epochs,
        batch=job.batch_size or _DEFAULT_BATCH[task],
        chip_size=chip_size,
        rate=rate,
        validation=job.validation,
        patience=job.early_stopping,
        freeze=job.freeze,
        augmentation=job.augmentation,
        seed=job.seed,
        monitor=values["monitor"],
        network={name: value for name, value in values.items() if name in names},
        options={name: value for name, value in values.items() if name not in names},
    )


def _chip_size(job: TrainModel, argument: str, chip_side: int) -> int:
    if argument and not job.chip_size:
        try:
            wanted = int(argument)
        except ValueError as error:
            raise JobError(f"The argument 'chip_size' is '{argument}', no whole number.", stage=STAGE) from error
    else:
        wanted = job.chip_size
    if wanted < 0 or 0 < wanted < 32:
        raise JobError(f"CHIP_SIZE is {wanted}, but at least 32 pixels are needed (0: the chips' own).", stage=STAGE)
    if wanted > chip_side:
        raise JobError(
            f"CHIP_SIZE is {wanted}, but the chips have {chip_side} pixels only.",
            stage=STAGE,
            hint="Choose at most the size of the chips, or export larger ones.",
        )
    side = wanted or chip_side
    # Networks halve the image five times.
    return side if side % 32 == 0 else max(32, math.ceil(side / 32) * 32)


def _check_numbers(job: TrainModel, chip_side: int) -> None:
    rules = (
        ("EPOCHS", job.epochs, 1 <= job.epochs <= 100_000, "at least 1"),
        ("BATCH_SIZE", job.batch_size, 0 <= job.batch_size <= 4096, "0 (automatic) to 4096"),
        ("LEARNING_RATE", job.learning_rate, 0 <= job.learning_rate <= 10, "0 (automatic) to 10"),
        ("VALIDATION", job.validation, 0 <= job.validation < 0.9, "a share from 0 to 0.9"),
        ("EARLY_STOPPING", job.early_stopping, job.early_stopping >= 0, "0 (never) or a number of epochs"),
        ("SEED", job.seed, 0 <= job.seed < 2**31, "0 to 2147483647"),
    )
    for name, value, good, expected in rules:
        if not good:
            raise JobError(f"{name} is {value}, but {expected} is expected.", stage=STAGE)
    if chip_side < 16:
        raise JobError(f"The chips have only {chip_side} pixels; at least 16 are needed.", stage=STAGE)
