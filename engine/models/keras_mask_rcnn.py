"""Adapter for Keras / MaskRCNN: Matterport's weights in our own network, settings read from the package's module.

A package's own network runs instead where it is asked for (argument ``own_code``), or where its code may run and its
weights fit no network of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Tuple, Union

import numpy as np
import numpy.typing as npt

from ..errors import DefinitionError, ModelError, PackageError
from ..events import WARNING, Event, Log
from ..package import trust
from .arguments import Arguments
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
# Boxes (ymin, xmin, ymax, xmax in pixels), class numbers from 1, scores, and masks inside the boxes.
Instances = Tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32], List[npt.NDArray[np.bool_]]]
Find = Callable[[Array], Instances]
_STEP = 64  # the pyramid halves the image six times
_USUAL_SIDE = 1024


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> MaskRcnnModel:
    """Load a Mask R-CNN whose weights were saved by Matterport's implementation.

    Settings come from the module that ``Config`` of ``ModelConfiguration`` names, which is read but not run; members of
    ``ModelConfiguration`` in capitals (``"BACKBONE": "resnet50"``) count before it.

    Args:
        package: an opened package.
        device: "cpu" or "cuda:0".
        threads: native threads for one operation.
        arguments: ``padding``, ``score_threshold``, ``own_code``.

    Raises:
        ModelError: weights or settings are broken, or do not fit each other or the definition.
        TrustError: the package's own network is asked for, and nobody has allowed that.
    """
    definition = package.definition
    messages: List[Event] = []
    find, side = _choose(package, device, threads, Arguments(arguments).flag("own_code", False), messages)
    instances = _Instances(find, side, definition, arguments, messages)
    if isinstance(find, _BuiltIn):
        find.place(instances.plan.height, instances.plan.width)
    if definition.model_type == "ImageClassification":
        return MaskRcnnPixelClassifier(instances, definition)
    return MaskRcnnDetector(instances)


def _choose(
    package: ModelPackage, device: str, threads: int, own_code: bool, messages: List[Event]
) -> tuple[Find, int]:
    """Return the network that runs, and the usual side of its images: ours if it can, else the package's own."""
    prepare_tensorflow(device, threads)
    has_own = bool(package.definition.configuration_members.get("Architecture"))
    if own_code and has_own:
        if not package.code_allowed:
            trust.require(package, (trust.CODE,))
        return _own(package, device, messages), _USUAL_SIDE
    try:
        network = _BuiltIn.of(package)
        return network, network.side
    except ModelError as error:
        if not has_own:
            raise
        if not package.code_allowed:
            ways = f"The package's own network may fit: set own_code=True and TRUST={package.digest}"
            error.hint = f"{error.hint} {ways} if you trust its author.".strip()
            raise
        messages.append(Log(WARNING, f"{error.message} The package's own network runs instead."))
        return _own(package, device, messages), _USUAL_SIDE


def _own(package: ModelPackage, device: str, messages: List[Event]) -> Find:
    from ..raster_function.architecture import PackageNetwork

    return PackageNetwork(package, device, messages)


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


