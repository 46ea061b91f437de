"""Adapter for Keras / MaskRCNN: Matterport's weights in our own network, settings read from the package's module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Tuple, Union

import numpy as np
import numpy.typing as npt

from ..errors import DefinitionError, ModelError, PackageError
from .base import Detections, TilePlan
from .keras_files import read_layers
from .keras_mask_rcnn_config import MaskRcnnConfig, read_constants
from .keras_mask_rcnn_network import MaskRcnnNetwork, count_classes, to_fractions
from .keras_resize import Placement, place, plan_multiple, plan_square, scale_images
from .masks import Rings, mask_rings
from .network import Array, integer_argument, number_argument
from .normalisation import Normalisation
from .tensorflow_function import prepare_tensorflow

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

MaskRcnnModel = Union["MaskRcnnDetector", "MaskRcnnPixelClassifier"]
_STEP = 64  # the pyramid halves the image six times


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> MaskRcnnModel:
    """Load a Mask R-CNN whose weights were saved by Matterport's implementation.

    Settings come from the module that ``Config`` of ``ModelConfiguration`` names, which is read but not run; members of
    ``ModelConfiguration`` in capitals (``"BACKBONE": "resnet50"``) count before it.

    Args:
        package: an opened package.
        device: "cpu" or "cuda:0".
        threads: native threads for one operation.
        arguments: ``padding``, ``score_threshold``.

    Raises:
        ModelError: weights or settings are broken, or do not fit each other or the definition.
    """
    definition = package.definition
    prepare_tensorflow(device, threads)
    config = MaskRcnnConfig.from_values(_settings(package))
    path = package.file(definition.model_file)
    layers = read_layers(path)
    _check_classes(count_classes(layers, str(path)), config, definition, str(path))
    network = MaskRcnnNetwork(config, layers, str(path))
    instances = _Instances(network, definition, arguments)
    if definition.model_type == "ImageClassification":
        return MaskRcnnPixelClassifier(instances, definition)
    return MaskRcnnDetector(instances)


def _settings(package: ModelPackage) -> dict[str, Any]:
    members = package.definition.configuration_members
    values: dict[str, Any] = {}
    module = members.get("Config")
    if module:
        stem = str(module)[:-3] if str(module).endswith(".py") else str(module)
        folder = stem.replace("\\", "/").rpartition("/")[0]

        def find(name: str) -> Optional[str]:
            try:
                return _text(package, f"{folder}/{name}.py" if folder else f"{name}.py")
            except PackageError:
                return None

        values = read_constants(_text(package, f"{stem}.py"), f"{stem}.py", find)
    values.update({name: value for name, value in members.items() if name.isupper()})
    return values


def _text(package: ModelPackage, name: str) -> str:
    try:
        return package.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(
            "The model's configuration module is no text.", stage="loading the model", file=name
        ) from error


def _check_classes(count: int, config: MaskRcnnConfig, definition: ModelDefinition, file: str) -> None:
    found, listed = count - 1, len(definition.classes)
    stated = config.num_classes
    if stated and stated != count:
        raise ModelError(
            f"The weights are for {count} classes with the background, but NUM_CLASSES of the model's "
            f"configuration is {stated}.",
            stage="loading the model",
            file=file,
        )
    if found != listed:
        raise ModelError(
            f"The network tells {found} kinds of objects apart, but the definition lists {listed} classes.",
            stage="loading the model",
            file=file,
            hint="Correct Classes in the model definition; the background is not listed.",
        )


class _Instances:
    """Runs the network over single images and brings boxes and masks back to their pixels."""

    def __init__(self, network: MaskRcnnNetwork, definition: ModelDefinition, arguments: Mapping[str, str]) -> None:
        self._network, self._config = network, network.config
        self._mean = np.asarray(network.config.mean_pixel, np.float32)
        bands = len(definition.extract_bands) or network.config.image_channel_count
        if bands != network.config.image_channel_count or self._mean.size not in (1, bands):
            raise DefinitionError(
                f"The network takes {network.config.image_channel_count} bands, but the definition names {bands}.",
                stage="loading the model",
                hint="Correct ExtractBands of the model definition.",
            )
        threshold = number_argument(arguments, "score_threshold", "threshold")
        self._threshold = 0.0 if threshold is None else threshold
        self._normalisation = Normalisation.from_definition(definition)
        side = network.config.image_max_dim
        width, height = definition.image_width or side, definition.image_height or side
        halo = integer_argument(arguments, "padding")
        self.plan = TilePlan(width, height, definition.padding if halo is None else halo, multiple=1, batch=1)
        self._place(height, width)

    def _place(self, height: int, width: int) -> Placement:
        """Return where an image lies in the network's image."""
        config = self._config
        if config.image_resize_mode == "square":
            least, most = config.image_min_dim, config.image_max_dim
            found = plan_square(height, width, least, most, config.image_min_scale)
        elif config.image_resize_mode == "pad64":
            found = plan_multiple(height, width, config.image_min_dim, config.image_min_scale, _STEP)
        else:
            found = Placement(0, 0, height, width, height, width)
        if found.side_y % _STEP or found.side_x % _STEP:
            raise DefinitionError(
                f"The network would see an image of {found.side_x} x {found.side_y} pixels, but both sides must be "
                f"multiples of {_STEP}.",
                stage="loading the model",
                hint="Choose ImageWidth and ImageHeight, or IMAGE_MAX_DIM of the model's configuration, accordingly.",
            )
        return found

    def __call__(
        self, pixels: Array, valid: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32], list[npt.NDArray[np.bool_]]]:
        """Return boxes (ymin, xmin, ymax, xmax in pixels), class numbers from 1, scores and masks inside the boxes.

        Args:
            pixels: (bands, rows, columns) of one image.
            valid: (rows, columns).
        """
        filled: Array = np.where(valid, pixels, pixels.dtype.type(0))
        if self._normalisation != Normalisation(fill_value=0.0):
            filled = self._normalisation.apply(pixels[np.newaxis], valid[np.newaxis])[0]
        height, width = filled.shape[1:]
        spot = self._place(height, width)
        image = place(filled.transpose(1, 2, 0)[np.newaxis], spot)[0].astype(np.float32) - self._mean
        size = (spot.side_y, spot.side_x)
        corners = np.array([spot.top, spot.left, spot.top + spot.height, spot.left + spot.width])
        window = to_fractions(corners, size)
        boxes, numbers, scores, masks = self._network.detect(image.astype(np.float32), window)
        in_window = (boxes - np.tile(window[:2], 2)) / np.tile(window[2:] - window[:2], 2)
        scale, shift = np.array([height - 1, width - 1] * 2), np.array([0, 0, 1, 1])
        whole = np.around(in_window * scale + shift).astype(np.int64)
        sizes = whole[:, 2:] - whole[:, :2]
        keep = np.flatnonzero((sizes > 0).all(axis=1) & (scores > self._threshold))
        parts = [_unfold(masks[place_], whole[place_]) for place_ in keep]
        return whole[keep], numbers[keep], scores[keep], parts


