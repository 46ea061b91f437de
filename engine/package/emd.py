"""Model definitions (``.emd``): one tolerant reader, one typed value, one strict writer.

Reading accepts what ArcGIS and its users write (see :mod:`.lenient`), turns it into a :class:`ModelDefinition` and
reports everything that cannot be used in one :class:`~..errors.DefinitionError`. Unknown keys are kept. A definition
written here and read again is equal. The standard library alone is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ..errors import DefinitionError
from . import lenient, vocabulary
from .lenient import clip
from .reading import CellSize, ClassInfo, read_bands, read_cell_size, read_classes, read_configuration
from .values import Findings, Members, show, to_number, to_path, without_placeholders

MAX_SIDE = 16_384


@dataclass(frozen=True)
class ModelDefinition:
    """What a network is, what it wants and what it gives.

    Attributes:
        framework: "TensorFlow", "PyTorch", ... in its usual spelling; empty for custom inference functions.
        configuration: name of the predefined configuration in its usual spelling, or empty.
        configuration_members: the configuration's object (``Name``, ``Architecture``, ...).
        model_type: "ObjectDetection", ... in its usual spelling; other words are kept as they are.
        model_file: path of the weights relative to the definition, with forward slashes; empty if there is none.
        model_files: further files of models that need several.
        inference_function: the custom or built-in function as the definition names it, or empty.
        image_width, image_height: pixels of one input image; 0 if not stated.
        extract_bands: 0-based band numbers or band names, in the network's order; empty if not stated.
        classes: classes in the order of the file, which is the order of a detector's outputs.
        data_range: (low, high) to which pixel values are rescaled first, or None.
        model_padding: border in pixels that the network itself consumes, or None.
        padding: default of the argument ``padding`` of custom functions, pixels.
        batch_size: images per call fixed by the definition, or None.
        threshold: default of the argument ``threshold``, or None.
        min_cell_size, max_cell_size: range of cell sizes of the training imagery, or None.
        crop_size_fixed: True if chips around features have the image size, False for the smallest rectangle.
        blacken_around_feature: whether pixels outside the feature are set to 0.
        image_space_used: "MAP_SPACE" or "PIXEL_SPACE".
        fixed_tile_size: whether every block must have the full size.
        supports_variable_tile_size: whether the tile size may be chosen.
        members: all members of the file in their order, unknown ones included.
        warnings: what was mended or is unusual; not part of equality.
    """

    framework: str
    configuration: str
    configuration_members: Dict[str, Any]
    model_type: str
    model_file: str
    model_files: Tuple[str, ...]
    inference_function: str
    image_width: int
    image_height: int
    extract_bands: Tuple[Union[int, str], ...]
    classes: Tuple[ClassInfo, ...]
    data_range: Optional[Tuple[float, float]]
    model_padding: Optional[int]
    padding: int
    batch_size: Optional[int]
    threshold: Optional[float]
    min_cell_size: Optional[CellSize]
    max_cell_size: Optional[CellSize]
    crop_size_fixed: bool
    blacken_around_feature: bool
    image_space_used: str
    fixed_tile_size: bool
    supports_variable_tile_size: bool
    members: Dict[str, Any] = field(hash=False)
    warnings: Tuple[str, ...] = field(default=(), compare=False)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a raw member; ``default`` if it is missing or null."""
        value = self.members.get(key)
        return default if value is None else value

    @property
    def tools(self) -> Tuple[str, ...]:
        """Names of the jobs that accept this type of model."""
        return vocabulary.TOOLS.get(self.model_type, ())

    @property
    def function_name(self) -> str:
        """File name of the inference function without folders, or empty."""
        return to_path(self.inference_function).replace("\\", "/").rpartition("/")[2]

    @property
    def has_several_labels(self) -> bool:
        """Whether classes of a classifier do not exclude each other."""
        return bool(self.get("MetaDataMode", "") == "MultiLabeled_Tiles")

    @property
    def names_builtin_function(self) -> bool:
        r"""Whether the inference function is part of an ArcGIS installation (``[Functions]System\\...``)."""
        return "[functions]" in self.inference_function.casefold()


Source = Union[str, bytes, Path]


