"""An ONNX file read without running it: its graph, what it may refer to, and the sentences for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import onnx
from google.protobuf.message import DecodeError

from ..errors import ModelError, PackageError

# Operators of these sets are part of ONNX and of ONNX Runtime itself; others need a library of somebody's own code.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# They call back into Python in builds of ONNX Runtime made for training.
_OPERATORS_WITH_CODE = ("PyOp", "PythonOp", "PythonOpGrad", "ATen")

Locate = Callable[[str], Path]


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read the graph of an ONNX file; weights kept in files of their own are not read.

    Raises:
        ModelError: it is not a complete ONNX file.
    """
    try:
        model: onnx.ModelProto = onnx.load_model(str(path), format="protobuf", load_external_data=False)
    except FileNotFoundError as error:
        raise ModelError("The network file is missing.", stage="loading the model", file=str(path)) from error
    except (DecodeError, ValueError, OSError) as error:
        raise _broken(path) from error
    if not model.graph.node or not model.graph.output:
        raise _broken(path)
    return model


def check_onnx(model: onnx.ModelProto, path: Path, locate: Optional[Locate] = None) -> None:
    """Refuse what would read files outside the package or run code that is not ONNX Runtime's own.

    Args:
        model: from :func:`read_onnx`.
        path: where it was read from, for messages.
        locate: returns the path of a file of the package by its name, and raises if there is none; None accepts files
            beside ``path``.

    Raises:
        PackageError: external data outside the package, longer than its file, or operators of an unknown set.
    """
    own = {function.domain for function in model.functions}
    for node in _nodes(model):
        if node.domain not in _DOMAINS and node.domain not in own:
            raise PackageError(
                f"The ONNX network uses the operator {node.op_type} of the set '{node.domain}', which needs a library "
                "of its own code.",
                stage="checking the model",
                file=str(path),
                hint="Export the network with standard operators only.",
            )
        if node.op_type in _OPERATORS_WITH_CODE:
            raise PackageError(
                f"The ONNX network uses the operator {node.op_type}, which runs foreign code.",
                stage="checking the model",
                file=str(path),
            )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(tensor, path, locate)


def _check_external(tensor: onnx.TensorProto, path: Path, locate: Optional[Locate]) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = entries.get("location", "")
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    bad = not name or ":" in plain or plain.startswith(("/", "~")) or ".." in parts or "\x00" in name
    target = None
    if not bad:
        target = locate(plain) if locate else path.parent / plain
        bad = target.is_symlink() or target.resolve() != (path.parent.resolve() / plain)
    if bad or target is None or not target.is_file():
        raise PackageError(
            f"The ONNX network keeps weights in '{name}', which is not a file of the package.",
            stage="checking the model",
            file=str(path),
            hint="Put the file with the weights beside the ONNX file, under the name it was exported with.",
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > target.stat().st_size:
        raise PackageError(
            f"The file with the weights, '{name}', is shorter than the ONNX network says; it is truncated.",
            stage="checking the model",
            file=str(path),
            hint="Export the network or copy its files again.",
        )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = list(model.graph.node)
    for function in model.functions:
        pending.extend(function.node)
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph, *(info.initialization for info in model.training_info)]
    graphs += [info.algorithm for info in model.training_info]
    yield from (tensor for graph in graphs for tensor in _initializers(graph))
    nodes = list(_nodes(model)) + [node for graph in graphs[1:] for node in graph.node]
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _initializers(graph)


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def element_type(number: int) -> str:
    """Return the numpy name of an ONNX element type ("float32")."""
    try:
        kind: Any = onnx.helper.tensor_dtype_to_np_dtype(number)
    except (KeyError, ValueError):
        return "unknown"
    return str(kind)


def _broken(path: Path) -> ModelError:
    return ModelError(
        "The network file is not a complete ONNX file; it is damaged, truncated or of another format.",
        stage="loading the model",
        file=str(path),
        hint="Export or copy the file again.",
    )
