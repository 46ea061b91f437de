"""Raster functions behind the engine's three model interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..events import INFO, Event, Log
from ..models.base import Detections, TilePlan
from ..package.reading import ClassInfo
from .feature_set import best_label, class_text, detections, several_labels, table_classes
from .function import OBJECT_CLASSES, PANOPTIC, PIXELS, Array, Configuration, RasterFunction
from .loading import keep_gpu, lay_out
from .missing import STAGE

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage

FunctionModel = Union["FunctionDetector", "FunctionPixelClassifier", "FunctionObjectClassifier"]
_FIELD_KINDS = {
    "esriFieldTypeInteger": "integer",
    "esriFieldTypeSmallInteger": "integer",
    "esriFieldTypeBigInteger": "integer",
    "esriFieldTypeDouble": "real",
    "esriFieldTypeSingle": "real",
}


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> FunctionModel:
    """Load a package's raster function; the caller has made sure that its code may run.

    Raises:
        ModelError: the function cannot be imported, refuses to run, or fails.
    """
    definition = package.definition
    emd = lay_out(package)
    path = emd.parent / package.file(definition.inference_function).relative_to(package.folder)
    messages: List[Event] = []
    if device != "cpu":
        keep_gpu()
    function = RasterFunction(path, emd, device, messages.append)
    configuration = function.configure(arguments, definition.image_width, definition.image_height)
    if function.kind == OBJECT_CLASSES:
        return FunctionObjectClassifier(function, configuration, package, messages)
    if function.kind == PIXELS:
        return FunctionPixelClassifier(function, configuration, package, messages)
    if function.kind == PANOPTIC:
        return FunctionPanoptic(function, configuration, package, messages)
    return FunctionDetector(function, configuration, package, messages)


class _FunctionModel:
    """What the three share: the plan, blocks, rescaling, and messages for the job's log."""

    def __init__(
        self, function: RasterFunction, configuration: Configuration, package: ModelPackage, messages: List[Event]
    ) -> None:
        self._function, self._configuration, self._messages = function, configuration, messages
        messages += [Log(INFO, one) for one in function.without_effect(configuration)]
        self.classes: Tuple[ClassInfo, ...] = tuple(package.definition.classes)
        self.bands = configuration.bands
        padding = configuration.padding
        self.plan = TilePlan(
            width=configuration.tile_width + 2 * padding,
            height=configuration.tile_height + 2 * padding,
            halo=padding,
            fixed=configuration.fixed,
            outer=True,
        )
        # Where the block of the next call lies; set by whoever knows. Functions may read it from ``props``.
        self.location: Optional[Mapping[str, Any]] = None

    @property
    def parameters(self) -> Sequence[Any]:
        """The arguments that the function offers."""
        return self._function.parameters

    def take_messages(self) -> List[Event]:
        """Return what the function has said since the last call."""
        said = list(self._messages)
        self._messages.clear()
        return said

    def _pixels(self, pixels: Array) -> Array:
        """Return a block in the range that the function asks for, in memory of its own (functions write into it)."""
        span = self._configuration.data_range
        if span is None or not np.issubdtype(pixels.dtype, np.integer):
            return np.array(pixels)
        limits = np.iinfo(pixels.dtype)
        if span == (limits.min, limits.max):
            return np.array(pixels)
        scale = (span[1] - span[0]) / (float(limits.max) - float(limits.min))
        rescaled: Array = ((pixels.astype(np.float32) - float(limits.min)) * scale + span[0]).astype(np.float32)
        return rescaled

    def _mask(self, valid: npt.NDArray[np.bool_], bands: int) -> Array:
        return np.repeat(valid[np.newaxis].astype(np.uint8), bands, axis=0)


