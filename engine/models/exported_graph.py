"""Exported programs of PyTorch run node by node, with operators from a list of those that only compute.

The targets of a ``.pt2`` file are names. Only names of tensor operators are looked up; what opens files, changes
storages, or skips the checks of its indices is refused, and so is everything that is no operator at all.
"""

from __future__ import annotations

import math
import operator
import re
from typing import Any, Callable, Mapping, Optional, Sequence

import torch

from ..errors import ModelError
from .exported_archive import DTYPES, Archive

_OPERATOR = re.compile(r"torch\.ops\.(aten|torchvision)\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_VISION = frozenset(("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"))
# They open files, exchange storages, or trust their arguments.
_DENIED = frozenset(
    ("from_file", "set_", "set_data", "resize_", "resize_as_", "resize", "resize_as", "record_stream", "is_pinned",
     "pin_memory", "rename", "rename_", "sparse_resize_", "sparse_resize_and_clear_")
)  # fmt: skip
# Operators whose names begin with an underscore are internal; these are what exports are made of.
_INTERNAL = frozenset(
    ("_to_copy", "_softmax", "_log_softmax", "_unsafe_view", "_adaptive_avg_pool2d", "_native_batch_norm_legit",
     "_native_batch_norm_legit_no_training", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_prelu_kernel",
     "_safe_softmax", "_convolution", "_weight_norm", "_weight_norm_interface", "_fused_rms_norm",
     "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math")
)  # fmt: skip
# They compare sizes and types with those of the export, and compute nothing.
_CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range",
           "sym_constrain_range_for_size")  # fmt: skip
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge",
                     "and_", "or_", "not_", "getitem")
    },
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
    "torch.sym_sqrt": math.sqrt,
    "torch._sym_sqrt": math.sqrt,
    "torch.sym_sum": sum,
}  # fmt: skip
_LAYOUTS = {7: torch.strided}
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_SET_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
_MOST_NODES = 200_000

Values = dict[str, Any]


