"""Models that were trained here: the network is built from its configuration, the weights must fit strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Union

import torch

from ..errors import DefinitionError
from . import networks, weights
from .arguments import Arguments
from .base import TilePlan
from .normalisation import Normalisation
from .own_plan import DEFAULT_SIDE, PIXEL_TASKS, excluded_channels, is_fixed, pixel_plan, task_of
from .receptive import measure_reach
from .torch_models import Found, TorchDetector, TorchObjectClassifier, TorchPixelClassifier, main_output
from .torch_runtime import Runner

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

TorchModel = Union[TorchDetector, TorchPixelClassifier, TorchObjectClassifier]
_STRIDE = 32
_GPU_BATCH = 8
_LIMITS = ("detections_per_img", "topk_candidates")


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchModel:
    """Load a network that this program trained.

    Raises:
        ModelError: the configuration is unknown or the weights do not fit.
        DefinitionError: the definition does not say how many bands or classes there are.
    """
    definition = package.definition
    normalisation = Normalisation.from_definition(definition)
    bands = band_count(definition, normalisation)
    size = (definition.image_height or DEFAULT_SIDE, definition.image_width or DEFAULT_SIDE)
    path = package.file(definition.model_file)
    configuration, task = definition.configuration_members, task_of(definition)
    # A regression may list its output bands as classes, or have a single one and list none.
    classes = len(definition.classes) or int(task == "regression")
    if not classes:
        raise DefinitionError(
            "The model definition lists no classes.", stage="loading the model", hint="Add Classes to the definition."
        )
    network = networks.build(configuration, bands, classes, size)
    weights.fit(network, weights.load_weights(path), path)
    runner = Runner(network, normalisation, device, threads)
    if task != "classification":
        runner.fold(bands, 2 * _STRIDE, "" if task in PIXEL_TASKS else "backbone")
    given = Arguments(arguments)
    if task in PIXEL_TASKS:
        return _pixel_classifier(runner, definition, bands, given, regression=task == "regression")
    if task == "classification":
        return _object_classifier(runner, definition, given)
    return _detector(runner, definition, given)


def band_count(definition: ModelDefinition, normalisation: Normalisation) -> int:
    """Return the number of bands the network takes."""
    count = len(definition.extract_bands) or max(len(normalisation.mean), len(normalisation.minimum))
    if not count and normalisation.method == "imagenet":
        count = 3
    if not count:
        raise DefinitionError(
            "The model definition does not say which bands the network takes.",
            stage="loading the model",
            hint="Add ExtractBands, for example [0, 1, 2].",
        )
    return count


def batch_size(definition: ModelDefinition, given: Arguments, runner: Runner) -> int:
    """Return the images per call: as asked for, as the definition fixes it, or what suits the device."""
    # One thread gains nothing from more images at once, and memory grows with them.
    usual = definition.batch_size or (_GPU_BATCH if runner.on_gpu else 1)
    return given.integer("batch_size", usual, 1)


def _pixel_classifier(
    runner: Runner, definition: ModelDefinition, bands: int, given: Arguments, *, regression: bool
) -> TorchPixelClassifier:
    from .networks import segmentation

    multiple = segmentation.multiple(definition.configuration_members)
    batch = batch_size(definition, given, runner)
    plan = pixel_plan(definition, given, multiple, batch, lambda limit: measured_halo(runner, bands, multiple, limit))
    if regression:
        return TorchPixelClassifier(runner, plan, None)
    values = tuple(one.value for one in definition.classes)
    excluded = excluded_channels(definition, given)
    model = TorchPixelClassifier(runner, plan, values, excluded)
    runner.try_half(model.predict, (1, bands, plan.height, plan.width))
    return model


def measured_halo(runner: Runner, bands: int, multiple: int, limit: int) -> Optional[int]:
    """Return the halo in pixels that makes tiling exact; None if it is above ``limit`` or there is none."""

    def forward(images: torch.Tensor) -> torch.Tensor:
        return main_output(runner.network(images.contiguous(memory_format=torch.channels_last)))

    reach = measure_reach(forward, bands, limit, runner.device, (multiple,))
    return None if reach is None else reach.halo


def _detector(runner: Runner, definition: ModelDefinition, given: Arguments) -> TorchDetector:
    from .networks import detection

    network: Any = runner.network
    width, height = definition.image_width or DEFAULT_SIDE, definition.image_height or DEFAULT_SIDE
    side = given.integer("tile_size", 0)
    if side:
        width = height = side
    # Faster and Mask R-CNN keep these numbers in their second stage.
    stage = getattr(network, "roi_heads", network)
    stage.score_thresh = given.number("threshold", stage.score_thresh, 0, 1)
    stage.nms_thresh = given.number("nms_overlap", stage.nms_thresh, 0, 1)
    limits = {name: int(getattr(stage, name)) for name in _LIMITS if hasattr(stage, name)}
    offset = detection.label_offset(definition.configuration_members)
    area = definition.image_width * definition.image_height or width * height

    def find(images: torch.Tensor) -> Sequence[Found]:
        # The limits on objects are meant for one training image; larger tiles may hold more.
        share = max(1, -(-images.shape[2] * images.shape[3] // area))
        for name, limit in limits.items():
            setattr(stage, name, limit * share)
        return [_plain(found, offset) for found in network(list(images))]

    padding = given.integer("padding", min(width, height) // 4)
    plan = TilePlan(
        width,
        height,
        halo=padding,
        fixed=is_fixed(definition, given),
        multiple=_STRIDE,
        batch=batch_size(definition, given, runner),
    )
    boxes_only = given.flag("return_bboxes", False)
    return TorchDetector(runner, plan, find, classes=len(definition.classes), boxes_only=boxes_only)


def _plain(found: Mapping[str, torch.Tensor], offset: int) -> dict[str, torch.Tensor]:
    """Count labels from 0 and drop the channel that torchvision's masks have."""
    plain = {"boxes": found["boxes"], "scores": found["scores"], "labels": found["labels"] - offset}
    if "masks" in found:
        plain["masks"] = found["masks"][:, 0]
    return plain


def _object_classifier(runner: Runner, definition: ModelDefinition, given: Arguments) -> TorchObjectClassifier:
    plan = TilePlan(
        definition.image_width or DEFAULT_SIDE,
        definition.image_height or DEFAULT_SIDE,
        batch=batch_size(definition, given, runner),
    )
    return TorchObjectClassifier(
        runner,
        plan,
        blacken=definition.blacken_around_feature,
        fixed_crop=definition.crop_size_fixed,
        classes=len(definition.classes),
    )
