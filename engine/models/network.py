"""A loaded network file as a function of arrays, and what it takes to feed it: type, layout, batches, memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, Mapping, Optional, Protocol, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from ..errors import DefinitionError, ModelError
from ..package.parameters import declared_parameters
from .base import TilePlan
from .normalisation import Normalisation
from .roles import DETECTION_KINDS, IMAGE_SCORES, NetworkRoles

if TYPE_CHECKING:
    from ..package.emd import ModelDefinition

Array = npt.NDArray[np.generic]
_GPU_BATCH = 8
_DEFAULT_SIDE = 512

logger = logging.getLogger(__name__)


class OutOfDeviceMemory(Exception):
    """The device has no room for the batch; no failure of the job, a smaller batch may fit."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, element type ("float32") and shape of an input or output; None in the shape stands for any size."""

    name: str
    dtype: str
    shape: Tuple[Optional[int], ...]


class Network(Protocol):
    """A loaded network file."""

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """The inputs, in the order of the file."""
        ...

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """The outputs, in the order of the file."""
        ...

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> Sequence[Array]:
        """Return the wanted outputs.

        Raises:
            OutOfDeviceMemory: the batch is too large for the device.
            ModelError: the network failed.
        """
        ...


class Feeder:
    """Hands batches to a network: picks tensors by role, normalises, splits what is too large."""

    def __init__(self, network: Network, roles: NetworkRoles, normalisation: Normalisation, batch: int) -> None:
        self.roles, self.normalisation, self.network = roles, normalisation, network
        self.image = _find(network.inputs, roles.input.name, "input")
        self.extra = {name: _find(network.inputs, name, "input") for name in roles.input.extra}
        unfed = {info.name for info in network.inputs} - {self.image.name, *self.extra}
        if unfed:
            raise DefinitionError(
                f"The network wants further inputs ({', '.join(sorted(unfed))}) that the definition does not explain.",
                stage="loading the model",
                hint="Name them in Extra of Input, if they take the size of the image.",
            )
        names = dict(roles.output.tensors)
        if not names and roles.output.kind != "Boxes":
            names = {"Main": network.outputs[0].name}
        self.wanted = {role: _find(network.outputs, name, "output") for role, name in names.items()}
        needed = ("Boxes", "Scores") if roles.output.kind == "Boxes" else ("Main",)
        given = {role.split(".")[0] for role in self.wanted}
        missing = [role for role in needed if role not in given]
        if missing:
            raise DefinitionError(
                f"The definition does not say which output holds: {', '.join(missing)}.",
                stage="loading the model",
                hint=f"Name them in Tensors of Output. The network has: {_names(network.outputs)}.",
            )
        fixed = self.image.shape[0] if roles.input.batched and self.image.shape else None
        self.fixed_batch = fixed if roles.input.batched else 1
        self.limit = self.fixed_batch or max(1, batch)

    def __call__(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield (number of images, outputs by role name) until the whole batch is done."""
        start = 0
        while start < len(pixels):
            part = slice(start, min(start + self.limit, len(pixels)))
            try:
                outputs = self._run(pixels[part], valid[part])
            except OutOfDeviceMemory as error:
                self._shrink(part.stop - part.start, error)
                continue
            count = part.stop - part.start
            yield count, outputs
            start += count

    def _shrink(self, size: int, error: OutOfDeviceMemory) -> None:
        if size == 1 or self.fixed_batch:
            raise ModelError(
                "The memory of the device is too small for a single image.",
                stage="predicting",
                hint="Use a smaller tile size, the CPU, or close other programs that use the GPU.",
            ) from error
        self.limit = size // 2
        logger.warning("The memory does not suffice for %d images at once; going on with %d images.", size, self.limit)

    def _run(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> dict[str, Array]:
        height, width = pixels.shape[2:]
        images = self.prepare(pixels, valid)
        count = len(images)
        if self.fixed_batch and count < self.fixed_batch:
            images = np.concatenate([images, np.repeat(images[-1:], self.fixed_batch - count, axis=0)])
        if not self.roles.input.batched:
            images = images[0]
        feeds = {self.image.name: images}
        for name, info in self.extra.items():
            sizes = {"Width": width, "Height": height, "Scale": 1}
            row = np.array([[sizes[size] for size in self.roles.input.extra[name]]], dtype=info.dtype)
            feeds[name] = np.repeat(row, len(images), axis=0) if len(info.shape) == 2 else row[0]
        arrays = self.network.run(feeds, [info.name for info in self.wanted.values()])
        outputs = dict(zip(self.wanted, arrays))
        if self.fixed_batch and count < self.fixed_batch:
            outputs = {role: array[:count] if array.ndim else array for role, array in outputs.items()}
        return outputs

    def prepare(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> Array:
        """Return pixels normalised, in the network's type and layout."""
        kind = np.dtype(self.roles.input.type)
        if pixels.dtype == kind and kind.kind in "ui" and self.normalisation == Normalisation(fill_value=0.0):
            values: Array = np.where(valid[:, np.newaxis], pixels, kind.type(0))
        else:
            values = self.normalisation.apply(pixels, valid)
            if kind.kind in "ui":
                limits = np.iinfo(kind)
                values = np.clip(np.rint(values), limits.min, limits.max)
            values = values.astype(kind, copy=False)
        if self.roles.input.layout == "NHWC":
            values = values.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(values)


def plan_tiles(
    definition: ModelDefinition,
    roles: NetworkRoles,
    image: TensorInfo,
    arguments: Mapping[str, str],
    device: str,
) -> TilePlan:
    """Return how the network wants its images cut.

    Args:
        definition: its image size, padding and batch size.
        roles: the roles of input and output.
        image: the input that takes images.
        arguments: ``tile_size``, ``padding`` and ``batch_size`` count before the definition.
        device: batches are only worth their memory on a GPU.

    Raises:
        DefinitionError: the definition's image size is not the one the network insists on.
    """
    shape = image.shape if roles.input.batched else (None, *image.shape)
    height, width = _sides(shape, roles.input.layout)
    fixed = bool(height and width)
    stated = (definition.image_height or 0, definition.image_width or 0)
    for name, own, asked in (("height", height, stated[0]), ("width", width, stated[1])):
        if own and asked and own != asked:
            raise DefinitionError(
                f"The network takes images of {own} pixels {name} only, but the definition says {asked}.",
                stage="loading the model",
                hint=f"Correct Image{name.capitalize()} in the model definition.",
            )
    asked_side = integer_argument(arguments, "tile_size")
    multiple = roles.input.multiple
    sides = [own or _up(asked_side or said or _DEFAULT_SIDE, multiple) for own, said in zip((height, width), stated)]
    halo = integer_argument(arguments, "padding")
    if halo is None:
        stated_halo = definition.padding if "Padding" in definition.members else min(sides) // 8
        halo = definition.model_padding or stated_halo
    if roles.output.kind == IMAGE_SCORES:
        halo = 0
    if 2 * halo >= min(sides):
        raise DefinitionError(
            f"A padding of {halo} pixels on both sides leaves nothing of an image of {min(sides)} pixels.",
            stage="loading the model",
            hint="Choose a padding of less than half the tile size.",
        )
    batch = _batch(definition, arguments, device)
    if roles.input.batched and shape and shape[0]:
        batch = shape[0]
    scale = 1 if roles.output.kind in DETECTION_KINDS else roles.output.scale
    return TilePlan(sides[1], sides[0], int(halo), fixed, multiple, int(batch), scale)


def _batch(definition: ModelDefinition, arguments: Mapping[str, str], device: str) -> int:
    """Return the images per call: what somebody chose, else what suits the device.

    One thread gains nothing from more images at once, and memory grows with them.
    """
    usual = {one.name: one.default for one in declared_parameters(definition)}.get("batch_size")
    asked = integer_argument(arguments, "batch_size")
    if asked and str(asked) != usual:
        return asked
    return definition.batch_size or (1 if device == "cpu" else _GPU_BATCH)


def integer_argument(arguments: Mapping[str, str], name: str) -> Optional[int]:
    """Return a model argument as a whole number; None if it is not given.

    Raises:
        DefinitionError: it is not a whole number of 0 or more.
    """
    value = number_argument(arguments, name)
    if value is None:
        return None
    if value != int(value) or value < 0:
        raise DefinitionError(
            f"The model argument {name} must be a whole number of 0 or more, not '{arguments[name]}'.",
            stage="loading the model",
        )
    return int(value)


def number_argument(arguments: Mapping[str, str], *names: str) -> Optional[float]:
    """Return the first of some model arguments that is given, as a number; None if there is none.

    Raises:
        DefinitionError: it is not a number.
    """
    for name in names:
        text = str(arguments.get(name, "")).strip()
        if text:
            try:
                return float(text)
            except ValueError as error:
                raise DefinitionError(
                    f"The model argument {name} must be a number, not '{text}'.", stage="loading the model"
                ) from error
    return None


def _up(side: int, multiple: int) -> int:
    return -(-int(side) // multiple) * multiple


def _sides(shape: Sequence[Union[int, None]], layout: str) -> Tuple[Optional[int], Optional[int]]:
    if len(shape) != 4:
        return None, None
    return (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])


def _find(infos: Sequence[TensorInfo], name: str, what: str) -> TensorInfo:
    for info in infos:
        if not name or info.name == name:
            return info
    raise DefinitionError(
        f"The network has no {what} called '{name}'.",
        stage="loading the model",
        hint=f"Its {what}s are: {_names(infos)}. Correct ModelConfiguration of the model definition.",
    )


def _names(infos: Sequence[TensorInfo]) -> str:
    return ", ".join(info.name for info in infos) or "none"
