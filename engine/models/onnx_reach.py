"""How far an ONNX network looks, computed from its graph: the halo that makes tiling exact, and the stride of its grid.

Every tensor is followed as cells of ``step`` input pixels, each of which depends on the pixels from ``low`` to ``high``
around the place of the cell. Operators that look along rows or columns without a bound (global pooling, attention,
instance normalisation), or whose answer depends on where the image ends, end the walk: such a network has no halo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Callable, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from .receptive import Reach

_TRIAL = 512  # pixels; a multiple of every usual stride
_MOST_BYTES = 1_000_000_000
Pair = Tuple[Fraction, Fraction]

_CELLWISE = frozenset(
    ("Abs", "Add", "And", "BatchNormalization", "BitShift", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div",
     "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
     "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod",
     "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuickGelu", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid",
     "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where", "Xor",
     "BiasGelu", "FastGelu", "QuantizeLinear", "DequantizeLinear")
)  # fmt: skip
# Along one axis or several; local as long as these are not rows or columns.
_ALONG = frozenset(
    ("ArgMax", "ArgMin", "Concat", "LogSoftmax", "LpNormalization", "ReduceL2", "ReduceMax", "ReduceMean",
     "ReduceMin", "ReduceSum", "Softmax", "Split", "Gather", "Squeeze", "Unsqueeze")
)  # fmt: skip
_TRANSFORMS = ("half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric")


class _Unbounded(Exception):
    """The network looks further than can be told."""


@dataclass(frozen=True)
class _Cells:
    """Cells of a tensor: size, and what each depends on, for rows and columns; and which axes these are."""

    step: Pair = (Fraction(1), Fraction(1))
    low: Pair = (Fraction(0), Fraction(0))
    high: Pair = (Fraction(0), Fraction(0))
    axes: Tuple[int, int] = (2, 3)

    def moved(self, step: Sequence[Fraction], low: Sequence[Fraction], high: Sequence[Fraction]) -> _Cells:
        """Return cells ``step`` times as large that see from ``low`` to ``high`` cells of these, of either axis."""
        return replace(
            self,
            step=(self.step[0] * step[0], self.step[1] * step[1]),
            low=(self.low[0] + low[0] * self.step[0], self.low[1] + low[1] * self.step[1]),
            high=(self.high[0] + high[0] * self.step[0], self.high[1] + high[1] * self.step[1]),
        )


def onnx_reach(model: onnx.ModelProto, image: str, output: str, layout: str = "NCHW") -> Optional[Reach]:
    """Return the halo and the stride of a pixel network; None if its output is no image of the input's size.

    Args:
        model: the graph; weights kept in other files are not needed.
        image: name of the input that takes images.
        output: name of the output, which has one cell per pixel.
        layout: of the input, "NCHW" or "NHWC".
    """
    if model.ByteSize() > _MOST_BYTES:
        return None
    try:
        return _Walk(_sized(model, image, layout), image, layout).reach(output)
    except (_Unbounded, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        # What the walk does not understand has no halo that could be promised.
        return Reach(None, 1)


def _sized(model: onnx.ModelProto, image: str, layout: str) -> onnx.ModelProto:
    """Return a copy for images of one size, with the sizes of all tensors worked out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rows, columns = (1, 2) if layout == "NHWC" else (2, 3)
    for value in copy.graph.input:
        if value.name == image:
            sides = value.type.tensor_type.shape.dim
            for place, side in enumerate(sides):
                if not side.dim_value:
                    side.dim_value = _TRIAL if place in (rows, columns) else 1
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    del copy.graph.value_info[:]
    return shape_inference.infer_shapes(copy, data_prop=True)


