"""What made the outputs of a TorchScript network, read from its graph: the activation they have gone through."""

from __future__ import annotations

from typing import Any

_ACTIVATIONS = {
    "aten::sigmoid": "is sigmoid", "aten::sigmoid_": "is sigmoid", "aten::softmax": "is softmax",
    "aten::_softmax": "is softmax", "aten::argmax": "is argmax", "aten::max": "is argmax", "aten::clamp": "is clip",
}  # fmt: skip
_PASSED_THROUGH = frozenset(
    f"aten::{name}"
    for name in ("to", "contiguous", "clone", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose",
                 "slice", "select", "flatten", "upsample_bilinear2d", "upsample_nearest2d", "detach")
)  # fmt: skip
_MOST_STEPS = 100


def output_activations(module: Any) -> dict[str, str]:
    """Return the activation of each output that has gone through one, by the output's key or place.

    Args:
        module: a loaded TorchScript module.
    """
    (answer,) = module.inlined_graph.outputs()
    node = answer.node()
    values = list(node.inputs())
    named: dict[str, Any] = {"0": answer}
    if node.kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
        named = {str(place): value for place, value in enumerate(values)}
    elif node.kind() == "prim::DictConstruct":
        named = {str(key.toIValue()): value for key, value in zip(values[::2], values[1::2])}
    found = {name: _activation(value) for name, value in named.items()}
    return {name: activation for name, activation in found.items() if activation}


def _activation(value: Any) -> str:
    for _ in range(_MOST_STEPS):
        node = value.node()
        kind = node.kind()
        if kind in _ACTIVATIONS:
            return _ACTIVATIONS[kind]
        if kind == "prim::If":
            # Both branches of a scripted softmax are one, with and without a type.
            place = [one.debugName() for one in node.outputs()].index(value.debugName())
            branches = [list(block.outputs())[place] for block in node.blocks()]
            found = {_activation(one) for one in branches}
            return found.pop() if len(found) == 1 else ""
        if kind not in _PASSED_THROUGH:
            return ""
        value = next(iter(node.inputs()))
    return ""
