"""Proposes a model definition for a bare ONNX file: from its tensors, and from what exporters embed in it.

Read are the texts that the Deepness plugin's models carry (class names, standardisation, tile size, resolution,
thresholds) and those of Ultralytics' exports (names, task, image size).
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Mapping, Optional

import onnx

from ..errors import ModelError
from .network import TensorInfo
from .onnx_file import check_onnx, read_onnx
from .onnx_tensors import inputs_of, last_activation, outputs_of
from .role_guess import Hints, Members, guess_input, guess_output

_MODEL_TYPES = {
    "PixelScores": "ImageClassification",
    "PixelClasses": "ImageClassification",
    "Bands": "SuperResolution",
    "ImageScores": "ObjectClassification",
}
_TASKS = {"segmentor": "segmentation", "regressor": "regress", "detector": "detect", "recognition": "classify"}
_TASKS["superresolution"] = "superresolution"
# Deepness' name of a detection head -> what it means
_HEADS: dict[str, Members] = {
    "YOLO_v5_or_v7_default": {"BoxFormat": "cxcywh", "Suppress": True, "Objectness": True},
    "YOLO_v6": {"BoxFormat": "cxcywh", "Suppress": True, "Objectness": True},
    "YOLO_v9": {"BoxFormat": "cxcywh", "Suppress": True, "Orientation": "columns"},
    "YOLO_Ultralytics": {"BoxFormat": "cxcywh", "Suppress": True, "Orientation": "columns"},
    "YOLO_Ultralytics_segmentation": {"BoxFormat": "cxcywh", "Suppress": True, "Orientation": "columns"},
}


def describe_onnx(path: Path | str) -> Members:
    """Return members of a model definition proposed for an ONNX file.

    They are ``Framework``, ``ModelConfiguration`` with ``Input`` and ``Output``, ``ModelType``, ``ModelFile``, image
    size, ``ExtractBands``, ``Classes``, ``Normalization`` and, where the file tells, ``Threshold``, ``Padding``,
    ``MinCellSize`` and ``MaxCellSize``. Names of classes that the file does not tell are numbered.

    Raises:
        ModelError: the file is broken, or its tensors mean nothing that is known.
        PackageError: it refers to files elsewhere or needs foreign code.
    """
    path = Path(path)
    model = read_onnx(path)
    check_onnx(model, path)
    members = propose(model)
    if not members["ModelConfiguration"]["Output"]:
        shapes = "; ".join(f"{value.name}" for value in model.graph.output)
        raise ModelError(
            f"The outputs of the network ({shapes}) are of no known layout.",
            stage="describing the model",
            file=str(path),
            hint="State Output in ModelConfiguration of the model definition, see docs/onnx.md.",
        )
    return {**members, "ModelFile": path.name}


def propose(model: onnx.ModelProto) -> Members:
    """Return the members of :func:`describe_onnx` but the file's name; ``Output`` may be empty."""
    texts = {entry.key: entry.value for entry in model.metadata_props}
    names = _class_names(texts)
    hints = Hints(len(names), _task(texts), _family(texts))
    inputs = inputs_of(model)
    image, source = guess_input(inputs)
    layout = source.get("Layout", "NCHW")
    outputs = outputs_of(model)
    guessed = guess_output(lambda name: last_activation(model, name), outputs, image, layout, hints)
    answer = _with_embedded(guessed, texts)
    known = {info.name: info for info in outputs}
    kind = answer.get("Kind", "")
    if kind == "PixelScores" and texts.get("model_type") and not _is_raw(texts):
        # Deepness compares the output itself with its threshold, so it is a probability already.
        answer["Activation"] = "none" if _channels(known, answer) == 1 else answer.get("Activation", "none")
    members: Members = {
        "Framework": "ONNX",
        "ModelConfiguration": {"Name": "Network", "Input": source, "Output": answer},
        "ModelType": _model_type(kind, answer),
    }
    members.update(_size(image, layout, source, texts))
    bands = _bands(image, layout)
    if bands:
        members["ExtractBands"] = list(range(bands))
    if kind != "Bands":
        members["Classes"] = _classes(names or _numbered(known, answer), kind)
    members["Normalization"] = _normalisation(texts, source, bands)
    members.update(_thresholds(texts, members))
    resolution = _number(texts, "resolution")
    if resolution:
        size = {"x": resolution / 100, "y": resolution / 100}  # centimetres in the file
        members.update({"MinCellSize": size, "MaxCellSize": dict(size)})
    return members


def _with_embedded(answer: Members, texts: Mapping[str, str]) -> Members:
    head = _HEADS.get(_text(texts, "det_type"))
    if head and answer.get("Kind") in ("Rows", "EndToEnd"):
        answer = {"Kind": "Rows", **head, "Tensors": answer.get("Tensors", {})}
    overlap = _number(texts, "det_iou_thresh")
    if overlap is not None and answer.get("Suppress"):
        answer["Overlap"] = overlap
    factor = _number(texts, "reg_output_scaling")
    if factor is not None and answer.get("Kind") == "Bands":
        answer["Factor"] = factor
    return answer


def _is_raw(texts: Mapping[str, str]) -> bool:
    return _task(texts) != "segmentation"


def _model_type(kind: str, answer: Members) -> str:
    if kind == "Bands" and answer.get("Scale", 1) == 1:
        return "Pix2Pix"  # the type of networks that turn an image into bands of values
    if kind in _MODEL_TYPES:
        return _MODEL_TYPES[kind]
    tensors = answer.get("Tensors", {})
    return "InstanceDetection" if {"Prototypes", "Masks"} & set(tensors) else "ObjectDetection"


