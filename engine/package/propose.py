"""Propose a model definition for a bare network file, from what the file tells and what the user answers.

ONNX files are described by the part that runs them (a task, because it needs the ONNX package); TensorFlow graphs,
SavedModels and ``.keras`` files are read here as data (:mod:`.tensors`). What the file does not tell is asked for by
name: the answers are members of the definition, in forms that are easy to type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from ..errors import DefinitionError, JobError
from . import formats, vocabulary
from .emd import build_definition
from .lenient import clip
from .shapes import tensor_shapes
from .tensors import describe_exported, describe_graph, describe_keras, describe_saved_model, numbered
from .values import to_number

Members = Dict[str, Any]

ANSWERS = [
    "Framework",
    "ModelConfiguration",
    "ModelType",
    "ModelName",
    "Description",
    "Version",
    "ImageWidth",
    "ImageHeight",
    "ExtractBands",
    "Classes",
    "DataRange",
    "Normalization",
    "MinCellSize",
    "MaxCellSize",
    "BatchSize",
    "Threshold",
    "Padding",
    "ModelPadding",
    "CropSizeFixed",
    "BlackenAroundFeature",
    "ImageSpaceUsed",
    "SupportsVariableTileSize",
    "InferenceFunction",
]
_FOLDED = {name.casefold(): name for name in ANSWERS}
_NOT_PACKED = {
    formats.PICKLE: "a Python pickle, which is a program and is never loaded",
    formats.AOT: "compiled to native code by AOTInductor, which is never run",
}


def propose(path: Path, answers: Mapping[str, str], described: Optional[Members] = None) -> Members:
    """Return the members of a definition for the network in ``path``.

    Args:
        path: an ONNX, TorchScript, torch.export, PyTorch, Keras or frozen TensorFlow file, or a SavedModel's folder.
        answers: member name (any case) to text; they go before what the file tells.
        described: for ONNX, what the part that runs such files tells about it.

    Raises:
        JobError: an answer is unknown or cannot be read, or no model can be made of such a file.
        DefinitionError: something is still missing; its problems name the answers to give.
    """
    found = formats.detect(path)
    if found.kind in _NOT_PACKED or found.kind == formats.UNKNOWN:
        raise JobError(
            f"No package can be made of “{path.name}”: it is {_NOT_PACKED.get(found.kind, found.description)}.",
            file=str(path),
            hint="Export the network to ONNX, or save its state dictionary with torch.save.",
        )
    members = {"ModelFile": path.name, **_told(found.kind, path, described), **read_answers(answers)}
    _complete(members)
    try:
        build_definition(members)
    except DefinitionError as error:
        raise DefinitionError(
            f"“{path.name}” ({found.description}) does not tell enough for a model definition: "
            + "; ".join(error.problems)
            + ".",
            problems=error.problems,
            file=str(path),
            hint="Answer for example with ModelType=ObjectDetection;ImageWidth=512;ExtractBands=0,1,2;Classes=tree.",
        ) from error
    return members


def _told(kind: str, path: Path, described: Optional[Members]) -> Members:
    """Return what a file tells about itself."""
    if described is not None:
        return dict(described)
    tellers: Dict[str, Callable[[Path], Members]] = {
        formats.GRAPH: describe_graph,
        formats.SAVED_MODEL: describe_saved_model,
        formats.KERAS: describe_keras,
        formats.TORCHSCRIPT: _describe_torchscript,
        formats.PT2: describe_exported,
    }
    if kind in tellers:
        return tellers[kind](path)
    frameworks: Dict[str, Members] = {
        formats.HDF5: {"Framework": "Keras"},
        formats.ONNX: {"Framework": "ONNX", "ModelConfiguration": {"Name": "Network"}},
    }
    return dict(frameworks.get(kind, {"Framework": "PyTorch"}))


def _describe_torchscript(path: Path) -> Members:
    """Return what the shapes of the weights give away: bands of the first layer, outputs of the last one."""
    members: Members = {"Framework": "TorchScript"}
    shapes = [shape for shape in tensor_shapes(path) if len(shape) in (2, 4)]
    first = next((shape for shape in shapes if len(shape) == 4), None)
    if first is None:
        return members
    members["ExtractBands"] = list(range(first[1]))
    last = shapes[-1]
    if len(last) == 2:
        members.update({"ModelType": "ObjectClassification", "Classes": numbered(last[0])})
    elif last[2:] == (1, 1) or last[0] <= 64:
        members.update({"ModelType": "ImageClassification", "Classes": numbered(last[0])})
    return {key: value for key, value in members.items() if value != []}


def _complete(members: Members) -> None:
    """Fill in what follows from the rest: configurations, and the flags of object classifiers."""
    kind = vocabulary.model_type(str(members.get("ModelType", "")))
    if members.get("Framework") in ("TorchScript", "TorchExport"):
        # The roles of its tensors are told by the network itself, when it is loaded.
        members.setdefault("ModelConfiguration", {"Name": "Network"})
    if kind == "ObjectClassification":
        if members.get("Framework") == "Keras":
            members.setdefault("ModelConfiguration", "KerasClassifier")
        members.setdefault("CropSizeFixed", 1)
        members.setdefault("BlackenAroundFeature", 0)
    for one, other in (("ImageWidth", "ImageHeight"), ("ImageHeight", "ImageWidth")):
        if one not in members and other in members:
            members[one] = members[other]


def read_answers(answers: Mapping[str, str]) -> Members:
    """Return answers as members of a definition.

    Raises:
        JobError: an answer is unknown or cannot be read.
    """
    found: Members = {}
    unknown: List[str] = []
    for name, text in answers.items():
        key = _FOLDED.get(str(name).strip().casefold())
        if key is None:
            unknown.append(str(name))
        elif str(text).strip():
            found[key] = _read_answer(key, str(text).strip())
    if unknown:
        raise JobError(
            f"Nothing of a model definition is called {', '.join(clip(one) for one in unknown)}.",
            hint=f"Answers are {', '.join(ANSWERS)}.",
        )
    return found


def _read_answer(key: str, text: str) -> Any:
    """Return the value of an answer: JSON where it starts like JSON, else the short form of its key."""
    if text[0] in "[{":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JobError(f"The answer {key} is not valid JSON: {clip(error)}.") from error
    if key == "Classes":
        return [_read_class(part, position) for position, part in enumerate(text.replace(";", ",").split(","), 1)]
    if key in ("ExtractBands", "DataRange"):
        parts = [part.strip() for part in text.replace(";", ",").replace(" ", ",").split(",") if part.strip()]
        return [_number(part) for part in parts]
    if key in ("MinCellSize", "MaxCellSize"):
        size = to_number(text)
        if size is None:
            raise JobError(f"The answer {key} is “{clip(text)}”; a number of map units is expected.")
        return {"x": size, "y": size}
    return text


def _read_class(text: str, position: int) -> Dict[str, Any]:
    """Return a class from ``value=name`` or ``name``; without values they count from 1."""
    value, mark, name = text.partition("=")
    if not mark:
        return {"Value": position, "Name": text.strip()}
    number = to_number(value)
    if number is None or number != int(number):
        raise JobError(f"The class “{clip(text)}” is not of the form value=name.", hint="Write Classes=1=tree,2=house.")
    return {"Value": int(number), "Name": name.strip()}


def _number(text: str) -> Any:
    number = to_number(text)
    if number is None:
        return text
    return int(number) if number == int(number) else number
