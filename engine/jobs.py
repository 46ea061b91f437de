"""What may be asked of the engine: one frozen dataclass per job, to and from JSON, validated.

A job is complete in itself: the same JSON gives the same outputs from the dialog, a model, ``qgis_process`` and Python.
Paths are absolute. Coordinates carry their CRS. This module uses the standard library alone.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple, Type, TypeVar, Union

from .errors import JobError

AUTO, CPU, GPU = "AUTO", "CPU", "GPU"
MOSAICKED, ITEMS_SEPARATELY = "MOSAICKED", "ITEMS_SEPARATELY"


@dataclass(frozen=True)
class RasterInput:
    """A raster that GDAL can open.

    ``bands`` are 1-based and None means all; ``nodata`` overrides the file's own (one value per band of the file, or
    one for all); ``crs`` (WKT or authority code) replaces a missing or wrong one.
    """

    path: str
    name: str = ""
    bands: Optional[Tuple[int, ...]] = None
    nodata: Optional[Tuple[float, ...]] = None
    crs: str = ""
    open_options: Tuple[str, ...] = ()


@dataclass(frozen=True)
class VectorInput:
    """A vector layer that OGR can open; ``where`` is its subset filter, ``fids`` a selection (None: all features).

    ``crs`` (WKT or authority code) replaces a missing or wrong one.
    """

    path: str
    layer: str = ""
    where: str = ""
    fids: Optional[Tuple[int, ...]] = None
    crs: str = ""


@dataclass(frozen=True)
class Extent:
    """A rectangle in map units of ``crs`` (WKT or authority code; empty: that of the input raster)."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float
    crs: str = ""


@dataclass(frozen=True)
class RunOptions:
    """How a job that uses a network runs, shared by all inference jobs.

    ``workers`` is 0 for one per GPU or per core; ``gpu_id`` lists GPU indices, empty for all; ``trust`` holds
    ``sha256:<hash>`` of packages whose own code may run in this job.
    """

    arguments: Dict[str, str] = field(default_factory=dict)
    processing_mode: str = MOSAICKED
    extent: Optional[Extent] = None
    cell_size: float = 0.0
    mask: Optional[VectorInput] = None
    processor: str = AUTO
    gpu_id: Tuple[int, ...] = ()
    workers: int = 0
    cluster: str = ""
    resume: bool = True
    trust: Tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectObjects:
    """Find objects; ``output`` is a GeoPackage path. ``max_overlap`` is an IoU in 0..1, used when ``run_nms``."""

    inputs: Tuple[RasterInput, ...]
    model: str
    output: str
    options: RunOptions = RunOptions()
    run_nms: bool = True
    max_overlap: float = 0.1
    confidence_field: str = "Confidence"
    class_field: str = "Class"


@dataclass(frozen=True)
class ClassifyPixels:
    """Give every pixel a class (or a value); ``output`` is a GeoTIFF path (a folder when items run separately)."""

    inputs: Tuple[RasterInput, ...]
    model: str
    output: str
    options: RunOptions = RunOptions()
    confidence_output: str = ""
    probabilities_output: str = ""
    polygons_output: str = ""


@dataclass(frozen=True)
class ClassifyObjects:
    """Give every feature a class; without ``features`` every input raster is one object."""

    inputs: Tuple[RasterInput, ...]
    model: str
    output: str
    features: Optional[VectorInput] = None
    label_field: str = "ClassLabel"
    options: RunOptions = RunOptions()


@dataclass(frozen=True)
class DetectChange:
    """Classify change between two dates."""

    from_raster: RasterInput
    to_raster: RasterInput
    model: str
    output: str
    options: RunOptions = RunOptions()


@dataclass(frozen=True)
class SuppressNonMaximum:
    """Remove objects that overlap a better one of their class by more than ``max_overlap`` (IoU, 0..1)."""

    features: VectorInput
    output: str
    confidence_field: str = "Confidence"
    class_field: str = ""
    max_overlap: float = 0.0


@dataclass(frozen=True)
class ComputeAccuracy:
    """Compare detected objects with reference objects at ``min_iou`` (0..1), inside ``mask`` if given."""

    detected: VectorInput
    reference: VectorInput
    output: str
    report: str = ""
    detected_class_field: str = ""
    reference_class_field: str = ""
    confidence_field: str = "Confidence"
    min_iou: float = 0.5
    mask: Optional[VectorInput] = None


@dataclass(frozen=True)
class ExportTrainingData:
    """Cut labelled chips. Sizes and strides are pixels, ``buffer_radius`` map units, ``rotation`` degrees.

    Exactly one of ``labels`` (features) and ``label_raster`` may be given, or none for formats without labels.
    ``instances`` is the instance data of panoptic sets. ``stride`` of 0 means the tile size.
    """

    inputs: Tuple[RasterInput, ...]
    output: str
    format: str
    inputs2: Tuple[RasterInput, ...] = ()
    labels: Optional[VectorInput] = None
    label_raster: Optional[RasterInput] = None
    class_field: str = ""
    chip_format: str = "TIFF"
    tile_size_x: int = 256
    tile_size_y: int = 256
    stride_x: int = 0
    stride_y: int = 0
    all_tiles: bool = False
    buffer_radius: float = 0.0
    mask: Optional[VectorInput] = None
    rotation: float = 0.0
    reference_system: str = "MAP_SPACE"
    blacken: bool = False
    crop_mode: str = "FIXED_SIZE"
    instances: Optional[VectorInput] = None
    instances_raster: Optional[RasterInput] = None
    min_overlap: float = 0.0
    extent: Optional[Extent] = None
    cell_size: float = 0.0
    processing_mode: str = MOSAICKED
    split: Tuple[float, float, float] = (0.8, 0.1, 0.1)
    existing: str = "APPEND"
    workers: int = 0


