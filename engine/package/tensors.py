"""What TensorFlow graphs, SavedModels, ``.keras`` and ``.pt2`` files tell about themselves, read as data alone.

Field numbers: tensorflow/core/framework/{graph,node_def,attr_value,tensor_shape}.proto and protobuf/{saved_model,
meta_graph}.proto. Weights inside the files are passed over, not read.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from ..errors import PackageError
from .formats import fields

Members = Dict[str, Any]
Shape = Tuple[int, ...]

_DETECTION = {"detection_boxes", "detection_scores", "detection_classes"}
_MAX_TEXT = 4_096
_MAX_CONFIG = 64 << 20


def describe_graph(path: Path) -> Members:
    """Return members for a frozen graph: those of the Object Detection API and of DeepLab are recognised."""
    with path.open("rb") as file:
        nodes = {name: (operation, shape) for name, operation, shape in _nodes(file)}
    members: Members = {"Framework": "TensorFlow"}
    if {"image_tensor", "detection_boxes"} <= set(nodes):
        members.update(_detection(nodes["image_tensor"][1]))
    elif {"ImageTensor", "SemanticPredictions"} <= set(nodes):
        members.update({"ModelConfiguration": "DeepLab", "ModelType": "ImageClassification"})
        members.update(_image(nodes["ImageTensor"][1]))
    else:
        places = [shape for operation, shape in nodes.values() if operation == "Placeholder" and len(shape) == 4]
        members.update(_image(places[0] if places else ()))
    return members


def describe_saved_model(path: Path) -> Members:
    """Return members for a SavedModel's folder (or its ``saved_model.pb``), from its serving signature."""
    file_path = path / "saved_model.pb" if path.is_dir() else path
    with file_path.open("rb") as file:
        inputs, outputs = _signature(file)
    members: Members = {"Framework": "TensorFlow"}
    image = next((shape for shape in inputs.values() if len(shape) == 4), ())
    if set(outputs) >= _DETECTION:
        members.update(_detection(image))
        return members
    members.update(_image(image))
    shapes = list(outputs.values())
    if len(shapes) == 1 and len(shapes[0]) == 2:
        members.update({"ModelType": "ObjectClassification", "Classes": numbered(shapes[0][1])})
    elif len(shapes) == 1 and len(shapes[0]) == 4:
        members.update({"ModelType": "ImageClassification", "Classes": numbered(shapes[0][3])})
    return {key: value for key, value in members.items() if value != []}


