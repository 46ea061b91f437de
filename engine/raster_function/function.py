"""A raster function as an object: created, told its model and arguments, asked for its configuration and results.

The order of calls and their arguments are those of ArcGIS (Esri, "Anatomy of a Python raster function" and the
functions published with ArcGIS's deep learning tools).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..package.declared import HOSTS_OWN, parameter_from_info
from ..package.parameters import ModelParameter, resolve_arguments
from .arcpy_stand_in import Emit
from .loading import call, find_class, import_function
from .missing import STAGE

Array = npt.NDArray[Any]
OBJECTS, PIXELS, OBJECT_CLASSES, PANOPTIC = "objects", "pixels", "object classes", "panoptic"

_DEFAULT_TILE = 512
# 1-, 2- and 4-bit types have no numpy name; a byte holds them.
_PIXEL_TYPES = {"t1": "u1", "t2": "u1", "t4": "u1"}


@dataclass(frozen=True)
class Configuration:
    """What ``getConfiguration`` answered: tile sizes in pixels, without padding; bands 0-based, None for all."""

    tile_width: int
    tile_height: int
    padding: int = 0
    fixed: bool = False
    bands: Optional[Tuple[Any, ...]] = None
    data_range: Optional[Tuple[float, float]] = None
    batch_size: int = 1
    fixed_crop: bool = True
    blacken: bool = False
    with_mask: bool = True
    composite: bool = False
    members: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RasterInfo:
    """What ``updateRasterInfo`` answered: bands and numpy type of the output, and its attribute table's rows."""

    bands: int
    dtype: str
    table: Tuple[Mapping[str, Any], ...] = ()


