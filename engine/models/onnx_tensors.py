"""Inputs and outputs of an ONNX graph, with the sizes that can be worked out, and what made the outputs."""

from __future__ import annotations

from typing import Optional

import onnx

from .network import TensorInfo
from .onnx_file import element_type

_PASSED_THROUGH = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Resize", "Slice", "Flatten")
_MOST_BYTES = 500_000_000  # larger graphs are not copied for the sake of a guess


def inputs_of(model: onnx.ModelProto) -> list[TensorInfo]:
    """Return the inputs that are not weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_info(value) for value in model.graph.input if value.name not in weights]


def outputs_of(model: onnx.ModelProto) -> list[TensorInfo]:
    """Return the outputs; sizes that the exporter left open are worked out from the graph where that is possible."""
    infos = [_info(value) for value in model.graph.output]
    if all(None not in info.shape[1:] for info in infos) or model.ByteSize() > _MOST_BYTES:
        return infos
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_output_shapes(model), data_prop=True)
    except (RuntimeError, ValueError):  # a graph that ONNX's own inference does not understand may still run
        return infos
    known = {value.name: _info(value) for value in inferred.graph.output}
    return [known[info.name] if _tells_more(known.get(info.name), info) else info for info in infos]


def _without_output_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which names for open sizes of outputs do not stand in the way of inference."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    del copy.graph.value_info[:]
    return copy


def _tells_more(found: Optional[TensorInfo], info: TensorInfo) -> bool:
    return (
        found is not None and len(found.shape) == len(info.shape) and found.shape.count(None) < info.shape.count(None)
    )


def last_activation(model: onnx.ModelProto, output: str) -> str:
    """Return "is sigmoid" or the like if the output has gone through an activation or ArgMax; empty if it is raw."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {"Sigmoid": "is sigmoid", "Softmax": "is softmax", "ArgMax": "is argmax", "Clip": "is clip"}
    name = output
    while name in makers:
        node = makers[name]
        if node.op_type in found:
            return found[node.op_type]
        if node.op_type not in _PASSED_THROUGH:
            return ""
        name = node.input[0]
    return ""


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.tensor_type
    shape = tuple(dimension.dim_value or None for dimension in kind.shape.dim)
    return TensorInfo(value.name, element_type(kind.elem_type), shape)