@dataclass(frozen=True)
class TrainModel:
    """Train a network on folders of chips.

    ``epochs`` counts passes over the data; ``learning_rate`` of 0 picks the model family's own; ``validation`` is the
    share of chips held back, by spatial block; ``early_stopping`` is the number of epochs without progress (0: off).
    """

    inputs: Tuple[str, ...]
    output: str
    model_type: str
    backbone: str = ""
    backbone_weights: str = ""
    pretrained_model: str = ""
    epochs: int = 20
    batch_size: int = 0
    learning_rate: float = 0.0
    chip_size: int = 0
    validation: float = 0.1
    augmentation: str = "DEFAULT"
    early_stopping: int = 0
    freeze: bool = False
    arguments: Dict[str, str] = field(default_factory=dict)
    seed: int = 42
    processor: str = AUTO
    gpu_id: Tuple[int, ...] = ()
    resume: bool = True
    name: str = "model"


@dataclass(frozen=True)
class CreatePackage:
    """Write a ``.dlpk`` from a definition (an ``.emd`` or a bare network file) and further ``files``."""

    definition: str
    output: str
    files: Tuple[str, ...] = ()
    answers: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageInfo:
    """Describe a model package; ``html`` and ``json`` are paths of the card to write (empty: not written)."""

    model: str
    html: str = ""
    json: str = ""
    trust: Tuple[str, ...] = ()


Job = Union[
    DetectObjects,
    ClassifyPixels,
    ClassifyObjects,
    DetectChange,
    SuppressNonMaximum,
    ComputeAccuracy,
    ExportTrainingData,
    TrainModel,
    CreatePackage,
    PackageInfo,
]

JOBS: Dict[str, Type[Any]] = {
    "detectobjects": DetectObjects,
    "classifypixels": ClassifyPixels,
    "classifyobjects": ClassifyObjects,
    "detectchange": DetectChange,
    "nonmaximumsuppression": SuppressNonMaximum,
    "computeaccuracy": ComputeAccuracy,
    "exporttrainingdata": ExportTrainingData,
    "trainmodel": TrainModel,
    "createpackage": CreatePackage,
    "packageinfo": PackageInfo,
}
_NAMES = {kind: name for name, kind in JOBS.items()}

T = TypeVar("T")


def to_dict(job: Job) -> Dict[str, Any]:
    """Return the job as a JSON-ready object with its name under ``job``; :func:`from_dict` is the inverse."""
    return {"job": _NAMES[type(job)], **dataclasses.asdict(job)}


def from_dict(members: Dict[str, Any]) -> Job:
    """Build the job of a JSON object.

    Raises:
        JobError: the name is unknown, or a parameter is missing, unknown or of the wrong type.
    """
    members = dict(members)
    name = members.pop("job", None)
    kind = JOBS.get(str(name))
    if kind is None:
        raise JobError(f"The engine knows no job called “{name}”.", hint=f"It knows {', '.join(sorted(JOBS))}.")
    job: Job = value_from_dict(kind, members, str(name))
    return job


def value_from_dict(kind: Type[T], members: Any, where: str) -> T:
    """Build the frozen dataclass ``kind`` from a JSON object; ``where`` names it in errors."""
    if not isinstance(members, dict):
        raise JobError(f"{where}: an object is expected, found {members!r}.")
    hints = _hints(typing.cast(Any, kind))
    known = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(members) - set(known))
    if unknown:
        raise JobError(f"{where}: unknown parameter {', '.join(unknown)}.", hint=f"Known are {', '.join(known)}.")
    values = {}
    for name, one in known.items():
        if name in members:
            values[name] = _decode(hints[name], members[name], f"{where}.{name}")
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise JobError(f"{where}: the parameter {name} is missing.")
    return kind(**values)


@functools.cache
def _hints(kind: Type[Any]) -> Dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Return ``value`` as the type ``hint`` asks for, or raise :class:`JobError`."""
    origin = typing.get_origin(hint)
    if origin is Union:  # Optional[X] is the only union used in jobs
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        return None if value is None else _decode(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise JobError(f"{where}: a list is expected, found {value!r}.")
        kinds = typing.get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_decode(kinds[0], one, f"{where}[{i}]") for i, one in enumerate(value))
        if len(kinds) != len(value):
            raise JobError(f"{where}: {len(kinds)} values are expected, found {len(value)}.")
        return tuple(_decode(one, part, f"{where}[{i}]") for i, (one, part) in enumerate(zip(kinds, value)))
    if origin is dict:
        if not isinstance(value, dict):
            raise JobError(f"{where}: an object is expected, found {value!r}.")
        return {str(key): _decode(typing.get_args(hint)[1], part, f"{where}.{key}") for key, part in value.items()}
    if dataclasses.is_dataclass(hint):
        return value_from_dict(typing.cast(Any, hint), value, where)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    raise JobError(f"{where}: {getattr(hint, '__name__', hint)} is expected, found {value!r}.")
