"""Bare network files as the three kinds of model that the engine knows, by the roles of their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from ..errors import DefinitionError, ModelError
from .arguments import Arguments
from .base import Detections, TilePlan
from .box_masks import box_mask_rings
from .boxes import Candidates, activate, decode
from .masks import Rings, bilinear_weights, mask_rings, prototype_rings
from .network import Array, Feeder, Network, number_argument, plan_tiles
from .normalisation import Normalisation
from .receptive import Reach
from .roles import BANDS, DETECTION_KINDS, IMAGE_SCORES, PIXEL_CLASSES, NetworkRoles

if TYPE_CHECKING:
    from ..package.emd import ModelDefinition

RoleModel = Union["RoleDetector", "RolePixelClassifier", "RoleObjectClassifier"]


def build(
    network: Network,
    roles: NetworkRoles,
    definition: ModelDefinition,
    arguments: Mapping[str, str],
    device: str,
    normalisation: Optional[Normalisation] = None,
) -> RoleModel:
    """Return the model that a loaded network file is.

    Raises:
        DefinitionError: definition and network contradict each other.
        ModelError: the network's channels do not fit the classes.
    """
    normalisation = normalisation or Normalisation.from_definition(definition)
    image = Feeder(network, roles, normalisation, 1).image
    plan = plan_tiles(definition, roles, image, arguments, device)
    feeder = Feeder(network, roles, normalisation, plan.batch)
    bands = len(definition.extract_bands or ())
    _check_bands(image.shape if roles.input.batched else (None, *image.shape), roles, bands)
    if roles.output.kind in DETECTION_KINDS:
        return RoleDetector(feeder, plan, definition, arguments)
    if roles.output.kind == IMAGE_SCORES:
        return RoleObjectClassifier(feeder, plan, definition)
    return RolePixelClassifier(feeder, plan, definition, arguments)


class RoleDetector:
    """A network that finds objects, with boxes or masks."""

    def __init__(
        self, feeder: Feeder, plan: TilePlan, definition: ModelDefinition, arguments: Mapping[str, str]
    ) -> None:
        self.plan, self._feeder, self._role = plan, feeder, feeder.roles.output
        self._classes = len(definition.classes)
        if not self._classes:
            raise DefinitionError("The model definition lists no classes.", stage="loading the model")
        asked = number_argument(arguments, "threshold", "score_threshold")
        stated = self._role.threshold if definition.threshold is None else definition.threshold
        self._threshold = asked if asked is not None else 0.5 if stated is None else float(stated)
        self._boxes_only = Arguments(arguments).flag("return_bboxes", False)
        overlap = number_argument(arguments, "nms_overlap")
        self._overlap = self._role.overlap if overlap is None else overlap

    def detect(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> List[Detections]:
        """Return the objects of each image of the batch."""
        height, width = pixels.shape[2:]
        result: List[Detections] = []
        for count, outputs in self._feeder(pixels, valid):
            found = decode(
                self._role,
                outputs,
                images=count,
                width=width,
                height=height,
                classes=self._classes,
                threshold=self._threshold,
                overlap=self._overlap,
            )
            result += [self._finish(outputs, index, image, width, height) for index, image in enumerate(found)]
        return result

    def _finish(
        self, outputs: Mapping[str, Array], index: int, found: Candidates, width: int, height: int
    ) -> Detections:
        """Add polygons to the boxes of one image; objects whose mask is empty are no objects."""
        rings: List[Optional[Rings]]
        if self._boxes_only:
            return Detections(found.boxes, found.scores, found.labels)
        if found.rings is not None:
            closed = np.concatenate([found.rings, found.rings[:, :1]], axis=1)
            return Detections(found.boxes, found.scores, found.labels, [[ring] for ring in closed])
        if "Prototypes" in outputs:
            coefficients = self._coefficients(outputs["Main"][index])[found.rows]
            prototypes = outputs["Prototypes"][index].astype(np.float32, copy=False)
            rings = prototype_rings(found.boxes, coefficients, prototypes, width, height)
        elif "BoxMasks" in outputs:
            rings = box_mask_rings(outputs["BoxMasks"][index][found.rows], found.boxes, width, height)
        elif "Masks" in outputs:
            masks = outputs["Masks"]
            own = masks if len(masks.shape) == 4 and masks.shape[1] == 1 else masks[index]
            planes = own.reshape(-1, *own.shape[-2:])[found.rows]
            rings = [mask_rings(plane >= 0.5) for plane in planes]
        else:
            return Detections(found.boxes, found.scores, found.labels)
        keep = np.array([ring is not None for ring in rings], dtype=bool)
        kept = found.take(keep)
        return Detections(kept.boxes, kept.scores, kept.labels, [ring for ring in rings if ring is not None])

    def _coefficients(self, rows: Array) -> npt.NDArray[np.float32]:
        table = rows.T if self._role.kind == "Rows" and self._role.orientation == "columns" else rows
        first = len(self._role.columns)
        if self._role.kind == "Rows":
            first = (5 if self._role.objectness else 4) + self._classes
        return table[:, first:].astype(np.float32, copy=False)


class RolePixelClassifier:
    """A network that puts out an image: class scores, class numbers, or values.

    Args:
        feeder: of the loaded network.
        plan: how images are cut.
        definition: of the package.
        arguments: of the model.
        excluded: channels of class scores that must never win.
    """

    def __init__(
        self,
        feeder: Feeder,
        plan: TilePlan,
        definition: ModelDefinition,
        arguments: Mapping[str, str],
        excluded: Sequence[int] = (),
    ) -> None:
        self._excluded = list(excluded)
        self.plan, self._feeder, self._role = plan, feeder, feeder.roles.output
        self.values: Optional[Tuple[int, ...]] = None
        self._border = int(definition.model_padding or 0)
        asked = number_argument(arguments, "threshold")
        stated = self._role.threshold if definition.threshold is None else definition.threshold
        self._threshold = asked if asked is not None else 0.5 if stated is None else float(stated)
        if self._role.kind != BANDS:
            if definition.classes and len(self._excluded) >= len(definition.classes):
                raise ModelError(
                    "Every class of the model is excluded, so no pixel could get one.",
                    stage="loading the model",
                    hint="Set predict_background to true.",
                )
            self.values = self._class_values(tuple(entry.value for entry in definition.classes))

    def reach(self, bands: int, limit: int) -> Optional[Reach]:
        """Return how far the network looks; None if it cannot be told up to ``limit`` pixels.

        Args:
            bands: of the input.
            limit: largest halo of interest, in pixels.
        """
        find: Optional[Callable[..., Optional[Reach]]] = getattr(self._feeder.network, "reach", None)
        if find is None or self.plan.scale != 1 or self._border:
            return None
        roles = self._feeder.roles
        return find(self._feeder.image.name, self._feeder.wanted["Main"].name, roles.input.layout, bands, limit)

    def _class_values(self, stated: Tuple[int, ...]) -> Tuple[int, ...]:
        if not stated:
            raise DefinitionError("The model definition lists no classes.", stage="loading the model")
        if self._role.kind == PIXEL_CLASSES:
            by_value = self._role.meaning == "value"
            return (0, *stated) if by_value and 0 not in stated else stated
        shape = self._feeder.wanted["Main"].shape
        channels = None
        if len(shape) == 4:
            channels = shape[3] if self._role.layout == "NHWC" else shape[1]
        elif len(shape) == 3:
            channels = 1
        return channel_values(stated, channels)

    def scores(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, channels, rows * scale, columns * scale): probabilities, or values for regression."""
        parts = [
            self._decode(outputs["Main"], count, pixels.shape[2:]) for count, outputs in self._feeder(pixels, valid)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _decode(self, output: Array, count: int, size: Tuple[int, ...]) -> npt.NDArray[np.float32]:
        planes = self._planes(output, count)
        if self._role.kind == PIXEL_CLASSES:
            return self._fit(self._one_hot(planes), size, smooth=False)
        planes = self._fit(planes.astype(np.float32, copy=False), size, smooth=True)
        if self.values is None:
            return planes * np.float32(self._role.factor) if self._role.factor != 1 else planes
        if planes.shape[1] == 1 and len(self.values) == 2 and self._role.activation != "softmax":
            chance = tilt(activate(planes, self._role.activation, 1), self._threshold)
            return np.concatenate([1 - chance, chance], axis=1)
        if planes.shape[1] != len(self.values):
            raise ModelError(
                f"The network gives {planes.shape[1]} channels, but the definition has {len(self.values)} classes.",
                stage="predicting",
                hint="Correct Classes in the model definition.",
            )
        if self._excluded:
            planes[:, self._excluded] = -np.inf
        return activate(planes, self._role.activation, 1)

    def _planes(self, output: Array, count: int) -> Array:
        """Return the output as (N, channels, rows, columns)."""
        if not self._feeder.roles.input.batched or (output.ndim == 2 and count == 1):
            output = output[np.newaxis]
        if output.ndim == 4 and self._role.layout == "NHWC":
            output = output.transpose(0, 3, 1, 2)
        elif output.ndim == 3:
            output = output[:, np.newaxis]
        if output.ndim != 4 or len(output) != count:
            raise ModelError(
                f"The network gave {' x '.join(map(str, output.shape))} numbers for {count} images where an image of "
                "results was expected.",
                stage="predicting",
                hint="Correct Kind and Tensors of Output in the model definition.",
            )
        return output

    def _one_hot(self, planes: Array) -> npt.NDArray[np.float32]:
        numbers = np.rint(planes[:, 0]) if planes.dtype.kind == "f" else planes[:, 0]
        values = self.values or ()
        keys = values if self._role.meaning == "value" else tuple(range(len(values)))
        result = np.empty((len(numbers), len(keys), *numbers.shape[1:]), np.float32)
        for channel, key in enumerate(keys):
            result[:, channel] = numbers == key
        known = result.any(axis=1)
        if not known.all():
            raise ModelError(
                f"The network gave class number {int(numbers[~known][0])}, which the definition does not list.",
                stage="predicting",
                hint="Add the class to Classes of the model definition.",
            )
        return result

    def _fit(self, planes: npt.NDArray[np.float32], size: Tuple[int, ...], smooth: bool) -> npt.NDArray[np.float32]:
        """Bring an output that is smaller than the image to its size: a border eaten by the network, or strides."""
        wanted = tuple(side * self.plan.scale for side in size)
        found = planes.shape[2:]
        if found == wanted:
            return planes
        border = self._border * self.plan.scale
        if border and all(own + 2 * border == asked for own, asked in zip(found, wanted)):
            return np.pad(planes, ((0, 0), (0, 0), (border, border), (border, border)), mode="edge")
        if all(asked % own == 0 for own, asked in zip(found, wanted)) and smooth:
            down, across = (bilinear_weights(own, asked, 0, asked) for own, asked in zip(found, wanted))
            return np.asarray(down @ planes @ across.T, dtype=np.float32)
        if all(asked % own == 0 for own, asked in zip(found, wanted)):
            return planes.repeat(wanted[0] // found[0], axis=2).repeat(wanted[1] // found[1], axis=3)
        raise ModelError(
            f"The network answered an image of {size[1]} x {size[0]} pixels with {found[1]} x {found[0]}.",
            stage="predicting",
            hint="State Scale of Output (super-resolution) or ModelPadding in the model definition.",
        )


class RoleObjectClassifier:
    """A network that gives every image one class."""

    def __init__(self, feeder: Feeder, plan: TilePlan, definition: ModelDefinition) -> None:
        self.plan, self._feeder, self._role = plan, feeder, feeder.roles.output
        self.blacken = definition.blacken_around_feature
        self.fixed_crop = definition.crop_size_fixed
        self._classes = len(definition.classes)
        shape = feeder.wanted["Main"].shape
        found = shape[1] if len(shape) in (2, 4) else None
        self._check(found if found is not None else self._classes)

    def probabilities(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, classes), in the order of the definition's ``Classes``."""
        return np.concatenate([self._decode(outputs["Main"], count) for count, outputs in self._feeder(pixels, valid)])

    def _decode(self, output: Array, count: int) -> npt.NDArray[np.float32]:
        table = output.reshape(count, -1)
        self._check(table.shape[1])
        chances = activate(table, self._role.activation)
        return np.concatenate([1 - chances, chances], axis=1) if table.shape[1] == 1 else chances

    def _check(self, found: int) -> None:
        if found == self._classes or (found == 1 and self._classes == 2 and self._role.activation != "softmax"):
            return
        raise ModelError(
            f"The network tells {found} classes apart, but the definition lists {self._classes}.",
            stage="loading the model",
            hint="Correct Classes in the model definition.",
        )


def channel_values(stated: Tuple[int, ...], channels: Optional[int]) -> Tuple[int, ...]:
    """Return the class values of a network's channels (one channel stands for "no" and "yes").

    Raises:
        ModelError: the number of channels fits neither the classes nor the classes and a background.
    """
    if len(stated) == 1 and channels in (None, 1) and stated != (0,):
        return (0, *stated)
    if channels != 1 and channels in (None, len(stated)):
        return stated
    if channels == 1 and len(stated) == 2:
        return stated
    if channels == len(stated) + 1 and 0 not in stated:
        return (0, *stated)
    raise ModelError(
        f"The network gives {channels} channels, but the definition lists {len(stated)} classes.",
        stage="loading the model",
        hint="List one class per channel in Classes, in the order of the channels; the background may be left out.",
    )


def tilt(chances: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.float32]:
    """Bend probabilities so that ``threshold`` comes to lie at one half, where "yes" wins over "no"."""
    if threshold == 0.5 or not 0 < threshold < 1:
        return chances
    below = chances * np.float32(0.5 / threshold)
    above = 1 - (1 - chances) * np.float32(0.5 / (1 - threshold))
    return np.where(chances < threshold, below, above).astype(np.float32, copy=False)


def _check_bands(shape: Tuple[Optional[int], ...], roles: NetworkRoles, bands: int) -> None:
    if len(shape) != 4:
        raise DefinitionError(
            f"The network's input has {len(shape)} axes; images need four.",
            stage="loading the model",
            hint="Name the input that takes images in Input of ModelConfiguration.",
        )
    wanted = shape[3] if roles.input.layout == "NHWC" else shape[1]
    if wanted and bands and wanted != bands:
        raise DefinitionError(
            f"The network takes {wanted} bands, but ExtractBands of the definition names {bands}.",
            stage="loading the model",
            hint="List as many bands as the network takes, in the order in which it was trained.",
        )
