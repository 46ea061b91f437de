"""TensorFlow graphs read as data: what they compute, checked against a list of harmless operations before they run.

A graph is a program; some operations write files or run Python. Nothing of a graph is run before every operation
that could be reached has been found on the list, in the graph itself, in the functions of its library and in graphs
hidden in constants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator

from ..errors import ModelError, TrustError
from .tensorflow_operations import ALLOWED


def read_frozen_graph(path: Path) -> Any:
    """Return the GraphDef of a frozen graph.

    Raises:
        ModelError: the file is missing, truncated or no graph.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError("The frozen graph is missing.", stage="loading the model", file=str(path)) from error
    except DecodeError as error:
        raise _broken(path) from error
    if not graph.node or not all(node.op and node.name for node in graph.node):
        raise _broken(path)
    return graph


def read_meta_graph(folder: Path) -> Any:
    """Return the MetaGraphDef tagged "serve" of a SavedModel.

    Raises:
        ModelError: the folder holds no readable SavedModel.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ModelError(
            "The folder holds no SavedModel: saved_model.pb is missing.", stage="loading the model", file=str(folder)
        ) from error
    except DecodeError as error:
        raise _broken(path) from error
    for meta in saved.meta_graphs:
        if "serve" in meta.meta_info_def.tags:
            return meta
    raise ModelError(
        "The SavedModel has no graph for serving.",
        stage="loading the model",
        file=str(path),
        hint="Export the model with the tag 'serve'.",
    )


def check_graph(graph: Any, path: Path, start: Iterable[str] | None = None, functions: Iterable[str] = ()) -> None:
    """Refuse a graph that can reach an operation that is not on the list.

    Args:
        graph: a GraphDef.
        path: where it comes from, for messages.
        start: names of nodes that will be run (None: any node may be); what they need is followed.
        functions: names of library functions that may be run besides.

    Raises:
        TrustError: an operation that touches more than tensors can be reached; the message names it.
    """
    library = {function.signature.name: function for function in graph.library.function}
    nodes = list(graph.node) if start is None else list(_needed(graph, start))
    pending = [name for name in functions if name in library]
    seen: set[str] = set()
    forbidden: set[str] = set()
    while nodes or pending:
        for node in nodes:
            if node.op in library:
                pending.append(node.op)
            elif node.op not in ALLOWED:
                forbidden.add(node.op)
            for value in node.attr.values():
                pending += [name for name in _functions_of(value) if name in library]
                forbidden.update(_hidden(value))
        nodes = []
        while pending and not nodes:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                nodes = list(library[name].node_def)
    if forbidden:
        raise TrustError(
            f"The TensorFlow graph uses operations that can do more than compute: {', '.join(sorted(forbidden)[:8])}.",
            stage="checking the model",
            file=str(path),
            hint="Export the network for inference only, without reading, writing, printing or Python functions.",
        )


def _needed(graph: Any, start: Iterable[str]) -> Iterator[Any]:
    """Yield the nodes of the main graph that the nodes of ``start`` depend on, themselves included."""
    by_name = {node.name: node for node in graph.node}
    pending = [_node_name(name) for name in start]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        yield by_name[name]
        pending += [_node_name(entry) for entry in by_name[name].input]


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]


def _functions_of(value: Any) -> Iterator[str]:
    if value.HasField("func"):
        yield value.func.name
        for inner in value.func.attr.values():
            yield from _functions_of(inner)
    for entry in value.list.func:
        yield entry.name
        for inner in entry.attr.values():
            yield from _functions_of(inner)


def _hidden(value: Any) -> Iterator[str]:
    """Yield forbidden operations of graphs that are written into texts of an attribute."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    texts = [value.s, *value.list.s]
    for tensor in (value.tensor, *value.list.tensor):
        texts += list(tensor.string_val)
    for text in texts:
        if len(text) < 8:
            continue
        graph = graph_pb2.GraphDef()
        try:
            graph.ParseFromString(text)
        except DecodeError:
            continue
        inner = [node for function in graph.library.function for node in function.node_def]
        known = {function.signature.name for function in graph.library.function} | ALLOWED
        for node in (*graph.node, *inner):
            if node.op and node.name and node.op not in known:
                yield node.op


def _broken(path: Path) -> ModelError:
    return ModelError(
        "The file is no complete TensorFlow graph; it is damaged, truncated or of another format.",
        stage="loading the model",
        file=str(path),
        hint="Export or copy the file again.",
    )
