"""A TensorFlow graph as a function of arrays: frozen graphs, SavedModels of TensorFlow 1 and of TensorFlow 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from ..errors import ModelError
from .network import Array, OutOfDeviceMemory, TensorInfo
from .tensorflow_graph import check_graph, read_frozen_graph, read_meta_graph

# Signatures that exporters use, best first.
_SIGNATURES = ("serving_default", "predict_images", "default")
# Variables and how they are read, and what stands for them once their values are constants.
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


class TensorFlowNetwork:
    """A function of a TensorFlow graph.

    Attributes:
        inputs, outputs: its tensors, under the names of the signature (SavedModel) or of the graph (frozen graph).
    """

    def __init__(
        self, function: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], path: Path, owner: Any = None
    ) -> None:
        """Wrap ``function``, which takes a list of tensors and returns a list in the order of ``outputs``.

        Args:
            function: the function.
            inputs: tensors or their specifications by name.
            outputs: the same of what comes out.
            path: where it comes from, for messages.
            owner: what holds the variables; they live only as long as it does.
        """
        self._function, self._path, self._owner = function, path, owner
        self.inputs: Sequence[TensorInfo] = tuple(_info(name, tensor) for name, tensor in inputs.items())
        self.outputs: Sequence[TensorInfo] = tuple(_info(name, tensor) for name, tensor in outputs.items())
        self._places = {info.name: place for place, info in enumerate(self.outputs)}

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> Sequence[Array]:
        """Return the wanted outputs as arrays.

        Raises:
            OutOfDeviceMemory: the batch is too large for the device.
            ModelError: the graph failed.
        """
        import tensorflow as tf

        try:
            found = self._function([tf.constant(feeds[info.name]) for info in self.inputs])
            return [np.asarray(found[self._places[name]]) for name in wanted]
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfDeviceMemory(str(error)) from error
        except (tf.errors.OpError, ValueError, TypeError) as error:
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"The TensorFlow graph failed on a tile: {text}",
                stage="predicting",
                file=str(self._path),
                hint="Check ImageWidth, ImageHeight, ExtractBands and BatchSize of the model definition.",
            ) from error


def prepare_tensorflow(device: str, threads: int) -> None:
    """Import TensorFlow quietly and settle threads and devices, which it allows only before its first computation.

    GPU memory is taken as it is needed, not all at once, because other workers and QGIS may use the same card.

    Args:
        device: "cpu" hides all GPUs.
        threads: native threads for one operation.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, threads))
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
            return
        for card in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(card, True)
    except RuntimeError:
        return  # a model was loaded in this process before; its settings stay


def load_frozen(path: Path, outputs: Sequence[str], inputs: Sequence[str], allowed: bool = False) -> TensorFlowNetwork:
    """Load a frozen graph as a function from the first of ``inputs`` that exists to those of ``outputs`` that exist.

    Args:
        path: the frozen graph.
        outputs: names of nodes.
        inputs: names of nodes.
        allowed: whether operations that can do more than compute may run.

    Raises:
        ModelError: the file is broken, or has none of the tensors.
        TrustError: it can do more than compute.
    """
    graph = read_frozen_graph(path)
    if not allowed:
        check_graph(graph, path)
    names = {node.name for node in graph.node}
    feed = next((name for name in inputs if name in names), None)
    fetches = [name for name in outputs if name in names]
    if feed is None or not fetches:
        placeholders = [node.name for node in graph.node if node.op == "Placeholder"]
        raise ModelError(
            f"The graph has no tensor {' or '.join(inputs) if feed is None else ' or '.join(outputs)}; its inputs are: "
            f"{', '.join(placeholders) or 'none'}.",
            stage="loading the model",
            file=str(path),
            hint="Check that ModelConfiguration names the configuration with which the graph was exported.",
        )
    return _from_graph(graph, {feed: f"{feed}:0"}, {name: f"{name}:0" for name in fetches}, path)


def _from_graph(graph: Any, feeds: Mapping[str, str], fetches: Mapping[str, str], path: Path) -> TensorFlowNetwork:
    import tensorflow as tf

    def import_graph() -> None:
        tf.graph_util.import_graph_def(graph, name="")

    try:
        wrapped = tf.compat.v1.wrap_function(import_graph, [])
        sources = {name: wrapped.graph.as_graph_element(tensor) for name, tensor in feeds.items()}
        results = {name: wrapped.graph.as_graph_element(tensor) for name, tensor in fetches.items()}
        function = wrapped.prune(list(sources.values()), list(results.values()))
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        raise ModelError(
            f"TensorFlow cannot take in the graph: {str(error).strip().splitlines()[0]}",
            stage="loading the model",
            file=str(path),
            hint="The file may be damaged, or made for a TensorFlow that is not compatible.",
        ) from error
    return TensorFlowNetwork(lambda tensors: function(*tensors), sources, results, path)


