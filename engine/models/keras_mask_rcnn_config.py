"""The settings of a Matterport Mask R-CNN, read from its configuration module without running it.

Such packages name a Python module whose class derives from ``Config`` and sets constants in capitals. Constants are
read from the syntax tree: numbers, texts, lists, simple arithmetic and ``np.array`` of these. Defaults are those of
the published ``Config`` (matterport/Mask_RCNN, MIT).
"""

from __future__ import annotations

import ast
import dataclasses
import operator
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

from ..errors import ModelError

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class MaskRcnnConfig:
    """Settings that prediction depends on, under the names of the published ``Config`` in lower case."""

    backbone: str = "resnet101"
    backbone_strides: Tuple[int, ...] = (4, 8, 16, 32, 64)
    num_classes: int = 0
    rpn_anchor_scales: Tuple[float, ...] = (32, 64, 128, 256, 512)
    rpn_anchor_ratios: Tuple[float, ...] = (0.5, 1, 2)
    rpn_anchor_stride: int = 1
    rpn_nms_threshold: float = 0.7
    pre_nms_limit: int = 6000
    post_nms_rois_inference: int = 1000
    image_resize_mode: str = "square"
    image_min_dim: int = 800
    image_max_dim: int = 1024
    image_min_scale: float = 0
    image_channel_count: int = 3
    mean_pixel: Tuple[float, ...] = (123.7, 116.8, 103.9)
    pool_size: int = 7
    mask_pool_size: int = 14
    rpn_bbox_std_dev: Tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    bbox_std_dev: Tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    detection_max_instances: int = 100
    detection_min_confidence: float = 0.7
    detection_nms_threshold: float = 0.3

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> MaskRcnnConfig:
        """Build from constants by their name in capitals; names that do not matter here are left out.

        Raises:
            ModelError: a constant has no value of the right kind.
        """
        found: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            name = item.name.upper()
            if values.get(name) is None:
                continue
            try:
                found[item.name] = _convert(values[name], str(item.type))
            except (TypeError, ValueError) as error:
                raise ModelError(
                    f"{name} of the model's configuration is {values[name]!r}, which cannot be used.",
                    stage="loading the model",
                ) from error
        config = cls(**found)
        if config.backbone not in ("resnet50", "resnet101"):
            raise ModelError(
                f"The backbone '{config.backbone}' of the model's configuration is not known; resnet50 and resnet101 "
                "are.",
                stage="loading the model",
            )
        if config.image_resize_mode not in ("square", "pad64", "none"):
            raise ModelError(
                f"The resizing '{config.image_resize_mode}' of the model's configuration cannot be used to predict.",
                stage="loading the model",
                hint="IMAGE_RESIZE_MODE is square, pad64 or none.",
            )
        return config


def read_constants(source: str, file: str, find: Callable[[str], Optional[str]]) -> dict[str, Any]:
    """Return the constants in capitals that apply to the object ``config`` of a module, without running it.

    Args:
        source: text of the module.
        file: its name, for messages.
        find: returns the text of another module of the package by its name, or None; base classes may stand there.

    Raises:
        ModelError: it is no Python, or a constant that matters is worked out by code.
    """
    tree = _parse(source, file)
    own = _classes(tree)
    classes = {**_imported(tree, file, find), **own}
    values: dict[str, Any] = {}
    for name in reversed(_ancestry(_config_class(tree, own), classes)):
        for statement in classes[name].body:
            _assign(statement, values)
    _from_body(tree, values)
    missing = [name for name, value in values.items() if value is _UNKNOWN and name.lower() in _fields()]
    if missing:
        raise ModelError(
            f"The model's configuration works out {', '.join(missing)} with code, which is not run.",
            stage="loading the model",
            file=file,
            hint=f"Add {missing[0]} with its value to ModelConfiguration of the model definition.",
        )
    return {name: value for name, value in values.items() if value is not _UNKNOWN}


_UNKNOWN = object()


def _parse(source: str, file: str) -> ast.Module:
    if len(source) > _MOST_CHARACTERS:
        raise ModelError("The model's configuration module is too long.", stage="loading the model", file=file)
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(
            "The model's configuration module is not valid Python.", stage="loading the model", file=file
        ) from error


def _classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _imported(tree: ast.Module, file: str, find: Callable[[str], Optional[str]]) -> dict[str, ast.ClassDef]:
    """Return the classes that a module imports by name from other modules of the package."""
    found: dict[str, ast.ClassDef] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            source = find(node.module.rpartition(".")[2])
            there = _classes(_parse(source, file)) if source else {}
            found.update({alias.asname or alias.name: there[alias.name] for alias in node.names if alias.name in there})
    return found


def _fields() -> set[str]:
    return {item.name for item in dataclasses.fields(MaskRcnnConfig)}


def _config_class(tree: ast.Module, classes: Mapping[str, ast.ClassDef]) -> Optional[str]:
    """Return the class of which the module's ``config`` is made, or the last class."""
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            made_of = node.value.func
            if "config" in names and isinstance(made_of, ast.Name) and made_of.id in classes:
                return made_of.id
    return next(reversed(list(classes)), None)


def _ancestry(name: Optional[str], classes: Mapping[str, ast.ClassDef]) -> list[str]:
    """Return a class and its bases as far as they are known, nearest first."""
    line: list[str] = []
    while name and name in classes and name not in line:
        line.append(name)
        bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
        name = bases[0] if bases else None
    return line


def _from_body(tree: ast.Module, values: dict[str, Any]) -> None:
    """Take ``config.NAME = value`` statements that follow the classes."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in (one for one in node.targets if isinstance(one, ast.Attribute) and one.attr.isupper()):
                if isinstance(target.value, ast.Name) and target.value.id == "config":
                    values[target.attr] = _value(node.value, values)


def _assign(statement: ast.stmt, values: dict[str, Any]) -> None:
    targets: Sequence[ast.expr] = ()
    content: Optional[ast.expr] = None
    if isinstance(statement, ast.Assign):
        targets, content = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign):
        targets, content = [statement.target], statement.value
    for target in targets:
        if isinstance(target, ast.Name) and target.id.isupper() and content is not None:
            values[target.id] = _value(content, values)


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Return what an expression of constants comes to, or a mark for "unknown"."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id, _UNKNOWN)
    if isinstance(node, (ast.Tuple, ast.List)):
        parts = [_value(entry, known) for entry in node.elts]
        return _UNKNOWN if _UNKNOWN in parts else parts
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand, known)
        return -inner if isinstance(inner, (int, float)) else _UNKNOWN
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, known), _value(node.right, known)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)) and (right or type(node.op) is ast.Add):
            return _OPERATORS[type(node.op)](left, right)
        return _UNKNOWN
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = _value(node.args[0], known)
        if name in ("int", "float") and isinstance(given, (int, float)):
            return int(given) if name == "int" else float(given)
        return given if name in ("array", "list", "tuple") else _UNKNOWN
    return _UNKNOWN


def _convert(value: Any, kind: str) -> Any:
    if kind.startswith("Tuple"):
        entries = [value] if isinstance(value, (int, float)) else list(value)
        return tuple(float(entry) if "float" in kind else int(entry) for entry in entries)
    if kind == "int":
        if int(value) != value:
            raise ValueError(value)
        return int(value)
    return float(value) if kind == "float" else str(value)