class _Walk:
    def __init__(self, model: onnx.ModelProto, image: str, layout: str) -> None:
        self._graph = model.graph
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self._shapes = {one.name: [side.dim_value for side in one.type.tensor_type.shape.dim] for one in values}
        self._weights = {one.name: one for one in model.graph.initializer}
        self._shapes.update({name: list(one.dims) for name, one in self._weights.items()})
        self._constants = {
            node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"
        }
        axes = (1, 2) if layout == "NHWC" else (2, 3)
        self._cells: dict[str, _Cells] = {image: _Cells(axes=axes)}
        sides = self._shapes[image]
        self._image = (sides[axes[0]], sides[axes[1]])
        self._unit = 1

    def reach(self, output: str) -> Optional[Reach]:
        """Return what the whole graph says about its output."""
        for node in self._graph.node:
            given = [name for name in node.input if name in self._cells]
            if given:
                self._follow(node, given)
        found = self._cells[output]
        if any(side != 1 for side in found.step):
            return None
        far = max(*(-one for one in found.low), *found.high, Fraction(0))
        return Reach(math.ceil(far / self._unit) * self._unit, self._unit)

    def _follow(self, node: onnx.NodeProto, given: Sequence[str]) -> None:
        kind = node.op_type
        if kind in ("Shape", "Size"):
            return  # sizes are known; what depends on them alone is the same for tiles of one size
        rules: dict[str, Callable[[onnx.NodeProto, _Cells], _Cells]] = {
            "Conv": self._window, "MaxPool": self._window, "AveragePool": self._window, "QLinearConv": self._window,
            "LpPool": self._window, "FusedConv": self._window, "ConvTranspose": self._transposed,
            "Resize": self._resized, "Upsample": self._resized, "Pad": self._padded, "Slice": self._sliced,
            "DepthToSpace": self._shuffled, "SpaceToDepth": self._unshuffled, "Transpose": self._turned,
        }  # fmt: skip
        if kind in rules:
            result = rules[kind](node, self._cells[node.input[0]])
        elif kind in _CELLWISE or kind in _ALONG:
            result = self._joined(node, given)
            if kind in _ALONG:
                result = self._along(node, result)
        else:
            raise _Unbounded
        for side in result.step:
            # A grid of cells begins at the tile's corner, so tiles must begin where cells do.
            self._unit = math.lcm(self._unit, side.numerator)
        for name in node.output:
            self._cells[name] = result

    def _joined(self, node: onnx.NodeProto, given: Sequence[str]) -> _Cells:
        cells = [self._cells[name] for name in given]
        first = cells[0]
        if any((one.step, one.axes) != (first.step, first.axes) for one in cells):
            raise _Unbounded
        for name in node.input:
            if name and name not in self._cells:
                self._require_same_everywhere(node, name)
        low = (min(one.low[0] for one in cells), min(one.low[1] for one in cells))
        high = (max(one.high[0] for one in cells), max(one.high[1] for one in cells))
        return replace(first, low=low, high=high)

    def _require_same_everywhere(self, node: onnx.NodeProto, name: str) -> None:
        """Refuse numbers that differ from place to place, such as encodings of the position."""
        if node.op_type == "BatchNormalization" or (node.op_type in _ALONG and node.op_type != "Concat"):
            return
        shape = self._shapes[name]
        rank = len(self._shapes[node.output[0]])
        axes = self._cells[next(one for one in node.input if one in self._cells)].axes
        for axis in axes:
            place = axis - rank + len(shape)
            if place >= 0 and shape[place] != 1:
                raise _Unbounded

    def _along(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        """Refuse what runs along rows or columns; follow axes that come and go."""
        kind = node.op_type
        rank = len(self._shapes[next(name for name in node.input if name in self._cells)])
        axes = self._axes(node)
        if axes is None:
            if kind not in ("Softmax", "LogSoftmax", "ArgMax", "ArgMin", "Split"):
                raise _Unbounded
            axes = [-1 if kind.endswith("oftmax") else 0]
        keeps = bool(_attribute(node, "keepdims", 1))
        if kind == "Unsqueeze":
            total = rank + len(axes)
            places = [place for place in range(total) if place not in {one % total for one in axes}]
            return replace(cells, axes=(places[cells.axes[0]], places[cells.axes[1]]))
        axes = [one % rank for one in axes]
        if set(axes) & set(cells.axes):
            raise _Unbounded
        drops = kind == "Squeeze" or (kind.startswith(("Arg", "Reduce")) and not keeps)
        if kind == "Gather":
            drops = not self._shapes[node.input[1]]
        if drops:
            below = [sum(one < axis for one in axes) for axis in cells.axes]
            return replace(cells, axes=(cells.axes[0] - below[0], cells.axes[1] - below[1]))
        return cells

    def _axes(self, node: onnx.NodeProto) -> Optional[list[int]]:
        for name in ("axis", "axes"):
            value = _attribute(node, name, None)
            if value is not None:
                return [int(one) for one in np.atleast_1d(value)]
        if node.op_type in ("Squeeze", "Unsqueeze") or node.op_type.startswith("Reduce"):
            return [int(one) for one in self._constant(node.input[1])] if len(node.input) > 1 else None
        return [0] if node.op_type == "Gather" else None

    def _window(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        self._require_image(cells)
        kernel, strides, dilations, pads = self._window_members(node)
        span = [(kernel[i] - 1) * dilations[i] for i in range(2)]
        low = [Fraction(-pads[i]) for i in range(2)]
        return cells.moved([Fraction(one) for one in strides], low, [span[i] + low[i] for i in range(2)])

    def _transposed(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        self._require_image(cells)
        kernel, strides, dilations, pads = self._window_members(node)
        low = [Fraction(pads[i] - (kernel[i] - 1) * dilations[i], strides[i]) for i in range(2)]
        high = [Fraction(pads[i], strides[i]) for i in range(2)]
        return cells.moved([Fraction(1, one) for one in strides], low, high)

    def _window_members(self, node: onnx.NodeProto) -> Tuple[Sequence[int], ...]:
        kernel = _attribute(node, "kernel_shape", None) or self._shapes[node.input[1]][2:]
        strides = _attribute(node, "strides", None) or [1, 1]
        dilations = _attribute(node, "dilations", None) or [1, 1]
        pads = _attribute(node, "pads", None) or [0, 0, 0, 0]
        if _attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or len(kernel) != 2:
            # "SAME" pads by the size of the image; as long as strides divide it, by these amounts.
            pads = [max((kernel[i] - 1) * dilations[i] + 1 - strides[i], 0) for i in range(2)]
            upper = _attribute(node, "auto_pad", b"NOTSET") == b"SAME_UPPER"
            pads = [one // 2 if upper else one - one // 2 for one in pads]
        return kernel, strides, dilations, pads

    def _resized(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        mode = _attribute(node, "mode", b"nearest")
        around = {b"nearest": 1, b"linear": 1, b"cubic": 2}[mode]
        if _attribute(node, "coordinate_transformation_mode", b"half_pixel").decode() not in _TRANSFORMS:
            raise _Unbounded  # by the corners of the image: where a cell lies depends on the image's size
        before, after = self._shapes[node.input[0]], self._shapes[node.output[0]]
        steps = [Fraction(before[axis], after[axis]) for axis in cells.axes]
        if any(step.numerator != 1 and step.denominator != 1 for step in steps):
            raise _Unbounded
        reach = [max(Fraction(1), step) * around for step in steps]
        over = [max(step - 1, Fraction(0)) for step in steps]
        return cells.moved(steps, [-one for one in reach], [one + more for one, more in zip(reach, over)])

    def _padded(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        pads = _attribute(node, "pads", None)
        pads = self._constant(node.input[1]) if pads is None else pads
        shift = [Fraction(-int(pads[axis])) for axis in cells.axes]
        return cells.moved([Fraction(1)] * 2, shift, shift)

    def _sliced(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        rank = len(self._shapes[node.input[0]])
        starts = self._constant(node.input[1])
        axes = self._constant(node.input[3]) if len(node.input) > 3 else range(len(starts))
        steps = self._constant(node.input[4]) if len(node.input) > 4 else [1] * len(starts)
        shift, stride = [Fraction(0)] * 2, [Fraction(1)] * 2
        for axis, start, step in zip(axes, starts, steps):
            if int(axis) % rank in cells.axes:
                place = cells.axes.index(int(axis) % rank)
                if start < 0 or step < 1:
                    raise _Unbounded
                shift[place], stride[place] = Fraction(int(start)), Fraction(int(step))
        return cells.moved(stride, shift, shift)

    def _shuffled(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        self._require_image(cells)
        block = int(_attribute(node, "blocksize", 1))
        return cells.moved([Fraction(1, block)] * 2, [Fraction(-1)] * 2, [Fraction(0)] * 2)

    def _unshuffled(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        self._require_image(cells)
        block = int(_attribute(node, "blocksize", 1))
        return cells.moved([Fraction(block)] * 2, [Fraction(0)] * 2, [Fraction(block - 1)] * 2)

    def _turned(self, node: onnx.NodeProto, cells: _Cells) -> _Cells:
        order = list(_attribute(node, "perm", None) or range(len(self._shapes[node.input[0]]))[::-1])
        return replace(cells, axes=(order.index(cells.axes[0]), order.index(cells.axes[1])))

    def _require_image(self, cells: _Cells) -> None:
        if cells.axes != (2, 3):
            raise _Unbounded

    def _constant(self, name: str) -> Any:
        tensor = self._weights.get(name) or self._constants[name]
        return numpy_helper.to_array(tensor).reshape(-1)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            value: Union[Any, Sequence[Any]] = onnx.helper.get_attribute_value(attribute)
            return value
    return default