def _size(image: TensorInfo, layout: str, source: Members, texts: Mapping[str, str]) -> Members:
    shape = image.shape if len(image.shape) == 4 else (None, *image.shape)
    height, width = (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])
    stated = _value(texts, "imgsz")
    tile = _number(texts, "tile_size") or _number(texts, "tiles_size")
    if isinstance(stated, (list, tuple)) and len(stated) == 2:
        height, width = height or int(stated[0]), width or int(stated[1])
    if not (shape[2] and shape[3]) and (_number(texts, "stride") or 0) > 1:
        source["Multiple"] = int(_number(texts, "stride") or 1)
    fallback = int(tile) if tile else 512
    return {"ImageHeight": height or fallback, "ImageWidth": width or fallback}


def _bands(image: TensorInfo, layout: str) -> int:
    shape = image.shape if len(image.shape) == 4 else (None, *image.shape)
    return (shape[3] if layout == "NHWC" else shape[1]) or 0


def _channels(outputs: Mapping[str, TensorInfo], answer: Members) -> int:
    info = outputs.get(answer.get("Tensors", {}).get("Main", ""))
    if info is None or len(info.shape) < 2:
        return 0
    if len(info.shape) == 3:
        return 1
    place = (3 if answer.get("Layout") == "NHWC" else 1) if len(info.shape) == 4 else -1
    return info.shape[place] or 0


def _numbered(outputs: Mapping[str, TensorInfo], answer: Members) -> list[str]:
    """Return names for classes of which only the number is known."""
    kind, tensors = answer.get("Kind", ""), answer.get("Tensors", {})
    count = 0
    if kind in ("PixelScores", "ImageScores"):
        count = max(_channels(outputs, answer), 1)
    elif kind == "Rows":
        shape = outputs[tensors["Main"]].shape
        masks = outputs[tensors["Prototypes"]].shape if "Prototypes" in tensors else ()
        numbers = shape[1 if answer.get("Orientation") == "columns" else 2] or 0
        count = (
            numbers
            - 4
            - bool(answer.get("Objectness"))
            - bool(answer.get("Angle"))
            - ((masks[1] or 0) if len(masks) == 4 else 0)
        )
    elif kind == "Boxes" and "Labels" not in tensors:
        count = (outputs[tensors["Scores"]].shape[-1] or 0) - (answer.get("Background", "none") != "none")
    return [f"class {index + 1}" for index in range(max(count, 1))]


def _classes(names: list[str], kind: str) -> list[Members]:
    """Return the ``Classes`` entries; a first class called background gets the value 0 of "nothing"."""
    pixels = kind in ("PixelScores", "PixelClasses")
    first = 0 if pixels and names[0].strip().lower() in ("background", "_background_", "no data", "nodata") else 1
    return [{"Value": first + index, "Name": name} for index, name in enumerate(names)]


def _normalisation(texts: Mapping[str, str], source: Members, bands: int) -> Members:
    if source.get("Type", "float32") in ("uint8", "uint16", "int16", "int32"):
        return {"Method": "none", "Fill": 0}
    mean, std = _value(texts, "standardization_mean"), _value(texts, "standardization_std")
    lists = isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std)
    if lists and (any(mean) or any(value != 1 for value in std)):
        # The plugin divides by 255 before it standardises.
        count = bands or len(mean)
        scaled = [[float(value) * 255 for value in (values * count)[:count]] for values in (mean, std)]
        return {"Method": "mean_std", "Mean": scaled[0], "Std": scaled[1], "Fill": 0}
    return {"Method": "scale", "Scale": 255.0, "Fill": 0}


def _thresholds(texts: Mapping[str, str], members: Members) -> Members:
    found: Members = {}
    for name in ("seg_thresh", "det_conf"):
        value = _number(texts, name)
        if value is not None:
            found["Threshold"] = value
    overlap = _number(texts, "tiles_overlap")
    if overlap is not None:
        found["Padding"] = int(members["ImageWidth"] * overlap / 200)  # per cent of the tile, both sides together
    return found


def _class_names(texts: Mapping[str, str]) -> list[str]:
    names = _value(texts, "class_names")
    if names is None:
        names = _value(texts, "names")
    if isinstance(names, Mapping):
        try:
            return [str(names[key]) for key in sorted(names, key=int)]
        except (TypeError, ValueError):
            return []
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def _task(texts: Mapping[str, str]) -> str:
    kind = _text(texts, "model_type").lower().replace("_", "").replace(" ", "")
    return _TASKS.get(kind, _text(texts, "task").lower())


def _family(texts: Mapping[str, str]) -> str:
    description = _text(texts, "description").lower().replace("-", "")
    if "rtdetr" in description:
        return "rtdetr"
    return "rows" if _text(texts, "det_type") in _HEADS else ""


def _text(texts: Mapping[str, str], name: str) -> str:
    value = _value(texts, name)
    return value if isinstance(value, str) else str(texts.get(name, ""))


def _number(texts: Mapping[str, str], name: str) -> Optional[float]:
    value = _value(texts, name)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _value(texts: Mapping[str, str], name: str) -> Any:
    """Return an embedded text read as JSON or, as older exporters write, as a Python literal; else the text itself."""
    text = texts.get(name)
    if text is None or len(text) > 1_000_000:
        return None
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
