"""What the inputs and outputs of a bare network file mean: the roles that a definition gives to its tensors.

An ONNX or TorchScript file says which tensors go in and come out, not what they mean. ``ModelConfiguration`` of the
definition says it, in two objects ``Input`` and ``Output``; ``docs/onnx.md`` describes their members. This module
reads and writes them, and needs no framework.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple

from ..errors import DefinitionError
from .anchors import AnchorRole

if TYPE_CHECKING:
    from ..package.emd import ModelDefinition

PIXEL_SCORES, PIXEL_CLASSES, BANDS = "PixelScores", "PixelClasses", "Bands"
ROWS, BOXES, END_TO_END = "Rows", "Boxes", "EndToEnd"
IMAGE_SCORES = "ImageScores"
KINDS = (PIXEL_SCORES, PIXEL_CLASSES, BANDS, ROWS, BOXES, END_TO_END, IMAGE_SCORES)
DETECTION_KINDS = (ROWS, BOXES, END_TO_END)
TENSORS = ("Main", "Boxes", "Scores", "Labels", "Prototypes", "Masks", "Anchors")

_CHOICES: dict[str, Tuple[str, ...]] = {
    "Kind": KINDS,
    "Layout": ("NCHW", "NHWC"),
    "Type": ("float32", "float16", "float64", "uint8", "uint16", "int16", "int32", "int64"),
    "Activation": ("none", "sigmoid", "softmax"),
    "Background": ("none", "first", "last"),
    "BoxFormat": ("xyxy", "yxyx", "xywh", "cxcywh"),
    "BoxUnits": ("pixels", "fraction"),
    "Orientation": ("rows", "columns"),
    "Meaning": ("position", "value"),
    "Encoding": ("none", "anchors", "grid"),
    "Angle": ("none", "radians", "degrees"),
}
_COLUMNS = (
    "xmin",
    "ymin",
    "xmax",
    "ymax",
    "cx",
    "cy",
    "width",
    "height",
    "angle",
    "score",
    "label",
    "image",
    "ignored",
)
_SIZES = ("Width", "Height", "Scale")


@dataclass(frozen=True)
class InputRole:
    """How images are handed to the network.

    Attributes:
        name: tensor that takes the images; empty for the first.
        layout: "NCHW" or "NHWC"; with ``batched`` False the images have no first axis and go in one by one.
        type: element type that the network wants.
        multiple: sides of the image must be a multiple of this (networks that take any size).
        extra: further inputs that want the image's size, name to a list of "Width", "Height" or "Scale" (1).
    """

    name: str = ""
    layout: str = "NCHW"
    type: str = "float32"
    batched: bool = True
    multiple: int = 1
    extra: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputRole:
    """What the network's output means.

    Attributes:
        kind: one of :data:`KINDS`.
        tensors: role (one of :data:`TENSORS`) to tensor name; the levels of a head are "Boxes.0", "Boxes.1" and so on.
        activation: what turns raw scores into probabilities.
        background: position of the "nothing" class among the scores of boxes.
        first_label: label number that stands for the first class.
        meaning: of class maps, whether numbers are positions in ``Classes`` or their values.
        layout: "NCHW" or "NHWC", of pixel outputs.
        box_format, box_units: how four numbers become a box.
        objectness: of Rows, whether column 5 is the objectness that multiplies the class scores.
        orientation: of Rows, "rows" (N, boxes, numbers) or "columns" (N, numbers, boxes).
        columns: of EndToEnd, what each number of a row is.
        encoding: whether boxes are offsets from "anchors", or from the cells of a "grid".
        anchors: where the anchors lie; None if the network puts them out itself.
        weights: what offsets from anchors are multiplied by.
        strides: of "grid", pixels per cell of each level.
        angle: of Rows, the unit of the last number, by which boxes are turned.
        suppress: whether overlapping boxes are still to be removed.
        multi_label: whether one box may be reported for several classes.
        scale: output pixels per input pixel (super-resolution).
        factor: what regression values are multiplied by.
        threshold: score (detection) or probability (one-channel segmentation) to exceed; None for 0.5.
        overlap: intersection over union above which the weaker box goes.
    """

    kind: str
    tensors: Mapping[str, str] = field(default_factory=dict)
    activation: str = "none"
    background: str = "none"
    first_label: int = 0
    meaning: str = "position"
    layout: str = "NCHW"
    box_format: str = "xyxy"
    box_units: str = "pixels"
    objectness: bool = False
    orientation: str = "rows"
    columns: Tuple[str, ...] = ("xmin", "ymin", "xmax", "ymax", "score", "label")
    encoding: str = "none"
    anchors: Optional[AnchorRole] = None
    weights: Tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    strides: Tuple[float, ...] = ()
    angle: str = "none"
    suppress: bool = False
    multi_label: bool = False
    scale: int = 1
    factor: float = 1.0
    threshold: Optional[float] = None
    overlap: float = 0.45


@dataclass(frozen=True)
class NetworkRoles:
    """Input and output of a network file."""

    input: InputRole
    output: OutputRole

    @classmethod
    def from_definition(cls, definition: ModelDefinition, proposal: Optional[Mapping[str, Any]] = None) -> NetworkRoles:
        """Read the roles of a definition; members it leaves out are taken from ``proposal``.

        Args:
            definition: a definition whose ``ModelConfiguration`` may have ``Input`` and ``Output``.
            proposal: a ``ModelConfiguration`` object proposed from the file itself.

        Raises:
            DefinitionError: a member has a value that is not known; every such member is listed.
        """
        stated: Mapping[str, Any] = definition.configuration_members or {}
        proposed = proposal or {}
        merged: dict[str, dict[str, Any]] = {}
        for part in ("Input", "Output"):
            own, other = stated.get(part) or {}, proposed.get(part) or {}
            if not isinstance(own, Mapping):
                raise DefinitionError(
                    f"{part} in ModelConfiguration of the model definition must be an object.",
                    stage="reading the definition",
                )
            # A stated kind that differs from the guess makes the rest of the guess worthless.
            differs = part == "Output" and own.get("Kind", other.get("Kind")) != other.get("Kind")
            merged[part] = dict(own) if differs else {**other, **own}
        return cls.from_members(merged)

    @classmethod
    def from_members(cls, members: Mapping[str, Mapping[str, Any]]) -> NetworkRoles:
        """Read the objects ``Input`` and ``Output``; :meth:`to_members` is the inverse."""
        problems: list[str] = []
        source, result = members.get("Input") or {}, members.get("Output") or {}
        if not result.get("Kind"):
            problems.append(f"Output.Kind is missing; it is one of {', '.join(KINDS)}")
        image = InputRole(**_read(InputRole, source, "Input", problems))
        values = _read(OutputRole, result, "Output", problems)
        values.setdefault("kind", "")
        answer = OutputRole(**values)
        problems += _check_lists(image, answer)
        if problems:
            raise DefinitionError(
                "The model definition does not say what the network's tensors mean: " + "; ".join(problems) + ".",
                problems=problems,
                stage="reading the definition",
                hint="The members Input and Output of ModelConfiguration are described in docs/onnx.md.",
            )
        return cls(image, answer)

    def to_members(self) -> dict[str, dict[str, Any]]:
        """Return ``Input`` and ``Output`` with the members that differ from the defaults."""
        return {"Input": _write(self.input, InputRole()), "Output": _write(self.output, OutputRole(""))}


def _member(name: str) -> str:
    """Return the definition's spelling of an attribute ("box_format" becomes "BoxFormat")."""
    return "".join(part.capitalize() for part in name.split("_"))


