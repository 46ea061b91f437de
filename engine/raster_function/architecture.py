"""The network that a Keras Mask R-CNN package builds with its own code, behind the call that all of them offer.

Such packages name two Python modules: ``Architecture`` exposes ``model``, already built for inference, with
``load_weights(path, by_name=True)`` and ``detect([image])``; ``Config`` exposes ``config``. Published ones are written
for Keras 2 and TensorFlow 1 (Esri/raster-deep-learning, matterport/Mask_RCNN); they find both here in today's libraries
(:mod:`.older_libraries`). Runs in a confined worker of its own, after consent.
"""

from __future__ import annotations

import contextlib
import io
import os
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..events import INFO, Event, Log
from . import older_libraries
from .loading import call, import_function, lay_out
from .missing import STAGE

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage

Array = npt.NDArray[Any]
Instances = Tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32], List[npt.NDArray[np.bool_]]]


class PackageNetwork:
    """The package's own network, with its weights."""

    def __init__(self, package: ModelPackage, device: str, messages: List[Event]) -> None:
        """Import the modules, which builds the network, and load the weights.

        Args:
            package: one whose code may run.
            device: "cpu" or "cuda:0".
            messages: takes what the code says.

        Raises:
            ModelError: the modules cannot be imported, lack what they should expose, or the weights cannot be loaded.
        """
        root = lay_out(package).parent
        os.chdir(root)  # published networks make folders for logs where they are
        self._messages = messages
        members = package.definition.configuration_members
        older_libraries.restore_for_keras(root)
        modules: Dict[Path, types.ModuleType] = {}
        # The configuration first, as the published function does; often both are one module.
        for key in ("Config", "Architecture"):
            path = root / _module_file(package, str(members.get(key) or members["Architecture"]))
            if path not in modules:
                modules[path] = self._quietly(import_function, path, root, device, messages.append)
            self._path = path
        self._model = getattr(modules[self._path], "model", None)
        if not callable(getattr(self._model, "detect", None)):
            raise ModelError(
                f"The module “{self._path.name}” exposes no “model” with a method “detect”.",
                stage=STAGE,
                file=str(self._path),
                hint="Architecture of the model definition has to name a module that builds the network for inference.",
            )
        weights = str(root / package.file(package.definition.model_file).relative_to(package.folder))
        load = getattr(self._model, "load_weights", None)
        self._quietly(call, self._path, "load_weights", load, weights, by_name=True)

    def __call__(self, image: Array) -> Instances:
        """Return boxes (ymin, xmin, ymax, xmax in pixels), class numbers from 1, scores and masks inside the boxes.

        Args:
            image: (rows, columns, bands).

        Raises:
            ModelError: the code fails, or answers in another form.
        """
        answers = self._quietly(call, self._path, "detect", self._model.detect, [image])  # type: ignore[union-attr]
        try:
            answer = answers[0]
            rois = np.asarray(answer["rois"], np.float64).reshape(-1, 4)
            masks = np.asarray(answer["masks"]).astype(bool).reshape(*image.shape[:2], len(rois))
            numbers = np.asarray(answer["class_ids"]).astype(np.int64).reshape(len(rois))
            scores = np.asarray(answer["scores"], np.float32).reshape(len(rois))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(
                f"The network of the module “{self._path.name}” does not answer with rois, class_ids, scores and masks "
                f"of one image: {type(error).__name__}: {error}.",
                stage=STAGE,
                file=str(self._path),
            ) from error
        boxes, parts = _cut(rois, masks)
        return boxes, numbers, scores, parts

    def _quietly(self, function: Any, *positional: Any, **named: Any) -> Any:
        """Call with what the code prints turned into lines of the log; nothing may reach the worker's own pipe."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                return function(*positional, **named)
        finally:
            self._messages += [Log(INFO, line.rstrip()) for line in said.getvalue().splitlines()[:20] if line.strip()]


def _module_file(package: ModelPackage, name: str) -> Path:
    """Return a module's path inside the package by the name without suffix that the definition uses."""
    stem = name[:-3] if name.endswith(".py") else name
    return package.file(f"{stem}.py").relative_to(package.folder)


def _cut(rois: Array, masks: Array) -> Tuple[npt.NDArray[np.int64], List[npt.NDArray[np.bool_]]]:
    """Return whole-pixel boxes that hold region and mask, and the part of each mask in its box."""
    boxes, parts = [], []
    size = np.array(masks.shape[:2])
    for roi, mask in zip(rois, np.moveaxis(masks, 2, 0)):
        low, high = np.floor(roi[:2]).astype(np.int64), np.ceil(roi[2:]).astype(np.int64)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            low = np.minimum(low, [rows[0], columns[0]])
            high = np.maximum(high, [rows[-1] + 1, columns[-1] + 1])
        low, high = np.clip(low, 0, size), np.clip(high, 0, size)
        boxes.append([*low, *high])
        parts.append(mask[low[0] : high[0], low[1] : high[1]])
    return np.array(boxes, np.int64).reshape(-1, 4), parts