def load_saved_model(folder: Path, signature: str = "", allowed: bool = False) -> TensorFlowNetwork:
    """Load a signature of a SavedModel.

    Models of TensorFlow 1 are turned into a frozen graph here, with the values read from the checkpoint, so that
    nothing of the graph runs but what the signature needs. Models of TensorFlow 2 are checked first, functions that
    loading would run included, and then loaded by TensorFlow.

    Args:
        folder: the folder with ``saved_model.pb``.
        signature: its name; empty for the usual one.
        allowed: whether operations that can do more than compute may run.

    Raises:
        ModelError: the folder holds no such model.
        TrustError: it can do more than compute.
    """
    meta = read_meta_graph(folder)
    known = dict(meta.signature_def)
    known = {name: known[name] for name in known if known[name].inputs and known[name].outputs}
    name = signature or next((one for one in _SIGNATURES if one in known), next(iter(sorted(known)), ""))
    if name not in known:
        raise ModelError(
            f"The SavedModel has no signature '{name}'." if name else "The SavedModel has no signature.",
            stage="loading the model",
            file=str(folder),
            hint=f"It has: {', '.join(sorted(known)) or 'none'}.",
        )
    chosen = known[name]
    fetched = [info.name for info in chosen.outputs.values()]
    if meta.object_graph_def.nodes:
        functions = list(meta.object_graph_def.concrete_functions)
        if not allowed:
            check_graph(meta.graph_def, folder / "saved_model.pb", fetched, functions)
        return _load_second_generation(folder, name)
    if not allowed:
        check_graph(meta.graph_def, folder / "saved_model.pb", fetched)
    graph = _freeze(meta.graph_def, folder, fetched)
    feeds = {key: info.name for key, info in chosen.inputs.items()}
    return _from_graph(graph, feeds, {key: info.name for key, info in chosen.outputs.items()}, folder)


def _load_second_generation(folder: Path, name: str) -> TensorFlowNetwork:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder), tags=["serve"])
        function = loaded.signatures[name]
    except (ValueError, KeyError, OSError, tf.errors.OpError) as error:
        raise _unreadable(folder, error) from error
    _, keywords = function.structured_input_signature
    outputs = dict(function.structured_outputs)

    def call(tensors: Sequence[Any]) -> list[Any]:
        found = function(**dict(zip(keywords, tensors)))
        return [found[key] for key in outputs]

    return TensorFlowNetwork(call, keywords, outputs, folder, loaded)


def _freeze(graph: Any, folder: Path, fetched: Sequence[str]) -> Any:
    """Return the part of a graph that the fetched tensors need, its variables replaced by their values."""
    import tensorflow as tf

    try:
        needed = tf.compat.v1.graph_util.extract_sub_graph(graph, [name.split(":")[0] for name in fetched])
        variables = folder / "variables" / "variables"
        values = tf.train.load_checkpoint(str(variables)) if variables.with_suffix(".index").is_file() else None
        for node in needed.node:
            if node.op in _VARIABLES:
                shared = node.attr["shared_name"].s.decode() or node.name
                if values is None:
                    raise ModelError(
                        "The SavedModel has variables, but no folder 'variables' with their values.",
                        stage="loading the model",
                        file=str(folder),
                    )
                _make_constant(node, values.get_tensor(shared))
            elif node.op == "ReadVariableOp":
                kind = node.attr["dtype"].type
                del node.input[1:]
                node.op = "Identity"
                node.attr.clear()
                node.attr["T"].type = kind
            elif node.op in ("ResourceGather", "AssignVariableOp", "Assign"):
                raise ModelError(
                    f"The SavedModel uses the operation {node.op} on a variable, which is not supported.",
                    stage="loading the model",
                    file=str(folder),
                    hint="Export the model as a frozen graph, or with TensorFlow 2.",
                )
    except (ValueError, AssertionError, OSError, tf.errors.OpError) as error:
        raise _unreadable(folder, error) from error
    return needed


def _make_constant(node: Any, value: Any) -> None:
    import tensorflow as tf

    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    node.attr["dtype"].type = node.attr["value"].tensor.dtype


def _unreadable(folder: Path, error: Exception) -> ModelError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"TensorFlow cannot load the SavedModel: {text}",
        stage="loading the model",
        file=str(folder),
        hint="The folder may be incomplete: it needs saved_model.pb and the folder variables.",
    )


def _info(name: str, tensor: Any) -> TensorInfo:
    shape = tensor.shape
    sides = tuple(shape.as_list()) if shape.rank is not None else ()
    return TensorInfo(name, tensor.dtype.base_dtype.name, sides)