def _read(kind: type[Any], members: Mapping[str, Any], place: str, problems: list[str]) -> dict[str, Any]:
    names = {_member(item.name): item for item in fields(kind)}
    problems += [f"{place}.{name} is not known" for name in members if name not in names]
    values: dict[str, Any] = {}
    for name, item in names.items():
        if name not in members or members[name] is None:
            continue
        try:
            values[item.name] = _convert(name, members[name], str(item.type))
        except (TypeError, ValueError) as error:
            problems.append(f"{place}.{name}: {error}")
    return values


def _convert(name: str, value: Any, kind: str) -> Any:
    if name in _CHOICES:
        for choice in _CHOICES[name]:
            if str(value).lower() == choice.lower():
                return choice
        raise ValueError(f"'{value}' is none of {', '.join(_CHOICES[name])}")
    if name == "Anchors":
        return AnchorRole.from_members(value)
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value
    if kind == "int":
        if isinstance(value, bool) or int(value) != float(value) or int(value) < 0:
            raise ValueError(f"{value!r} is not a whole number of 0 or more")
        return int(value)
    if kind.startswith("Tuple[float"):
        return tuple(float(entry) for entry in value)
    if "float" in kind:
        return float(value)
    if kind.startswith("Tuple"):
        return tuple(str(entry) for entry in value)
    if kind.startswith("Mapping"):
        if not isinstance(value, Mapping):
            raise ValueError("must be an object")
        if name == "Tensors":
            return _tensors(value)
        nested = name == "Extra"
        return {str(key): tuple(map(str, entry)) if nested else str(entry) for key, entry in value.items()}
    return str(value)


