"""torchvision and timm imported without PyTorch's compiler, which prediction never uses.

torchvision asks PyTorch's compiler (``torch._dynamo``) for one function as it is imported, and timm has it mark a few
others; the compiler brings 800 modules with it, symbolic algebra among them. Importing both took 3.5 s of processor
time in every new worker and takes 0.5 s so. While one of the two is imported, a stand-in takes the compiler's place;
it is gone afterwards, and whoever needs the compiler then gets the real one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

_COMPILER = "torch._dynamo"
_LEAN = ("torchvision", "timm")


def install() -> None:
    """Have later imports of torchvision and timm leave the compiler out."""
    if not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the two packages where they are, and wraps their execution."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[types.ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Return the package's own spec with a loader that keeps the compiler out."""
        if fullname not in _LEAN:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def lean(module: types.ModuleType) -> None:
                importlib.import_module("torch")  # by itself it does not need the compiler
                with without_compiler():
                    execute(module)

            spec.loader.exec_module = lean  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Let a stand-in take the compiler's place in ``sys.modules``, unless the compiler is there already."""
    if _COMPILER in sys.modules:
        yield
        return
    package, utilities = _StandIn(_COMPILER), _StandIn(f"{_COMPILER}.utils")
    package.__path__ = [str(Path(sys.modules["torch"].__path__[0]) / "_dynamo")]
    package.__dict__.update(disable=_as_it_is, config=types.SimpleNamespace(), utils=utilities)
    utilities.__dict__.update(is_compile_supported=_is_compile_supported)
    sys.modules.update({package.__name__: package, utilities.__name__: utilities})
    try:
        yield
    finally:
        _remove()


class _StandIn(types.ModuleType):
    """Answers what the two packages ask; for anything else it makes room for the real module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove()
        return getattr(importlib.import_module(self.__name__), name)


def _remove() -> None:
    for name in (_COMPILER, f"{_COMPILER}.utils"):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _as_it_is(function: Optional[Callable[..., Any]] = None, *_: Any, **__: Any) -> Any:
    """Mark nothing: functions that the compiler is to leave alone are only run here."""
    return (lambda later: later) if function is None else function


def _is_compile_supported(device: Any) -> bool:
    return bool(importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device))