def describe_keras(path: Path) -> Members:
    """Return members for a ``.keras`` file, from the shapes in its configuration."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MAX_CONFIG:
                raise PackageError("The Keras model's configuration is larger than any model needs.", file=str(path))
            config = json.loads(archive.read("config.json").decode("utf-8"))
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, RecursionError, RuntimeError) as error:
        raise PackageError("The Keras model is damaged: its configuration cannot be read.", file=str(path)) from error
    layers = [one for one in _layers(config) if isinstance(one.get("config"), dict)]
    members: Members = {"Framework": "Keras"}
    shapes = [one["config"].get("batch_shape") or one["config"].get("batch_input_shape") for one in layers]
    shapes += [
        one.get("build_config", {}).get("input_shape") for one in layers if isinstance(one.get("build_config"), dict)
    ]
    image = next((one for one in shapes if isinstance(one, list) and len(one) == 4), None)
    if image is not None:
        members.update(_image(tuple(one if isinstance(one, int) else -1 for one in image)))
    heads = [one for one in layers if one.get("class_name") in ("Dense", "Conv2D")]
    if heads and heads[-1]["class_name"] == "Dense":
        classes = heads[-1]["config"].get("units")
        members.update({"ModelType": "ObjectClassification", "ModelConfiguration": "KerasClassifier"})
        members["Classes"] = numbered(classes if isinstance(classes, int) else 0)
    elif heads:
        classes = heads[-1]["config"].get("filters")
        members.update({"ModelType": "ImageClassification"})
        members["Classes"] = numbered(classes if isinstance(classes, int) else 0)
    return {key: value for key, value in members.items() if value != []}


def describe_exported(path: Path) -> Members:
    """Return members for a file of ``torch.export``, from the sizes of its program's first image and first output."""
    members: Members = {"Framework": "TorchExport"}
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(one for one in archive.namelist() if one.endswith(("/models/model.json", "_program.json")))
            if archive.getinfo(name).file_size > _MAX_CONFIG:
                return members
            module = json.loads(archive.read(name).decode("utf-8"))["graph_module"]
        values, signature = module["graph"]["tensor_values"], module["signature"]
        entering = [one["user_input"]["arg"] for one in signature["input_specs"] if "user_input" in one]
        leaving = [one["user_output"]["arg"] for one in signature["output_specs"] if "user_output" in one]
        image, answer = (_exported_shape(values, one[0]) for one in (entering, leaving))
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise PackageError("The exported program is damaged: it cannot be read.", file=str(path)) from error
    except (StopIteration, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return members
    if len(image) == 4:
        members.update(_image((image[0], image[2], image[3], image[1])))
        outputs = answer[1] if len(answer) in (2, 4) and 0 < answer[1] <= 4_096 else 0
        if outputs:
            members["ModelType"] = "ObjectClassification" if len(answer) == 2 else "ImageClassification"
            members["Classes"] = numbered(outputs)
    return members


def _exported_shape(values: Any, argument: Any) -> Shape:
    """Return the sizes of a tensor; -1 stands for any size."""
    return tuple(int(one.get("as_int", -1)) for one in values[argument["as_tensor"]["name"]]["sizes"])


def _layers(config: Any) -> Iterator[Dict[str, Any]]:
    """Yield the layers of a configuration in their order, those of nested models where they stand."""
    pending = [config]
    while pending:
        one = pending.pop(0)
        if not isinstance(one, dict):
            continue
        inner = one.get("config")
        nested = inner.get("layers") if isinstance(inner, dict) else None
        if isinstance(nested, list):
            pending = [*nested, *pending]
        else:
            yield one


def _detection(image: Shape) -> Members:
    return {"ModelConfiguration": "ObjectDetectionAPI", "ModelType": "ObjectDetection", **_image(image)}


def _image(shape: Sequence[int]) -> Members:
    """Return image size and bands of an input in the order batch, rows, columns, bands; unknown ones are left out."""
    if len(shape) != 4:
        return {}
    _, height, width, bands = shape
    members: Members = {}
    if height > 0 and width > 0:
        members.update({"ImageHeight": height, "ImageWidth": width})
    if 0 < bands <= 4_096:
        members["ExtractBands"] = list(range(bands))
    return members


def numbered(count: int) -> List[Members]:
    """Return classes without names for the outputs of a network; one output means yes or no."""
    count = 2 if count == 1 else count
    return [{"Value": value, "Name": str(value)} for value in range(count)] if 0 < count <= 10_000 else []


Place = Tuple[int, int]
Field = Tuple[int, Union[int, Place]]


def _inside(file: BinaryIO, place: Place) -> List[Field]:
    """Return the fields of a message that lies at ``place``."""
    file.seek(place[0])
    return list(fields(file, place[0] + place[1]))


def _read_text(file: BinaryIO, place: Place) -> str:
    file.seek(place[0])
    return file.read(min(place[1], _MAX_TEXT)).decode("utf-8", "replace")


def _nodes(file: BinaryIO) -> Iterator[Tuple[str, str, Shape]]:
    """Yield (name, operation, shape) of a GraphDef's nodes."""
    end = file.seek(0, io.SEEK_END)
    for number, place in _inside(file, (0, end)):
        if number != 1 or isinstance(place, int):
            continue
        name = operation = ""
        shape: Shape = ()
        for key, value in _inside(file, place):
            if isinstance(value, int):
                continue
            if key == 1:
                name = _read_text(file, value)
            elif key == 2:
                operation = _read_text(file, value)
            elif key == 5 and operation == "Placeholder" and not shape:
                shape = _shape_attribute(file, value)
        yield name, operation, shape


def _shape_attribute(file: BinaryIO, entry: Place) -> Shape:
    """Return the shape in an attribute called ``shape`` of a node, else nothing."""
    parts = dict(_inside(file, entry))
    key, value = parts.get(1), parts.get(2)
    if not isinstance(key, tuple) or not isinstance(value, tuple) or _read_text(file, key) != "shape":
        return ()
    shape = dict(_inside(file, value)).get(7)
    return _shape(file, shape) if isinstance(shape, tuple) else ()


def _shape(file: BinaryIO, place: Place) -> Shape:
    sizes: List[int] = []
    for number, dimension in _inside(file, place):
        if number == 2 and isinstance(dimension, tuple):
            size = dict(_inside(file, dimension)).get(1, 0)
            sizes.append(size if isinstance(size, int) and size < 1 << 40 else -1)  # -1 is stored as 2^64 - 1
    return tuple(sizes)


def _signature(file: BinaryIO) -> Tuple[Dict[str, Shape], Dict[str, Shape]]:
    """Return shapes of inputs and outputs of the serving signature of a SavedModel's first graph."""
    end = file.seek(0, io.SEEK_END)
    graph = next((place for number, place in _inside(file, (0, end)) if number == 2), None)
    found: Dict[str, Place] = {}
    for number, entry in _inside(file, graph) if isinstance(graph, tuple) else []:
        if number != 5 or isinstance(entry, int):
            continue
        parts = dict(_inside(file, entry))
        key, value = parts.get(1), parts.get(2)
        if isinstance(key, tuple) and isinstance(value, tuple):
            found[_read_text(file, key)] = value
    place: Optional[Place] = found.get("serving_default") or next(
        (value for name, value in found.items() if not name.startswith("__")), None
    )
    if place is None:
        raise PackageError("The SavedModel has no serving signature, so nothing says what goes in and comes out.")
    listed = _inside(file, place)
    return _tensors(file, listed, 1), _tensors(file, listed, 2)


def _tensors(file: BinaryIO, listed: Sequence[Field], wanted: int) -> Dict[str, Shape]:
    shapes: Dict[str, Shape] = {}
    for number, entry in listed:
        if number != wanted or isinstance(entry, int):
            continue
        parts = dict(_inside(file, entry))
        key, value = parts.get(1), parts.get(2)
        if isinstance(key, tuple) and isinstance(value, tuple):
            shape = dict(_inside(file, value)).get(3)
            shapes[_read_text(file, key)] = _shape(file, shape) if isinstance(shape, tuple) else ()
    return shapes