class ExportedProgram:
    """A program with its tensors on a device.

    Attributes:
        inputs: names of the tensors to hand over, in their order.
        outputs: names of the tensors that come back, in their order.
        shapes: sizes at the export of every tensor by name, None where any size will do.
        examples: the same with the sizes of the export's example where the file tells them.
        dtypes: element types ("float32") by name.
        multiples: numbers that sizes must be multiples of, by tensor and axis.
    """

    def __init__(self, archive: Archive, device: torch.device, path: str) -> None:
        """Look up every operator and bind the weights.

        Raises:
            ModelError: the program wants something that is not on the list, or a tensor that is not there.
        """
        self._device, self._path = device, path
        module = archive.program["graph_module"]
        self._graph = module["graph"]
        self._check(self._graph)
        self._channels_last = not any("as_strided" in str(node["target"]) for node in self._graph["nodes"])
        self._steps = _steps(self._graph)
        self._bound: Values = {}
        inputs: list[str] = []
        for spec in module["signature"]["input_specs"]:
            ((kind, member),) = spec.items()
            if kind in ("parameter", "buffer", "tensor_constant"):
                name = member["arg"]["name"]
                self._bound[name] = self._placed(self._weight(archive, member[_KEYS[kind]]))
            elif kind == "user_input" and "as_tensor" in member["arg"]:
                inputs.append(str(member["arg"]["as_tensor"]["name"]))
            elif kind not in ("user_input", "constant_input", "token") or "as_sym_int" in member.get("arg", {}):
                raise self._refused(f"an input of the kind {kind}")
        self.inputs: Sequence[str] = tuple(inputs)
        results = [
            member["arg"]
            for spec in module["signature"]["output_specs"]
            for kind, member in spec.items()
            if kind == "user_output"
        ]
        self.outputs: Sequence[str] = tuple(str(one["as_tensor"]["name"]) for one in results if "as_tensor" in one)
        metas = self._graph["tensor_values"]
        self.shapes = {name: tuple(one.get("as_int") for one in meta["sizes"]) for name, meta in metas.items()}
        self.examples = {name: tuple(_hinted(one) for one in meta["sizes"]) for name, meta in metas.items()}
        self.multiples = {name: tuple(_multiple(one) for one in meta["sizes"]) for name, meta in metas.items()}
        self.dtypes = {name: str(DTYPES.get(int(meta["dtype"]))).rpartition(".")[2] for name, meta in metas.items()}

    def __call__(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the outputs for the inputs, all on the device."""
        values = {**self._bound, **{name: self._placed(one) for name, one in zip(self.inputs, tensors)}}
        self._run(self._graph, self._steps, values)
        return [values[name] for name in self.outputs]

    def maker(self, name: str) -> tuple[str, str]:
        """Return (operator, name of its first tensor) of the node that makes a tensor; empty texts for inputs."""
        for node in self._graph["nodes"]:
            if any(name in _names(one) for one in node["outputs"]):
                first = next((known for one in node["inputs"] for known in _names(one["arg"])), "")
                found = _OPERATOR.fullmatch(node["target"])
                return (found[2] if found else ""), first
        return "", ""

    def _run(self, graph: Mapping[str, Any], steps: Sequence[_Step], values: Values) -> None:
        for step in steps:
            places, named = [], {}
            for entry in step.node["inputs"]:
                value = self._value(entry["arg"], values)
                if entry.get("kind") == 1 or not entry.get("name"):
                    places.append(value)
                else:
                    named[entry["name"]] = value
            if step.node["target"] == _SET_GRAD:
                result: Any = self._inner(step.node, places[2:])
            else:
                result = step.function(*places, **named) if step.function else None
            _store(step.node["outputs"], result, values)
            for name in step.last:
                values.pop(name, None)

    def _inner(self, node: Mapping[str, Any], given: Sequence[Any]) -> Any:
        """Run the graph inside a ``with torch.no_grad()``."""
        graph = next(one["arg"]["as_graph"]["graph"] for one in node["inputs"] if "as_graph" in one["arg"])
        values: Values = {}
        for place, value in zip(graph["inputs"], given):
            _store([place], value, values)
        self._run(graph, _steps(graph), values)
        results = [self._value(one, values) for one in graph["outputs"]]
        return results[0] if len(results) == 1 else results

    def _value(self, argument: Mapping[str, Any], values: Values) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return values[value["name"]]
        if kind == "as_tensors":
            return [values[one["name"]] for one in value]
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return _symbol(value, values)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [_symbol(one, values) for one in value]
        if kind == "as_optional_tensor":
            return values[value["as_tensor"]["name"]] if "as_tensor" in value else None
        if kind == "as_optional_tensors":
            return [values[one["as_tensor"]["name"]] if "as_tensor" in one else None for one in value]
        if kind == "as_scalar_type":
            return DTYPES[int(value)]
        if kind == "as_device":
            return self._device
        if kind == "as_layout":
            return _LAYOUTS[int(value)]
        if kind == "as_memory_format":
            return _FORMATS[int(value)]
        return None if kind == "as_graph" else value

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        moved = tensor.to(self._device)
        if self._channels_last and moved.ndim == 4 and moved.is_floating_point():
            # Convolutions in this order take 0.5 to 0.7 of the time.
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved

    def _weight(self, archive: Archive, name: str) -> torch.Tensor:
        if name not in archive.tensors:
            raise ModelError(
                f"The exported program lacks its tensor '{name}'; the file is damaged or was cut down.",
                stage="loading the model",
                file=self._path,
                hint="Save the network again with torch.export.save.",
            )
        return archive.tensors[name]

    def _check(self, graph: Mapping[str, Any], depth: int = 0) -> None:
        if len(graph["nodes"]) > _MOST_NODES or depth > 20:
            raise self._refused("more steps than any network has")
        for node in graph["nodes"]:
            target = str(node["target"])
            inner = [one["arg"]["as_graph"]["graph"] for one in node["inputs"] if "as_graph" in one["arg"]]
            if target == _SET_GRAD and len(inner) == 1:
                self._check(inner[0], depth + 1)
            elif inner or not is_allowed(target) or any("as_custom_obj" in one["arg"] for one in node["inputs"]):
                raise self._refused(f"the operation {target[:100]}")

    def _refused(self, what: str) -> ModelError:
        return ModelError(
            f"The exported program asks for {what}, which is not among the operations that are run.",
            stage="loading the model",
            file=self._path,
            hint="Export the network to ONNX, or without that operation.",
        )


_KEYS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


class _Step:
    """A node, its function (None for mere checks), and the names that nothing needs after it."""

    def __init__(self, node: Mapping[str, Any], last: Sequence[str]) -> None:
        self.node, self.last, self.function = node, last, resolve(str(node["target"]))


def is_allowed(target: str) -> bool:
    """Return whether a target is an operator that computes and does nothing else."""
    if target in _ARITHMETIC:
        return True
    found = _OPERATOR.fullmatch(target)
    if not found:
        return False
    space, name, overload = found.groups()
    if space == "torchvision":
        return name in _VISION and overload == "default"
    if name in _DENIED or (name.startswith("_") and name not in _INTERNAL and name not in _CHECKS):
        return False
    return "unsafe" not in name or name == "_unsafe_view"


def resolve(target: str) -> Optional[Callable[..., Any]]:
    """Return the function of an allowed target; None for checks."""
    if target in _ARITHMETIC:
        return _ARITHMETIC[target]
    found = _OPERATOR.fullmatch(target)
    if not found or not is_allowed(target) or found[2] in _CHECKS:
        return None
    space, name, overload = found.groups()
    if space == "aten" and name in ("view", "_unsafe_view") and overload == "default":
        name, overload = "reshape", "default"  # the order of bytes may be another than at the export
    packet = getattr(getattr(torch.ops, space), name)
    function: Callable[..., Any] = getattr(packet, overload)
    return function


def _steps(graph: Mapping[str, Any]) -> list[_Step]:
    """Return the nodes with what can be forgotten after each, so that memory is that of the network itself."""
    kept = {name for one in graph["outputs"] for name in _names(one)}
    steps: list[_Step] = []
    seen = set(kept)
    for node in reversed(graph["nodes"]):
        used = [name for entry in node["inputs"] for name in _names(entry["arg"])]
        used += [name for one in node["outputs"] for name in _names(one)]
        steps.append(_Step(node, [name for name in dict.fromkeys(used) if name not in seen]))
        seen.update(used)
    return steps[::-1]


def _names(argument: Mapping[str, Any]) -> list[str]:
    """Return the names of tensors that an argument refers to."""
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        return [str(value["name"])]
    if kind == "as_tensors":
        return [str(one["name"]) for one in value]
    if kind == "as_optional_tensor":
        return [str(value["as_tensor"]["name"])] if "as_tensor" in value else []
    if kind == "as_optional_tensors":
        return [str(one["as_tensor"]["name"]) for one in value if "as_tensor" in one]
    return []


def _store(places: Sequence[Mapping[str, Any]], result: Any, values: Values) -> None:
    results = [result] if len(places) == 1 else result
    for place, one in zip(places, results or ()):
        ((kind, value),) = place.items()
        if kind == "as_tensors":
            values.update({str(entry["name"]): tensor for entry, tensor in zip(value, one)})
        elif kind == "as_tensor":
            # operators with a single output in a list answer with the list
            values[str(value["name"])] = one[0] if isinstance(one, (list, tuple)) else one
        elif kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in value:
            values[str(value["as_name"])] = one


def _symbol(value: Mapping[str, Any], values: Values) -> Any:
    return values[value["as_name"]] if "as_name" in value else next(iter(value.values()))


def _hinted(size: Mapping[str, Any]) -> Optional[int]:
    if "as_int" in size:
        return int(size["as_int"])
    hint = (size.get("as_expr") or {}).get("hint") or {}
    return int(hint["as_int"]) if "as_int" in hint else None


def _multiple(size: Mapping[str, Any]) -> int:
    """Return the number that a size is a multiple of, where the export says so ("16 times something")."""
    text = str((size.get("as_expr") or {}).get("expr_str", ""))
    found = re.fullmatch(r"Mul\(Integer\((\d{1,6})\), Symbol\('[^']*'[^()]*\)\)", text)
    return int(found[1]) if found else 1