def _unfold(mask: npt.NDArray[np.float32], box: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return the mask at the size of its box; probabilities of at least a half are the object."""
    height, width = int(box[2] - box[0]), int(box[3] - box[1])
    scaled = scale_images(mask[np.newaxis, :, :, np.newaxis], height, width)[0, :, :, 0]
    return np.asarray(scaled >= 0.5)


class MaskRcnnDetector:
    """Finds objects with their outlines."""

    def __init__(self, instances: _Instances) -> None:
        self.plan, self._instances = instances.plan, instances

    def detect(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> List[Detections]:
        """Return the objects of each image of the batch; an object whose mask is empty is none."""
        result = []
        for image, mask in zip(pixels, valid):
            boxes, numbers, scores, parts = self._instances(image, mask)
            rings: list[Rings] = []
            keep: list[int] = []
            for index, part in enumerate(parts):
                ring = mask_rings(part, int(boxes[index, 1]), int(boxes[index, 0]))
                if ring is not None:
                    rings.append(ring)
                    keep.append(index)
            corners = boxes[keep][:, [1, 0, 3, 2]].astype(np.float32)
            result.append(Detections(corners, scores[keep], numbers[keep] - 1, rings))
        return result


class MaskRcnnPixelClassifier:
    """Gives every pixel the class of the object that covers it; later, less certain objects lie over earlier ones."""

    def __init__(self, instances: _Instances, definition: ModelDefinition) -> None:
        self.plan, self._instances = instances.plan, instances
        # A class of value 0 could not be told from nothing; like the published function, its number is written then.
        values = (entry.value or number for number, entry in enumerate(definition.classes, start=1))
        self.values: Optional[Tuple[int, ...]] = (0, *values)

    def scores(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, classes, rows, columns), 1 for the class of the pixel; channel 0 is where no object is."""
        channels = len(self.values or ())
        result = np.zeros((len(pixels), channels, *pixels.shape[2:]), np.float32)
        for index, (image, mask) in enumerate(zip(pixels, valid)):
            classes = np.zeros(pixels.shape[2:], np.int64)
            boxes, numbers, _, parts = self._instances(image, mask)
            for (top, left, bottom, right), number, part in zip(boxes, numbers, parts):
                classes[top:bottom, left:right][part] = number
            for channel in range(channels):
                result[index, channel] = classes == channel
        return result