def _tensors(value: Mapping[str, Any]) -> dict[str, str]:
    """Return tensor names by role; a list stands for the levels of a head, finest first."""
    found: dict[str, str] = {}
    for role, entry in value.items():
        if isinstance(entry, (list, tuple)):
            found.update({f"{role}.{level}": str(name) for level, name in enumerate(entry)})
        else:
            found[str(role)] = str(entry)
    return found


def _levels(tensors: Mapping[str, str]) -> dict[str, Any]:
    """Undo :func:`_tensors`."""
    found: dict[str, Any] = {}
    for key, name in tensors.items():
        role, mark, _ = key.partition(".")
        if mark:
            found.setdefault(role, []).append(name)
        else:
            found[role] = name
    return found


def _check_lists(image: InputRole, answer: OutputRole) -> list[str]:
    problems = [f"Output.Tensors.{role} is not known" for role in answer.tensors if role.split(".")[0] not in TENSORS]
    problems += [f"Output.Columns: '{name}' is not known" for name in answer.columns if name not in _COLUMNS]
    for name, sizes in image.extra.items():
        problems += [f"Input.Extra.{name}: '{size}' is not known" for size in sizes if size not in _SIZES]
    if answer.kind == END_TO_END and "score" not in answer.columns:
        problems.append("Output.Columns has no 'score'")
    if answer.encoding == "anchors" and answer.anchors is None and "Anchors" not in answer.tensors:
        problems.append("Output.Anchors is missing")
    if answer.encoding == "grid" and not answer.strides:
        problems.append("Output.Strides is missing")
    if len(answer.weights) != 4 or min(answer.weights) <= 0:
        problems.append("Output.Weights are four numbers above 0")
    if answer.encoding == "anchors" and answer.kind != BOXES:
        problems.append("Output.Encoding is anchors, which is for the kind Boxes alone")
    if answer.encoding == "grid" and answer.kind != ROWS:
        problems.append("Output.Encoding is grid, which is for the kind Rows alone")
    if answer.scale < 1 or image.multiple < 1:
        problems.append("Scale and Multiple are 1 or more")
    return problems


def _write(role: Any, default: Any) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for item in fields(role):
        value = getattr(role, item.name)
        if value == getattr(default, item.name):
            continue
        if isinstance(value, AnchorRole):
            value = value.to_members()
        elif item.name == "tensors":
            value = _levels(value)
        elif isinstance(value, Mapping):
            value = {key: list(entry) if isinstance(entry, tuple) else entry for key, entry in value.items()}
        members[_member(item.name)] = list(value) if isinstance(value, tuple) else value
    return members
