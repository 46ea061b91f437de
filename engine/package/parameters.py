"""The arguments that a model offers, known from its definition alone, and the text in which people give them.

The sets are those of the built-in and arcgis.learn inference functions (esri/raster-deep-learning and the published
tools), so that a script written for them finds the same names and defaults. Custom functions declare theirs in code,
which is read here (:mod:`.declared`) but not run.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import JobError
from . import vocabulary
from .argument_texts import TEXTS
from .emd import ModelDefinition
from .lenient import clip
from .values import to_flag, to_number

INT, FLOAT, BOOL, TEXT, CHOICE = "int", "float", "bool", "text", "choice"
FLAG = ("True", "False")


@dataclass(frozen=True)
class ModelParameter:
    """One argument of a model.

    Attributes:
        name: its name in scripts.
        kind: "int", "float", "bool", "text" or "choice".
        default: as text; "True" or "False" for booleans.
        minimum, maximum: inclusive bounds of numbers, or None.
        choices: allowed texts of a choice.
        label, description: for people.
    """

    name: str
    kind: str
    default: str
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    choices: Tuple[str, ...] = ()
    label: str = ""
    description: str = ""


def declared_parameters(definition: ModelDefinition) -> Tuple[ModelParameter, ...]:
    """Return the arguments of a definition's model; custom functions get those that their template fixes."""
    names = _names(definition)
    made = (_parameter(name, definition) for name in names)
    return tuple(_with_default(one, definition) for one in made)


def _names(definition: ModelDefinition) -> List[str]:
    """Return the names of the arguments, in the order in which the published functions list them."""
    kind, configuration = definition.model_type, definition.configuration
    names: List[str] = []
    if kind == "InstanceDetection" and definition.framework == vocabulary.ARCGIS_LEARN:
        names = ["padding", "batch_size", "threshold", "return_bboxes"]
    elif kind in ("ObjectDetection", "InstanceDetection", "PanopticSegmenter"):
        names = ["padding", "threshold", "nms_overlap", "batch_size"]
        if configuration in ("ObjectDetectionAPI", "MaskRCNN", "FastaiSSD"):
            names = ["padding", "score_threshold", "batch_size"]
        elif kind == "InstanceDetection":
            names.append("return_bboxes")
    elif kind == "ObjectClassification":
        names = ["batch_size", "resampled_image_size"] if configuration == "KerasClassifier" else ["batch_size"]
        if definition.has_several_labels:
            names.append("threshold")
    elif kind in ("ImageClassification", "CycleGAN", "Pix2Pix", "Pix2PixHD", "SuperResolution"):
        names = ["padding", "batch_size"]
        if _describes_itself(definition):
            names.append("threshold")
        elif kind == "ImageClassification" and configuration not in ("DeepLab", "MaskRCNN", "change_detection"):
            names.append("predict_background")
    if kind in vocabulary.TOOLS and kind not in ("CycleGAN", "Pix2Pix", "Pix2PixHD", "ImageCaptioner"):
        names.append("test_time_augmentation")
    members = definition.configuration_members
    if (definition.framework, configuration) == vocabulary.KERAS_MASK_RCNN and members.get("Architecture"):
        names.append("own_code")
    if definition.supports_variable_tile_size and kind != "ObjectClassification":
        names.append("tile_size")
    hidden = {"batch_size"} if definition.batch_size is not None or configuration == "DeepLab" else set()
    if definition.model_padding is not None:
        hidden.add("padding")
    return [name for name in names if name not in hidden]


def _describes_itself(definition: ModelDefinition) -> bool:
    return definition.framework in vocabulary.SELF_DESCRIBING


