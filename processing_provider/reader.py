"""Reads the values of an algorithm's parameters as the values that jobs are made of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsRectangle,
)

from ..engine import jobs
from . import copies, sources
from .sources import PickedVector
from .text import tr


class ParameterReader:
    """One algorithm's values; may be asked until it is closed, its attributes stay.

    Attributes:
        copies: temporary files to write before the engine starts.
        destinations: final paths by output name.
        to_load: by path, what QGIS needs to know about the layers it shall load.
        folders_to_load: by output name, the project that shall receive the layers of a folder.
    """

    def __init__(
        self, algorithm: QgsProcessingAlgorithm, parameters: Dict[str, Any], context: QgsProcessingContext
    ) -> None:
        self._algorithm, self._parameters, self.context = algorithm, parameters, context
        self.copies: List[sources.Copy] = []
        self.destinations: Dict[str, Any] = {}
        self.to_load: Dict[str, Tuple[Any, ...]] = {}
        self.folders_to_load: Dict[str, QgsProject] = {}
        self._temporary: List[str] = []

    def close(self) -> None:
        """Let go of algorithm, values and context, which QGIS deletes while Python might still hold on to them."""
        self._algorithm, self._parameters, self.context = None, {}, None

    # --- plain values ----------------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """Return a text without spaces around it."""
        return (self._algorithm.parameterAsString(self._parameters, name, self.context) or "").strip()

    def number(self, name: str) -> float:
        """Return a number."""
        return float(self._algorithm.parameterAsDouble(self._parameters, name, self.context))

    def whole(self, name: str) -> int:
        """Return a whole number."""
        return int(self._algorithm.parameterAsInt(self._parameters, name, self.context))

    def flag(self, name: str) -> bool:
        """Return yes or no."""
        return bool(self._algorithm.parameterAsBoolean(self._parameters, name, self.context))

    def choice(self, name: str) -> str:
        """Return the chosen word."""
        return str(self._algorithm.parameterAsEnumString(self._parameters, name, self.context))

    def choices(self, name: str) -> Tuple[str, ...]:
        """Return the chosen words of a parameter that takes several."""
        return tuple(self._algorithm.parameterAsEnumStrings(self._parameters, name, self.context))

    def words(self, name: str) -> Tuple[str, ...]:
        """Return the parts of a text between commas, semicolons and spaces."""
        return tuple(part for part in re.split(r"[,;\s]+", self.text(name)) if part)

    def whole_numbers(self, name: str) -> Tuple[int, ...]:
        """Return a list of whole numbers.

        Raises:
            QgsProcessingException: something in it is no number.
        """
        try:
            return tuple(int(part) for part in self.words(name))
        except ValueError:
            raise QgsProcessingException(
                tr("{name} takes whole numbers such as 0 or 0,1, not “{text}”.").format(name=name, text=self.text(name))
            ) from None

    def parts(self, name: str) -> Tuple[float, float, float]:
        """Return three numbers from 0 to 1.

        Raises:
            QgsProcessingException: it is something else.
        """
        try:
            first, second, third = (float(part) for part in self.words(name))
        except ValueError:
            raise QgsProcessingException(
                tr("{name} takes three numbers such as 0.8,0.1,0.1, not “{text}”.").format(
                    name=name, text=self.text(name)
                )
            ) from None
        return first, second, third

    def arguments(self, name: str = "ARGUMENTS") -> Dict[str, str]:
        """Return name=value;name=value or JSON as a mapping."""
        from ..engine.package.parameters import parse_arguments

        return dict(parse_arguments(self.text(name)))

    def file(self, name: str) -> str:
        """Return an absolute path, or empty; JSON given in place of a file is passed on."""
        text = self.text(name)
        return os.path.abspath(text) if text and not text.startswith("{") else text

    def existing_file(self, name: str, kind: str) -> str:
        """Return the absolute path of a file or folder that must exist; JSON text is passed on."""
        path = self.file(name)
        if path and not path.startswith("{") and not os.path.exists(path):
            raise QgsProcessingException(
                tr("The {kind} {path} does not exist. Check the path.").format(kind=kind, path=path)
            )
        return path

    def paths(self, name: str) -> Tuple[str, ...]:
        """Return existing files or folders: a list, or text with semicolons between them."""
        value = self._parameters.get(name)
        parts = value if isinstance(value, (list, tuple)) else self.text(name).split(";")
        found = [os.path.abspath(str(part).strip()) for part in parts if str(part).strip()]
        for path in found:
            if not os.path.exists(path):
                raise QgsProcessingException(tr("{} does not exist. Check the path.").format(path))
        return tuple(found)

    # --- layers ----------------------------------------------------------------------------------------------------

    def rasters(self, *names: str) -> Tuple[jobs.RasterInput, ...]:
        """Return all rasters of the named parameters, at least one.

        Raises:
            QgsProcessingException: there is none, or one cannot be opened.
        """
        found = [
            self._raster(layer)
            for name in names
            for layer in sources.raster_layers(self._parameters.get(name), self.context)
        ]
        if not found:
            raise QgsProcessingException(tr("Give an input raster ({}).").format(tr(" or ").join(names)))
        return tuple(found)

    def raster(self, name: str) -> Optional[jobs.RasterInput]:
        """Return one raster, or None if it is not given."""
        layers = sources.raster_layers(self._parameters.get(name), self.context)
        return self._raster(layers[0]) if layers else None

    def _raster(self, layer: QgsRasterLayer) -> jobs.RasterInput:
        direct = sources.raster_input(layer)
        if direct is not None:
            return direct
        cell_size = self.number("CELL_SIZE") if self._has("CELL_SIZE") else 0.0
        extent = self._rectangle(layer.crs()) if self._has("EXTENT") else None
        path = self._scratch("raster.tif")
        self.copies.append(copies.RasterCopy(layer, extent, cell_size, path))
        return copies.copied_raster(layer, path)

    def vector(self, name: str) -> Optional[jobs.VectorInput]:
        """Return the features of a parameter, or None if it is not given."""
        value = self._parameters.get(name)
        if value is None or value == "":
            return None
        picked = PickedVector(value, self.context)
        direct = sources.vector_input(picked)
        if direct is not None:
            return direct
        path = self._scratch("features.gpkg")
        self.copies.append(copies.VectorCopy(self.source(name), picked.layer.name(), path))
        return copies.copied_vector(picked.layer, path)

    def source(self, name: str) -> Optional[QgsProcessingFeatureSource]:
        """Return what reads the features of a parameter in any thread, or None if it is not given."""
        if not self.given(name):
            return None
        source = self._algorithm.parameterAsSource(self._parameters, name, self.context)
        if source is None:
            raise QgsProcessingException(sources.unreadable(str(self._parameters[name]), tr("vector layer")))
        return source

    def raster_layers(self, name: str) -> List[QgsRasterLayer]:
        """Return the raster layers of a parameter."""
        return sources.raster_layers(self._parameters.get(name), self.context)

    def is_raster(self, name: str) -> bool:
        """Whether the value of a parameter that takes any layer is a raster."""
        value = self._parameters.get(name)
        if isinstance(value, QgsProperty):
            value = value.staticValue()
        if not isinstance(value, QgsMapLayer):
            value = QgsProcessingUtils.mapLayerFromString(str(value or ""), self.context)
        return isinstance(value, QgsRasterLayer)

    # --- area ------------------------------------------------------------------------------------------------------

    def extent(self, name: str = "EXTENT") -> Optional[jobs.Extent]:
        """Return the asked area in the CRS it was given in, or None."""
        if not self.given(name):
            return None
        box = self._algorithm.parameterAsExtent(self._parameters, name, self.context)
        if box.isNull():
            return None
        crs = self._algorithm.parameterAsExtentCrs(self._parameters, name, self.context)
        return jobs.Extent(box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum(), sources.crs_text(crs))

    def _rectangle(self, crs: QgsCoordinateReferenceSystem) -> Optional[QgsRectangle]:
        if not self.given("EXTENT"):
            return None
        box = self._algorithm.parameterAsExtent(self._parameters, "EXTENT", self.context, crs)
        return None if box.isNull() else box

    def given(self, name: str) -> bool:
        """Whether the parameter has a value."""
        value = self._parameters.get(name)
        return value is not None and value != ""

    def _has(self, name: str) -> bool:
        return self._algorithm.parameterDefinition(name) is not None

    # --- outputs ---------------------------------------------------------------------------------------------------

    def layer_output(self, name: str) -> str:
        """Return the path of a raster or vector to write, or empty if it is not wanted."""
        if not self._wanted(name):
            return ""
        path = self._algorithm.parameterAsOutputLayer(self._parameters, name, self.context)
        if path and self.context.willLoadLayerOnCompletion(path):
            found = self.context.layerToLoadOnCompletionDetails(path)
            self.to_load[os.path.abspath(path)] = (found.name, found.project, found.outputName, found.layerTypeHint)
        return self._destination(name, path)

    def folder_beside(self, name: str) -> str:
        """Return the folder that stands for a layer to write, or empty: its path without ending.

        QGIS is not told to load the folder; ``folders_to_load`` keeps the project that its files shall go to.
        """
        if not self._wanted(name):
            return ""
        values, value = self._parameters, self._parameters.get(name)
        if isinstance(value, QgsProcessingOutputLayerDefinition):
            if value.destinationProject is not None:
                self.folders_to_load[name] = value.destinationProject
            values = {**values, name: value.sink}
        path = self._algorithm.parameterAsFileOutput(values, name, self.context)
        # QGIS 3.22 announces the layer while it checks the values; it would miss a file that is never written.
        announced = self.context.layersToLoadOnCompletion()
        if announced.pop(path, None) is not None:
            self.context.setLayersToLoadOnCompletion(announced)
        return self._destination(name, os.path.splitext(path)[0])

    def file_output(self, name: str) -> str:
        """Return the path of another file or folder to write, or empty if it is not wanted."""
        if not self._wanted(name):
            return ""
        path = self._algorithm.parameterAsFileOutput(self._parameters, name, self.context)
        return self._destination(name, path)

    def _wanted(self, name: str) -> bool:
        definition = self._algorithm.parameterDefinition(name)
        value = self._parameters.get(name, definition.defaultValue())
        if isinstance(value, QgsProcessingOutputLayerDefinition):
            value = value.sink.staticValue()
        return value is not None and value != ""

    def _destination(self, name: str, path: str) -> str:
        if not path:
            return ""
        path = os.path.abspath(path)
        self.destinations[name] = path
        return path

    # --- shared by the inference tools -----------------------------------------------------------------------------

    def run_options(self) -> jobs.RunOptions:
        """Return how the job runs."""
        return jobs.RunOptions(
            arguments=self.arguments(),
            processing_mode=self.choice("PROCESSING_MODE") if self._has("PROCESSING_MODE") else jobs.MOSAICKED,
            extent=self.extent(),
            cell_size=self.number("CELL_SIZE"),
            mask=self.vector("MASK"),
            processor=self.choice("PROCESSOR"),
            gpu_id=self.whole_numbers("GPU_ID"),
            workers=self.whole("WORKERS"),
            cluster=self.text("CLUSTER"),
            resume=self.flag("RESUME"),
            trust=self.words("TRUST"),
        )

    # --- temporary files -------------------------------------------------------------------------------------------

    def _scratch(self, name: str) -> str:
        path = QgsProcessingUtils.generateTempFilename(name)
        self._temporary.append(path)
        return path

    def remove_copies(self) -> None:
        """Delete the temporary files; what is still open goes with QGIS's own temporary folder."""
        for path in self._temporary:
            for side in Path(path).parent.glob(Path(path).name + "*"):
                try:
                    side.unlink()
                except OSError:
                    continue
        self._temporary = []