class RasterFunction:
    """One instance of a package's function; stateful, so it serves one tile after the other."""

    def __init__(self, path: Path, definition: Path, device: str, emit: Emit) -> None:
        """Import and create the function and tell it its model.

        Args:
            path: the ``.py`` file.
            definition: file of the model definition, in the folder of the package.
            device: "cpu" or "cuda:0".
            emit: takes the messages it sends through ``arcpy``.

        Raises:
            ModelError: see :mod:`.loading`; or the function says that it may not run.
        """
        self.path = path
        module = import_function(path, definition.parent, device, emit)
        self._instance = self._call("being created", find_class(module, path))
        # A missing "device" makes published functions hide all GPUs or keep what the last one left: always pass it.
        self._call("initialize", self._instance.initialize, model=str(definition), device=0 if device != "cpu" else -1)
        self._infos = [
            one for one in self._call("getParameterInfo", self._instance.getParameterInfo) if isinstance(one, dict)
        ]
        self._check_licence()

    @property
    def kind(self) -> str:
        """What the function produces."""
        names = {str(one.get("name", "")) for one in self._infos}
        objects = hasattr(self._instance, "vectorize")
        if objects and "rasters" in names:
            return OBJECT_CLASSES
        if objects and hasattr(self._instance, "updatePixels"):
            return PANOPTIC
        return OBJECTS if objects else PIXELS

    @property
    def parameters(self) -> Tuple[ModelParameter, ...]:
        """The arguments that the function offers."""
        return tuple(parameter_from_info(one) for one in self._infos if str(one.get("name", "")) not in HOSTS_OWN)

    def configure(self, arguments: Mapping[str, str], default_width: int, default_height: int) -> Configuration:
        """Pass the arguments (all of them, checked, as text) and return what the function wants to be given.

        ``default_width`` and ``default_height`` are those of the definition, for a function that names no tile size.
        """
        scalars = resolve_arguments(self.parameters, arguments)
        answer = dict(self._call("getConfiguration", self._instance.getConfiguration, **scalars) or {})
        padding = int(answer.get("padding", 0) or 0)
        bands = answer.get("extractBands")
        span = answer.get("dataRange")
        return Configuration(
            tile_width=int(answer.get("tx") or max(1, (default_width or _DEFAULT_TILE) - 2 * padding)),
            tile_height=int(answer.get("ty") or max(1, (default_height or _DEFAULT_TILE) - 2 * padding)),
            padding=padding,
            fixed=bool(int(answer.get("fixedTileSize", 0) or 0)),
            bands=None if bands is None else tuple(bands),
            data_range=None if span is None else (float(span[0]), float(span[1])),
            batch_size=max(1, int(answer.get("batch_size", 1) or 1)),
            fixed_crop=bool(int(answer.get("CropSizeFixed", 1))),
            blacken=bool(int(answer.get("BlackenAroundFeature", 0) or 0)),
            with_mask=bool(answer.get("inputMask", False)),
            composite=bool(answer.get("compositeRasters", False)),
            members=answer,
        )

    def without_effect(self, configuration: Configuration) -> List[str]:
        """Return sentences on what the function offers or asks for and this host has no use for."""
        members, told = configuration.members, []
        names = members.get("keyMetadata")
        if names:
            listed = ", ".join(map(str, names)) if isinstance(names, (list, tuple)) else str(names)
            told.append(f"asks for key metadata ({listed}); rasters have none here, so it gets none")
        if hasattr(self._instance, "updateKeyMetadata"):
            told.append("has updateKeyMetadata, which is not called: results carry no key metadata here")
        factor = members.get("samplingFactor")
        if factor not in (None, 1):
            told.append(f"sets samplingFactor to {factor}, which has no effect: results have the job's cell size")
        return [f"The raster function “{self.path.name}” {one}." for one in told]

    def blocks(self, pixels: Array, mask: Array, composite: bool) -> Dict[str, Any]:
        """Return the job's raster under the names by which the function knows it.

        A parameter of the type “rasters” gets a list, or with ``compositeRasters`` all of them as one raster.
        """
        name, is_list = self._raster
        if is_list and composite:
            return {"compositeraster_pixels": pixels, "compositeraster_mask": mask}
        if is_list:
            return {f"{name}_pixels": [pixels], f"{name}_mask": [mask]}
        return {f"{name}_pixels": pixels, f"{name}_mask": mask}

    @property
    def _raster(self) -> Tuple[str, bool]:
        """The name of the parameter that takes the job's raster, and whether it takes a list."""
        kinds = {str(one.get("name", "")): str(one.get("dataType", "")) for one in self._infos}
        found = next(((name, kind) for name, kind in kinds.items() if kind in ("raster", "rasters")), ("raster", ""))
        return found[0], found[1] == "rasters"

    def raster_info(self, source: Mapping[str, Any]) -> RasterInfo:
        """Ask for the output raster's properties; ``source`` has the input's (bandCount, pixelType, ...)."""
        output = dict(source)
        if hasattr(self._instance, "updateRasterInfo"):
            name, is_list = self._raster
            given: Any = [dict(source)] if is_list else dict(source)
            named = {"output_info": output, f"{name}_info": given}
            answer = self._call("updateRasterInfo", self._instance.updateRasterInfo, **named)
            output = (answer or named)["output_info"]
        rows: List[Mapping[str, Any]] = []
        if output.get("rasterAttributeTable"):
            table = self._json(output["rasterAttributeTable"], "the attribute table")
            rows = [dict(one.get("attributes", {})) for one in table.get("features", [])]
        kind = str(output.get("pixelType", "i4"))
        return RasterInfo(int(output.get("bandCount", 1)), _PIXEL_TYPES.get(kind, kind), tuple(rows))

    def fields(self) -> List[Dict[str, str]]:
        """Return the declared fields of objects (name, type, alias), without id and shape; call after configuring."""
        if not hasattr(self._instance, "getFields"):
            return []
        answer = self._json(self._call("getFields", self._instance.getFields), "getFields")
        listed = answer.get("fields", []) if isinstance(answer, dict) else answer
        skip = {"esriFieldTypeOID", "esriFieldTypeGeometry"}
        return [dict(one) for one in listed if isinstance(one, dict) and one.get("type") not in skip]

    def geometry_type(self) -> int:
        """Return 1 point, 2 multipoint, 3 polyline or 4 polygon."""
        if not hasattr(self._instance, "getGeometryType"):
            return 4
        return int(self._call("getGeometryType", self._instance.getGeometryType))

    def vectorize(self, **blocks: Any) -> Dict[str, Any]:
        """Return the feature set (Esri JSON) of a block, or of a batch of chips."""
        answer = self._call("vectorize", self._instance.vectorize, **blocks)
        found = self._json((answer or {}).get("output_vectors", "{}"), "vectorize")
        if not isinstance(found, dict):
            raise self._wrong("vectorize", "no feature set")
        return found

    def update_pixels(
        self, corner: Tuple[float, float], shape: Tuple[int, ...], properties: Mapping[str, Any], **blocks: Any
    ) -> Array:
        """Return the output pixels (bands, rows, columns) of a block.

        A function with ``selectRasters`` is asked first which of its rasters it needs here, and given those alone.
        """
        blocks = self._selected(corner, shape, properties, blocks)
        answer = (
            self._call("updatePixels", self._instance.updatePixels, corner, shape, dict(properties), **blocks) or {}
        )
        found = np.asarray(answer.get("output_pixels"))
        if found.ndim == 2:
            found = found[np.newaxis]
        if found.ndim != 3 or found.dtype == object:
            raise self._wrong("updatePixels", "no output_pixels of bands, rows and columns")
        mask = answer.get("output_mask")
        if mask is None or mask is blocks.get("output_mask"):
            return found
        if np.asarray(mask).shape[-2:] != found.shape[1:]:
            raise self._wrong("updatePixels", "an output_mask of another size than output_pixels")
        hidden = np.broadcast_to(np.asarray(mask) == 0, found.shape)
        # What a function hides is no class and no value.
        nothing = np.nan if np.issubdtype(found.dtype, np.floating) else 0
        hidden_out: Array = np.where(hidden, np.array(nothing, dtype=found.dtype), found)
        return hidden_out

    def _selected(
        self, corner: Tuple[float, float], shape: Tuple[int, ...], properties: Mapping[str, Any], blocks: Dict[str, Any]
    ) -> Dict[str, Any]:
        """Return the blocks without those of rasters that ``selectRasters`` leaves out."""
        if not hasattr(self._instance, "selectRasters"):
            return blocks
        chosen = self._call("selectRasters", self._instance.selectRasters, corner, shape, dict(properties)) or ()
        rasters = {str(one.get("name")) for one in self._infos if str(one.get("dataType", "")).startswith("raster")}
        gone = rasters - set(map(str, chosen))
        gone |= {"compositeraster"} if rasters == gone else set()
        hidden = {f"{name}_{part}" for name in gone for part in ("pixels", "mask")}
        return {name: block for name, block in blocks.items() if name not in hidden}

    def _check_licence(self) -> None:
        if not hasattr(self._instance, "isLicensed"):
            return
        answer = self._call("isLicensed", self._instance.isLicensed, productName="Deep Raster", version="")
        if isinstance(answer, dict) and not answer.get("okToRun", True):
            raise ModelError(
                f"The raster function “{self.path.name}” refuses to run: {answer.get('message', 'no reason given')}.",
                stage=STAGE,
                file=str(self.path),
            )

    def _call(self, what: str, function: Any, *positional: Any, **named: Any) -> Any:
        return call(self.path, what, function, *positional, **named)

    def _json(self, text: Any, what: str) -> Any:
        if not isinstance(text, (str, bytes)):
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise self._wrong(what, f"no JSON ({error})") from error

    def _wrong(self, what: str, got: str) -> ModelError:
        return ModelError(
            f"The raster function “{self.path.name}” gave back {got} in {what}.",
            stage=STAGE,
            file=str(self.path),
            hint="Report this to the author of the package.",
        )