def _parameter(name: str, definition: ModelDefinition) -> ModelParameter:
    side = definition.image_height or 256
    batch = 1 if definition.configuration in ("ObjectDetectionAPI", "MaskRCNN", "FastaiSSD") else 4
    output = definition.configuration_members.get("Output")
    stated: Mapping[str, Any] = output if isinstance(output, Mapping) else {}
    overlap = stated.get("Overlap", 0.45) if _describes_itself(definition) else 0.1
    table: Dict[str, Tuple[str, Any, Optional[float], Optional[float]]] = {
        "padding": (INT, _padding(definition, side), 0, (side - 1) // 2),
        "threshold": (FLOAT, _threshold(definition, stated), 0, 1),
        "score_threshold": (FLOAT, 0.6, 0, 1),
        "nms_overlap": (FLOAT, overlap, 0, 1),
        "batch_size": (INT, batch, 1, 4_096),
        "return_bboxes": (BOOL, "False", None, None),
        "predict_background": (BOOL, _background(definition), None, None),
        "own_code": (BOOL, "False", None, None),
        "test_time_augmentation": (BOOL, "False", None, None),
        "tile_size": (INT, side, 32, 16_384),
        "resampled_image_size": (INT, 64, 8, 4_096),
    }
    kind, default, low, high = table[name]
    return ModelParameter(name, kind, str(default), low, high, FLAG if kind == BOOL else (), *TEXTS[name])


def _padding(definition: ModelDefinition, side: int) -> int:
    """Return the usual context: that of the definition, else what the tools of the framework take."""
    if definition.padding or "Padding" in definition.members:
        return min(definition.padding, (side - 1) // 2)
    if _describes_itself(definition):
        return side // 8
    plain = definition.framework in ("TensorFlow", "Keras") or definition.configuration == "FastaiSSD"
    return 0 if plain else side // 4


def _threshold(definition: ModelDefinition, output: Mapping[str, Any]) -> float:
    usual = {"_maskrcnn_inferencing": 0.9, "_yolov3_inference": 0.1}.get(definition.configuration, 0.5)
    number = to_number(output.get("Threshold")) if _describes_itself(definition) else None
    return usual if number is None else number


def _background(definition: ModelDefinition) -> str:
    """Class 0 is predicted unless several classes exist and none has the value 0."""
    values = [one.value for one in definition.classes]
    return "False" if 0 not in values and len(values) > 1 else "True"


def _with_default(parameter: ModelParameter, definition: ModelDefinition) -> ModelParameter:
    """Return the parameter with the default that the definition itself states, where it is a legal one."""
    key = {"threshold": "Threshold", "score_threshold": "Threshold"}.get(parameter.name, parameter.name)
    stated = definition.get(key)
    if stated is None or isinstance(stated, (list, dict)):
        return parameter
    try:
        default = _checked(parameter, str(stated))
    except JobError:
        return parameter
    return ModelParameter(**{**parameter.__dict__, "default": default})


def parse_arguments(text: Union[str, Mapping[str, Any], None]) -> Dict[str, str]:
    """Parse arguments given as ``name=value;name=value``, as ArcGIS's ``name value;name value``, or as JSON.

    Raises:
        JobError: the text is none of these.
    """
    if text is None:
        return {}
    if not isinstance(text, str):
        return {str(name): _text(value) for name, value in text.items()}
    text = text.strip()
    if text.startswith("{"):
        try:
            members = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JobError(f"The model arguments are not valid JSON: {clip(error)}.", hint=_FORM) from error
        return {str(name): _text(value) for name, value in members.items()}
    found: Dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        name, mark, value = part.partition("=")
        if not mark:
            name, mark, value = part.partition(" ")
        name, value = name.strip(), _unquoted(value.strip())
        if not mark or not name:
            raise JobError(f"The model argument “{clip(part)}” has no value.", hint=_FORM)
        if name in found:
            raise JobError(f"The model argument {clip(name)} is given twice.", hint=_FORM)
        found[name] = value
    return found


_FORM = "Write for example “padding=56;threshold=0.5”."


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def resolve_arguments(parameters: Sequence[ModelParameter], given: Mapping[str, str]) -> Dict[str, str]:
    """Return every argument with its value: the given one, checked and put as functions expect it, or the default.

    Integers have no decimal point and booleans are "True" or "False", because published functions parse them so.

    Raises:
        JobError: an argument is unknown (the known ones are listed) or its value is not allowed.
    """
    known = {one.name: one for one in parameters}
    unknown = [name for name in given if name not in known]
    if unknown:
        listed = ", ".join(f"{one.name} (default {one.default})" for one in parameters) or "none"
        raise JobError(
            f"The model has no argument called {', '.join(clip(name) for name in unknown)}.",
            stage="reading the model arguments",
            hint=f"Its arguments are: {listed}.",
        )
    return {
        name: _checked(one, given[name]) if str(given.get(name, "")).strip() else one.default
        for name, one in known.items()
    }


def _checked(parameter: ModelParameter, value: str) -> str:
    """Return a value in its proper spelling, or raise :class:`JobError`."""
    value = str(value).strip()
    if parameter.kind == BOOL:
        flag = to_flag(value)
        if flag is None:
            raise _refused(parameter, value, "True or False")
        return "True" if flag else "False"
    if parameter.kind == CHOICE:
        for choice in parameter.choices:
            if choice.casefold() == value.casefold():
                return choice
        raise _refused(parameter, value, f"one of {', '.join(parameter.choices)}")
    if parameter.kind not in (INT, FLOAT):
        return value
    number = to_number(value)
    low = -math.inf if parameter.minimum is None else parameter.minimum
    high = math.inf if parameter.maximum is None else parameter.maximum
    whole = parameter.kind == INT
    if number is None or not low <= number <= high or (whole and number != int(number)):
        bounds = "" if math.isinf(low) and math.isinf(high) else f" from {low:g} to {high:g}"
        raise _refused(parameter, value, f"a {'whole ' if whole else ''}number{bounds}")
    return str(int(number)) if whole else value


def _refused(parameter: ModelParameter, value: str, expected: str) -> JobError:
    return JobError(
        f"The model argument {parameter.name} is “{clip(value)}”; expected is {expected}.",
        stage="reading the model arguments",
    )