class FunctionDetector(_FunctionModel):
    """A function that finds objects."""

    def __init__(
        self, function: RasterFunction, configuration: Configuration, package: ModelPackage, messages: List[Event]
    ) -> None:
        super().__init__(function, configuration, package, messages)
        self.fields = function.fields()
        self.geometry_type = function.geometry_type()
        self.declared = tuple(
            (str(one["name"]), _FIELD_KINDS.get(str(one.get("type")), "text")) for one in self.fields if one.get("name")
        )

    def detect(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> List[Detections]:
        """Return the objects of each block of the batch; coordinates are those of the block with its padding."""
        found = []
        for one, there in zip(pixels, valid):
            block = self._pixels(one)
            blocks = self._function.blocks(block, self._mask(there, len(block)), self._configuration.composite)
            features = self._function.vectorize(**blocks)
            found.append(detections(features, self.classes, self._configuration.padding, self.geometry_type))
        return found


class FunctionPixelClassifier(_FunctionModel):
    """A function that gives every pixel a class or a value.

    ``values`` are the class values it can write, from its attribute table or the definition (0, background, always
    among them); None if its output is no class.
    """

    def __init__(
        self, function: RasterFunction, configuration: Configuration, package: ModelPackage, messages: List[Event]
    ) -> None:
        super().__init__(function, configuration, package, messages)
        bands = len(configuration.bands or package.definition.extract_bands or (0,))
        self._source: Dict[str, Any] = {"bandCount": bands, "pixelType": "u1", "cellSize": (1.0, 1.0), "noData": None}
        self.info = function.raster_info(self._source)
        self.classes = table_classes(self.info.table) or self.classes
        classified = self.info.bands == 1 and np.issubdtype(np.dtype(self.info.dtype), np.integer) and self.classes
        self.values: Optional[Tuple[int, ...]] = (
            tuple(sorted({0, *(one.value for one in self.classes)})) if classified else None
        )

    def scores(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, channels, rows, columns): 1 for the class of each pixel and 0 else, or the values themselves.

        The function answers for the inner part of its blocks; the padding, which nobody uses, is 0.
        """
        padding = self._configuration.padding
        channels = len(self.values) if self.values is not None else self.info.bands
        found = np.zeros((len(pixels), channels, *pixels.shape[2:]), dtype=np.float32)
        rows, columns = pixels.shape[2] - 2 * padding, pixels.shape[3] - 2 * padding
        inner = (slice(padding, padding + rows), slice(padding, padding + columns))
        for image, one, there in zip(found, pixels, valid):
            output = self._output(one, there, rows, columns)
            if self.values is None:
                image[:, inner[0], inner[1]] = output
                continue
            self._check_values(output)
            for channel, value in enumerate(self.values):
                image[channel, inner[0], inner[1]] = output[0] == value
        return found

    def _output(self, pixels: Array, valid: npt.NDArray[np.bool_], rows: int, columns: int) -> Array:
        block = self._pixels(pixels)
        location = dict(self.location or {"extent": (0, -rows, columns, 0), "spatialReference": 0, "cellSize": (1, 1)})
        extent = location["extent"]
        properties = {
            **location,
            "pixelType": self.info.dtype,
            "width": columns,
            "height": rows,
            "noData": None,
        }
        output = self._function.update_pixels(
            (extent[0], extent[3]),
            (self.info.bands, rows, columns),
            properties,
            **self._function.blocks(block, self._mask(valid, len(block)), self._configuration.composite),
            output_pixels=np.zeros((self.info.bands, rows, columns), dtype=self.info.dtype),
        )
        if output.shape[0] != self.info.bands or output.shape[1] < rows or output.shape[2] < columns:
            raise ModelError(
                f"The raster function “{self._function.path.name}” gave back {output.shape} pixels where "
                f"{(self.info.bands, rows, columns)} were asked for.",
                stage=STAGE,
                file=str(self._function.path),
            )
        return output[:, :rows, :columns]

    def _check_values(self, output: Array) -> None:
        strange = np.setdiff1d(output, np.array(self.values))
        if len(strange):
            raise ModelError(
                f"The raster function “{self._function.path.name}” wrote the class value {strange[0]}, which neither "
                "its attribute table nor the model definition lists.",
                stage=STAGE,
                file=str(self._function.path),
                hint="Add the class to “Classes” of the model definition.",
            )


class FunctionPanoptic(FunctionDetector, FunctionPixelClassifier):
    """A function that finds objects and classifies pixels as well; each tool writes one of the two."""

    def __init__(
        self, function: RasterFunction, configuration: Configuration, package: ModelPackage, messages: List[Event]
    ) -> None:
        super().__init__(function, configuration, package, messages)
        text = (
            f"The raster function “{function.path.name}” finds objects and classifies pixels: “Detect objects” writes "
            "the objects, “Classify pixels” the raster."
        )
        messages.append(Log(INFO, text))


class FunctionObjectClassifier(_FunctionModel):
    """A function that gives every chip a class."""

    def __init__(
        self, function: RasterFunction, configuration: Configuration, package: ModelPackage, messages: List[Event]
    ) -> None:
        super().__init__(function, configuration, package, messages)
        definition = package.definition
        self.blacken, self.fixed_crop = configuration.blacken, configuration.fixed_crop
        self.plan = TilePlan(
            width=definition.image_width or configuration.tile_width,
            height=definition.image_height or configuration.tile_height,
            fixed=configuration.fixed_crop,
            batch=configuration.batch_size,
        )
        self.fields = function.fields()
        self._told: List[List[Dict[str, Any]]] = []

    def classify(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> List[Dict[str, Any]]:
        """Return the attributes of each chip as the function delivers them (Label, Confidence, ...)."""
        blocks = [self._pixels(one) for one in pixels]
        masks = [self._mask(there, len(one)) for one, there in zip(blocks, valid)]
        features = self._function.vectorize(rasters_pixels=blocks, rasters_mask=masks).get("features") or []
        # Published functions return as many features as a full batch has; only the first ones belong to chips.
        found = [dict(one.get("attributes") or {}) for one in features[: len(blocks)]]
        if len(found) < len(blocks):
            raise ModelError(
                f"The raster function “{self._function.path.name}” classified {len(found)} of {len(blocks)} images.",
                stage=STAGE,
                file=str(self._function.path),
                hint="Check that the model definition lists as many classes as the network has.",
            )
        return found

    def probabilities(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, classes): the confidence at the class the function chose and 0 else."""
        answers = self.classify(pixels, valid)
        self._told.append(answers)
        found = np.zeros((len(answers), len(self.classes)), dtype=np.float32)
        for row, members in zip(found, answers):
            position, confidence = best_label(members, self.classes)
            if position < 0 and several_labels(members, [one.name for one in self.classes]) is not None:
                continue  # no label at all is an answer where there may be several
            if position < 0:
                raise ModelError(
                    f"The raster function “{self._function.path.name}” chose the class “{class_text(members)}”, which "
                    f"the model definition does not list; its answer holds {', '.join(sorted(members)) or 'nothing'}.",
                    stage=STAGE,
                    file=str(Path(self._function.path)),
                    hint="Check that “Classes” of the model definition has the names that the function writes.",
                )
            row[position] = 1.0 if np.isnan(confidence) else confidence
        return found

    def labels(
        self, probabilities: npt.NDArray[np.float32], names: Sequence[str]
    ) -> Optional[List[Optional[Tuple[str, str]]]]:
        """Return labels and confidences as the function wrote them for the last images, where it names several classes.

        None after several calls, as turned copies of the same images have labels of their own.
        """
        told, self._told = self._told, []
        return [several_labels(one, names) for one in told[0]] if len(told) == 1 else None