def read_definition(source: Source) -> ModelDefinition:
    """Read a definition from a path, its bytes, or the JSON text itself.

    Raises:
        DefinitionError: it cannot be read or used; ``problems`` holds every finding.
    """
    if isinstance(source, bytes):
        return _from_bytes(source)
    if isinstance(source, str) and lenient.is_object_text(source):
        return _from_text(source, ())
    try:
        path = Path(source)
        if not path.is_file():
            raise DefinitionError(
                f"There is no model definition “{clip(source)}”.",
                file=clip(source, 300),
                problems=(f"file: found nothing at “{clip(source)}”, expected an .emd file",),
                hint="Check the path, or give the definition's JSON text itself.",
            )
        with path.open("rb") as file:
            data = file.read(lenient.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    try:
        return _from_bytes(data)
    except DefinitionError as error:
        error.file = str(path)
        raise


def _unreadable(source: Any, error: Exception) -> DefinitionError:
    if isinstance(error, DefinitionError):
        return error
    reason = clip(getattr(error, "strerror", None) or error)
    return DefinitionError(
        f"The model definition “{clip(source)}” cannot be read: {reason}.",
        problems=(f"file: found “{clip(source)}” ({reason}), expected a readable .emd file",),
    )


def _from_bytes(data: bytes) -> ModelDefinition:
    text, notes = lenient.decode(data)
    return _from_text(text, notes)


def _from_text(text: str, notes: Tuple[str, ...]) -> ModelDefinition:
    parsed = lenient.parse(text)
    return build_definition(parsed.value, notes + parsed.mended)


def build_definition(members: Any, notes: Tuple[str, ...] = ()) -> ModelDefinition:
    """Build a definition from the members of its JSON object (which are copied), after ``notes`` from reading it."""
    findings = Findings()
    for note in notes:
        findings.warn(note)
    if not isinstance(members, Mapping):
        findings.problem("definition", members, "a JSON object in braces")
        raise _refused(findings, {})
    kept = without_placeholders(dict(members), findings)
    values = _typed(Members(kept, findings))
    if findings.problems:
        raise _refused(findings, dict(members))
    return ModelDefinition(members=kept, warnings=tuple(findings.warnings), **values)


def _refused(findings: Findings, members: Dict[str, Any]) -> DefinitionError:
    count = len(findings.problems)
    hint = ""
    if "MetaDataMode" in members and "ModelFile" in members and any("Framework" in one for one in findings.problems):
        hint = "This looks like the template that an export of training data writes; it describes no trained model yet."
    return DefinitionError(
        f"The model definition cannot be used ({count} problem{'s' if count > 1 else ''}): "
        + "; ".join(findings.problems[:20])
        + ".",
        problems=findings.problems,
        hint=hint,
    )


def _typed(read: Members) -> Dict[str, Any]:
    """Return the typed attributes; problems are noted, and what was put right is put right in the members, too."""
    members, findings = read.members, read.findings
    framework = vocabulary.framework(read.text("Framework"))
    function = to_path(read.text("InferenceFunction"))
    configuration, configuration_members = read_configuration(read, framework)
    minimum, maximum = read_cell_size(read, "MinCellSize"), read_cell_size(read, "MaxCellSize")
    width, height = _image_size(read)
    values = {
        "framework": framework,
        "configuration": configuration,
        "configuration_members": configuration_members,
        "model_type": _model_type(read, framework, configuration, bool(function)),
        "model_file": normal_path(read.text("ModelFile")),
        "model_files": _file_list(read),
        "inference_function": function,
        "image_width": width,
        "image_height": height,
        "extract_bands": read_bands(read),
        "classes": read_classes(read),
        "data_range": _data_range(read),
        "model_padding": read.integer("ModelPadding", 0, MAX_SIDE),
        "padding": read.integer("Padding", 0, MAX_SIDE) or 0,
        "batch_size": read.integer("BatchSize", 1, 65_536),
        "threshold": read.number("Threshold", 0, 100),
        "min_cell_size": minimum,
        "max_cell_size": maximum,
        "crop_size_fixed": read.flag("CropSizeFixed") is not False,
        "blacken_around_feature": bool(read.flag("BlackenAroundFeature")),
        "image_space_used": _image_space(read),
        "fixed_tile_size": bool(read.flag("fixedTileSize")),
        "supports_variable_tile_size": bool(read.flag("SupportsVariableTileSize")),
    }
    _check_use(values, members, findings)
    return values


def _check_use(values: Dict[str, Any], members: Dict[str, Any], findings: Findings) -> None:
    """Note what is missing for any use of the definition."""
    function = values["inference_function"]
    if not values["framework"] and not function:
        expected = f"one of {', '.join(vocabulary.FRAMEWORKS)}, or an InferenceFunction"
        findings.problem("Framework", members.get("Framework"), expected)
    needs_configuration = values["framework"] not in ("", *vocabulary.SELF_DESCRIBING)
    if needs_configuration and not values["configuration"] and not function:
        findings.problem("ModelConfiguration", members.get("ModelConfiguration"), "the name of a configuration")
    others = (
        values["model_files"] or isinstance(members.get("ONNX"), dict) or isinstance(members.get("TorchScript"), dict)
    )
    if not values["model_file"] and not function and not others:
        findings.problem("ModelFile", members.get("ModelFile"), "the name of the weights file")


def normal_path(value: str) -> str:
    """Return a path of a definition with forward slashes and without leading ``./``; nothing else is judged here."""
    path = to_path(value).replace("\\", "/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def _file_list(read: Members) -> Tuple[str, ...]:
    value = read.members.get("ModelFiles")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        read.findings.problem("ModelFiles", value, "a list of file names")
        return ()
    return tuple(normal_path(one) for one in value)


def _model_type(read: Members, framework: str, configuration: str, custom: bool) -> str:
    given = read.text("ModelType")
    if given:
        word = vocabulary.model_type(given)
        if word != given:
            read.findings.warn(f"ModelType {show(given)} is read as {word}.")
            read.members["ModelType"] = word
        elif word not in vocabulary.MODEL_TYPES:
            read.findings.warn(f"ModelType {show(word)} is no model for rasters; no tool accepts it.")
        return word
    usual = vocabulary.CONFIGURATIONS.get((framework, configuration), ())
    if usual:
        read.findings.warn(f"ModelType is missing; {configuration} models are usually {usual[0]}.")
        return usual[0]
    if not custom:
        read.findings.problem("ModelType", read.members.get("ModelType"), f"one of {', '.join(vocabulary.MODEL_TYPES)}")
    return ""


def _image_size(read: Members) -> Tuple[int, int]:
    width = read.integer("ImageWidth", 1, MAX_SIDE) or 0
    height = read.integer("ImageHeight", 1, MAX_SIDE) or 0
    if not width or not height:
        width, height = width or height, height or width
        if not read.findings.problems:
            read.findings.warn("ImageWidth or ImageHeight is missing" + (", the other one is used." if width else "."))
    return width, height


def _image_space(read: Members) -> str:
    given = read.text("ImageSpaceUsed").upper()
    if given in ("", "MAP_SPACE"):
        return "MAP_SPACE"
    if given in ("PIXEL_SPACE", "IMAGE_SPACE"):
        return "PIXEL_SPACE"
    read.findings.problem("ImageSpaceUsed", given, "MAP_SPACE or PIXEL_SPACE")
    return "MAP_SPACE"


def _data_range(read: Members) -> Optional[Tuple[float, float]]:
    value = read.members.get("DataRange")
    if value is None or value == []:
        return None
    numbers = [to_number(one) for one in value] if isinstance(value, list) and len(value) == 2 else [None, None]
    low, high = numbers
    if low is None or high is None or low >= high:
        read.findings.problem("DataRange", value, "two numbers, the smaller one first")
        return None
    read.members["DataRange"] = [low, high]
    return low, high


# Order in which arcgis.learn writes members; whatever is not named here is special to a model and comes before Classes.
_HEAD = ("Framework", "InferenceFunction", "ModelConfiguration", "ModelType", "MetaDataMode", "ExtractBands")
# fmt: off
_TAIL = (
    "Classes", "ModelFormat", "MinCellSize", "MaxCellSize", "SupportsVariableTileSize", "ArcGISLearnVersion",
    "monitored_", "ModelFile", "ModelFiles", "ImageHeight", "ImageWidth", "ImageSpaceUsed", "LearningRate",
    "ModelName", "Version", "Description", "backend", "ModelParameters", "accuracy", "average_precision_score",
    "precision", "recall", "f1", "mIoU", "PSNR", "SSIM", "FID", "FID_A", "FID_B", "score", "panoptic_quality",
    "resize_to", "IsMultispectral", "IsImageNetNormalization", "Bands", "ImageryType", "NormalizationStats",
    "NormalizationStats_b", "NormalizationStats_c", "DoNormalize", "per_class_metrics", "ExpMap", "ONNX",
    "TorchScript",
)
# fmt: on
_RANK = {key: rank for rank, key in enumerate(_HEAD)}
_RANK.update({key: 1000 + rank for rank, key in enumerate(_TAIL)})


def _rank(key: str) -> int:
    return _RANK.get("monitored_" if key.startswith("monitored_") else key, 500)


def write_definition(definition: Union[ModelDefinition, Mapping[str, Any]]) -> str:
    """Return the definition as strict JSON: the writers' key order, indent 4, no NaN.

    Raises:
        DefinitionError: a member is no JSON value.
    """
    members = definition.members if isinstance(definition, ModelDefinition) else definition
    ordered = {key: members[key] for key in sorted(members, key=_rank)}
    try:
        return json.dumps(_strict(ordered, 0), indent=4, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, UnicodeError) as error:
        problem = f"members: found something that JSON has no word for ({clip(error)}), expected JSON values"
        raise DefinitionError("The model definition cannot be written.", problems=(problem,)) from error


def _strict(value: Any, depth: int) -> Any:
    """Return ``value`` with null for numbers that are not finite; deeper than a reader accepts is an error."""
    if depth > lenient.MAX_DEPTH:
        raise ValueError(f"more than {lenient.MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {str(key): _strict(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        items: List[Any] = [_strict(one, depth + 1) for one in value]
        return items
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
