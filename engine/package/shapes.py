"""Shapes of the tensors in a PyTorch file, from its pickle's operations, none of which is carried out.

The operations are followed on a stack of plain values: numbers, texts, tuples, and marks for whatever would be built.
A call of ``torch._utils._rebuild_tensor_v2`` (storage, offset, size, ...) gives a tensor's shape away
(torch/_utils.py); every other call leaves an opaque mark.
"""

from __future__ import annotations

import pickletools  # nosec B403
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ..errors import PackageError
from .formats import MAX_PICKLE

Shape = Tuple[int, ...]

_MAX_OPERATIONS = 3_000_000
_REBUILD = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")


class _Mark:
    """Where a group of values begins on the stack."""


class _Opaque:
    """Something that would be built by running the pickle."""


def tensor_shapes(path: Path) -> List[Shape]:
    """Return the shapes of the tensors of a ``torch.save`` or TorchScript archive, in the order of the file.

    Raises:
        PackageError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(one for one in archive.namelist() if one.partition("/")[2] == "data.pkl")
            if archive.getinfo(name).file_size > MAX_PICKLE:
                return []
            data = archive.read(name)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, StopIteration) as error:
        raise PackageError("The PyTorch file is damaged: its contents cannot be listed.", file=str(path)) from error
    reader = _Reader()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_OPERATIONS:
                break
            reader.follow(operation.name, argument)
    except Exception:  # whatever a damaged or hostile pickle makes the lister stumble over; what was found counts
        return reader.shapes
    return reader.shapes


class _Reader:
    """The stack and memo of a pickle, with marks instead of objects."""

    def __init__(self) -> None:
        self.shapes: List[Shape] = []
        self._stack: List[Any] = []
        self._memo: Dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "MARK":
            stack.append(_Mark())
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[len(self._memo) if argument is None else int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo.get(int(argument), _Opaque()))
        elif name in ("POP", "POP_MARK", "SETITEM", "SETITEMS", "APPEND", "APPENDS", "ADDITEMS", "BUILD"):
            self._drop(name)
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET", "INST", "OBJ"):
            values = self._since_mark()
            stack.append(tuple(values) if name == "TUPLE" else _Opaque())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            words = [str(argument)] if name == "GLOBAL" else [str(one) for one in (stack.pop(-2), stack.pop())]
            stack.append(" ".join(words))
        elif name in ("REDUCE", "NEWOBJ"):
            values = stack.pop()
            self._call(stack.pop(), values)
        elif name in ("BINPERSID", "NEWOBJ_EX"):
            del stack[-(1 if name == "BINPERSID" else 3) :]
            stack.append(_Opaque())
        elif name not in ("PROTO", "FRAME", "STOP"):
            stack.append(argument if isinstance(argument, (int, str)) else () if name == "EMPTY_TUPLE" else _Opaque())

    def _call(self, function: Any, values: Any) -> None:
        size = values[2] if isinstance(values, tuple) and len(values) > 2 else None
        if function in _REBUILD and isinstance(size, tuple) and all(isinstance(one, int) for one in size):
            self.shapes.append(size)
        self._stack.append(_Opaque())

    def _drop(self, name: str) -> None:
        if name in ("POP", "APPEND", "BUILD"):
            self._stack.pop()
        elif name == "SETITEM":
            del self._stack[-2:]
        else:
            self._since_mark()

    def _since_mark(self) -> List[Any]:
        values: List[Any] = []
        while not isinstance(self._stack[-1], _Mark):
            values.append(self._stack.pop())
        self._stack.pop()
        return values[::-1]
