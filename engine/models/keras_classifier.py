"""Adapter for Keras / KerasClassifier: a whole Keras model that gives every chip one of any number of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

import numpy as np
import numpy.typing as npt

from ..errors import DefinitionError, ModelError
from .base import TilePlan
from .keras_files import load_model
from .keras_resize import place, plan_square
from .network import Array, integer_argument
from .normalisation import Normalisation
from .tensorflow_function import prepare_tensorflow

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

_USUAL_SIDE = 64
_BATCH = 4


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> KerasClassifier:
    """Load the model of a package.

    Args:
        package: an opened package whose ``ModelFile`` is a ``.h5`` or ``.keras`` file.
        device: "cpu" or "cuda:0".
        threads: native threads for one operation.
        arguments: ``resampled_image_size`` (default 64, or the size the model insists on) and ``batch_size``.

    Raises:
        ModelError: the file is broken, or tells other classes apart than the definition lists.
        TrustError: it asks for more than plain layers.
    """
    definition = package.definition
    prepare_tensorflow(device, threads)
    model = load_model(package.file(definition.model_file))
    return KerasClassifier(model, definition, arguments)


class KerasClassifier:
    """A Keras model over chips that are scaled to one square size, zeros around them."""

    def __init__(self, model: Any, definition: ModelDefinition, arguments: Mapping[str, str]) -> None:
        self._model = model
        self._classes = len(definition.classes)
        self.blacken, self.fixed_crop = definition.blacken_around_feature, definition.crop_size_fixed
        self._side = self._choose_side(arguments)
        self._check_outputs()
        self._normalisation = Normalisation.from_definition(definition)
        batch = integer_argument(arguments, "batch_size") or definition.batch_size or _BATCH
        width, height = definition.image_width or self._side, definition.image_height or self._side
        self.plan = TilePlan(width, height, fixed=True, batch=batch)

    def _choose_side(self, arguments: Mapping[str, str]) -> int:
        shape = self._model.input_shape
        if isinstance(shape, list) or len(shape) != 4:
            raise ModelError(
                "The Keras model does not take one image as its input.",
                stage="loading the model",
                hint="A classifier needs a single input of (rows, columns, bands).",
            )
        asked = integer_argument(arguments, "resampled_image_size")
        insisted = shape[1] if shape[1] == shape[2] else None
        if shape[1] and shape[2] and insisted is None:
            raise ModelError(
                f"The Keras model takes images of {shape[2]} x {shape[1]} pixels; only square ones can be fed.",
                stage="loading the model",
            )
        if insisted and asked not in (None, insisted, _USUAL_SIDE):
            raise DefinitionError(
                f"The model takes images of {insisted} pixels only, but resampled_image_size is {asked}.",
                stage="loading the model",
                hint=f"Set resampled_image_size={insisted}.",
            )
        return int(insisted or asked or _USUAL_SIDE)

    def _check_outputs(self) -> None:
        shape = self._model.output_shape
        found = shape[-1] if not isinstance(shape, list) and len(shape) == 2 else None
        if found != self._classes and not (found == 1 and self._classes == 2):
            raise ModelError(
                f"The Keras model tells {found or 'no'} classes apart, but the definition lists {self._classes}.",
                stage="loading the model",
                hint="Correct Classes in the model definition: one entry per output, in their order.",
            )

    def probabilities(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, classes), in the order of the definition's ``Classes``."""
        bands = self._model.input_shape[3]
        if bands and bands != pixels.shape[1]:
            raise ModelError(
                f"The Keras model takes {bands} bands, but it is given {pixels.shape[1]}.",
                stage="predicting",
                hint="Correct ExtractBands of the model definition.",
            )
        chips = self._prepare(pixels, valid).transpose(0, 2, 3, 1)
        placed = place(chips, plan_square(chips.shape[1], chips.shape[2], self._side, self._side))
        scores = np.asarray(self._model(placed.astype(np.float32), training=False), dtype=np.float32)
        return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores

    def _prepare(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> Array:
        """Fill what is no data; values stay as they are unless the definition says how to rescale them."""
        if self._normalisation == Normalisation(fill_value=0.0):
            return np.where(valid[:, np.newaxis], pixels, pixels.dtype.type(0))
        return self._normalisation.apply(pixels, valid)