class _BuiltIn:
    """Our own network over single images; brings boxes and masks back to their pixels."""

    def __init__(self, network: MaskRcnnNetwork, bands: int) -> None:
        self._network, self._config = network, network.config
        self._mean = np.asarray(network.config.mean_pixel, np.float32)
        bands = bands or network.config.image_channel_count
        if bands != network.config.image_channel_count or self._mean.size not in (1, bands):
            raise DefinitionError(
                f"The network takes {network.config.image_channel_count} bands, but the definition names {bands}.",
                stage="loading the model",
                hint="Correct ExtractBands of the model definition.",
            )
        self.side = network.config.image_max_dim

    @classmethod
    def of(cls, package: ModelPackage) -> _BuiltIn:
        """Build the network of a package and load its weights by the names of layers."""
        definition = package.definition
        config = MaskRcnnConfig.from_values(_settings(package))
        path = package.file(definition.model_file)
        layers = read_layers(path)
        _check_classes(count_classes(layers, str(path)), config, definition, str(path))
        return cls(MaskRcnnNetwork(config, layers, str(path)), len(definition.extract_bands))

    def place(self, height: int, width: int) -> Placement:
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

    def __call__(self, image: Array) -> Instances:
        """Return the objects of an image (rows, columns, bands)."""
        height, width = image.shape[:2]
        spot = self.place(height, width)
        molded = place(image[np.newaxis], spot)[0].astype(np.float32) - self._mean
        size = (spot.side_y, spot.side_x)
        corners = np.array([spot.top, spot.left, spot.top + spot.height, spot.left + spot.width])
        window = to_fractions(corners, size)
        boxes, numbers, scores, masks = self._network.detect(molded.astype(np.float32), window)
        in_window = (boxes - np.tile(window[:2], 2)) / np.tile(window[2:] - window[:2], 2)
        scale, shift = np.array([height - 1, width - 1] * 2), np.array([0, 0, 1, 1])
        whole = np.around(in_window * scale + shift).astype(np.int64)
        keep = np.flatnonzero((whole[:, 2:] > whole[:, :2]).all(axis=1))
        parts = [_unfold(masks[place_], whole[place_]) for place_ in keep]
        return whole[keep], numbers[keep], scores[keep], parts


class _Instances:
    """What surrounds either network: bands, no data, and the confidence that is asked for."""

    def __init__(
        self,
        find: Find,
        side: int,
        definition: ModelDefinition,
        arguments: Mapping[str, str],
        messages: List[Event],
    ) -> None:
        self._find, self._messages, self._classes = find, messages, len(definition.classes)
        threshold = number_argument(arguments, "score_threshold", "threshold")
        self._threshold = 0.0 if threshold is None else threshold
        self._normalisation = Normalisation.from_definition(definition)
        width, height = definition.image_width or side, definition.image_height or side
        halo = integer_argument(arguments, "padding")
        self.plan = TilePlan(width, height, definition.padding if halo is None else halo, multiple=1, batch=1)

    def __call__(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> Instances:
        """Return the objects of one image.

        Args:
            pixels: (bands, rows, columns) of one image.
            valid: (rows, columns).
        """
        filled: Array = np.where(valid, pixels, pixels.dtype.type(0))
        if self._normalisation != Normalisation(fill_value=0.0):
            filled = self._normalisation.apply(pixels[np.newaxis], valid[np.newaxis])[0]
        boxes, numbers, scores, parts = self._find(filled.transpose(1, 2, 0))
        strange = numbers[(numbers < 1) | (numbers > self._classes)]
        if len(strange):
            raise ModelError(
                f"The network reports an object of the class {strange[0]}, but the definition lists {self._classes} "
                "classes.",
                stage="predicting",
                hint="Correct Classes in the model definition; the background is not listed.",
            )
        keep = np.flatnonzero(scores > self._threshold)
        return boxes[keep], numbers[keep], scores[keep], [parts[place_] for place_ in keep]

    def take_messages(self) -> List[Event]:
        """Return what was said since the last call."""
        said = list(self._messages)
        self._messages.clear()
        return said


def _unfold(mask: npt.NDArray[np.float32], box: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return the mask at the size of its box; probabilities of at least a half are the object."""
    height, width = int(box[2] - box[0]), int(box[3] - box[1])
    scaled = scale_images(mask[np.newaxis, :, :, np.newaxis], height, width)[0, :, :, 0]
    return np.asarray(scaled >= 0.5)


class MaskRcnnDetector:
    """Finds objects with their outlines."""

    def __init__(self, instances: _Instances) -> None:
        self.plan, self._instances = instances.plan, instances
        self.take_messages = instances.take_messages

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
        self.take_messages = instances.take_messages
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
