"""Older faces of libraries, for functions written before the libraries changed.

Published functions were written for Python 3.6 to 3.9 with numpy before 1.24, TensorFlow 1 and Keras 2. What those took
away since is given back here, inside the worker that runs the function and nowhere else.
"""

from __future__ import annotations

import ast
import collections
import collections.abc
import importlib.util
import os
import re
import sys
import types
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Tuple, Union

from . import image_library

# Names of TensorFlow 1 that its second version lacks at the top.
_TENSORFLOW_1 = frozenset(
    ("AUTO_REUSE", "ConfigProto", "GPUOptions", "GraphDef", "InteractiveSession", "Session", "app", "flags", "gfile",
     "get_default_graph", "get_default_session", "get_variable", "global_variables", "global_variables_initializer",
     "layers", "logging", "placeholder", "reset_default_graph", "set_random_seed", "trainable_variables",
     "variable_scope")
)  # fmt: skip
# What code writes that was made for TensorFlow 2.
_SECOND_VERSION = (b"tensorflow.keras", b"tf.keras", b"tf.compat", b"tensorflow.compat")
_MOST_SOURCE = 1 << 20


def install(folder: Path) -> None:
    """Give back what the code in a package's folder needs of older libraries."""
    restore_numpy_names()
    restore_collections()
    restore_distutils()
    image_library.install()
    if uses_tensorflow_1(_code_in(folder)):
        restore_tensorflow_1()


def restore_for_keras(folder: Path) -> None:
    """Give back Keras 2 to the networks in a package's folder, and TensorFlow 1 unless they know the second version."""
    restore_keras_2()
    if not any(word in path.read_bytes() for path in _code_in(folder) for word in _SECOND_VERSION):
        restore_tensorflow_1()


def _code_in(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a package."""
    # The folder holds links to the package's own, which Path.rglob would not enter.
    for top, _, names in os.walk(folder, followlinks=True):
        yield from (Path(top) / name for name in names if name.endswith(".py"))


def restore_numpy_names() -> None:
    """Give back the names that numpy 1.24 and 2.0 took away."""
    import numpy as np

    names: dict[str, Any] = {
        "float": float, "int": int, "bool": bool, "object": object, "str": str, "complex": complex, "long": int,
        "unicode": str, "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "string_": np.bytes_,
        "Inf": np.inf, "Infinity": np.inf, "infty": np.inf, "NaN": np.nan, "NAN": np.nan,
        "product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any, "round_": np.round,
        "row_stack": np.vstack, "in1d": np.isin, "asfarray": lambda values: np.asarray(values, dtype=np.float64),
    }  # fmt: skip
    for name, meaning in names.items():
        if name not in np.__dict__:
            setattr(np, name, meaning)


def restore_collections() -> None:
    """Give back the abstract classes that Python 3.10 left in ``collections.abc`` alone."""
    for name in ("Callable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Set", "Sized"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))


class LooseVersion:
    """Version numbers in the order that ``distutils.version.LooseVersion`` gave them, which left with Python 3.12."""

    def __init__(self, text: str = "") -> None:
        """Take a version such as "1.10.2"."""
        self.vstring = text
        parts = re.findall(r"\d+|[a-z]+", str(text))
        self.version: List[Union[int, str]] = [int(one) if one.isdigit() else one for one in parts]

    def _key(self) -> Tuple[Tuple[int, int, str], ...]:
        # Letters, as in "2.0rc1", come before numbers.
        return tuple((1, one, "") if isinstance(one, int) else (0, 0, one) for one in self.version)

    @staticmethod
    def _of(other: object) -> LooseVersion:
        return other if isinstance(other, LooseVersion) else LooseVersion(str(other))

    def __eq__(self, other: object) -> bool:
        return self._key() == self._of(other)._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __lt__(self, other: object) -> bool:
        return self._key() < self._of(other)._key()

    def __le__(self, other: object) -> bool:
        return self._key() <= self._of(other)._key()

    def __gt__(self, other: object) -> bool:
        return self._key() > self._of(other)._key()

    def __ge__(self, other: object) -> bool:
        return self._key() >= self._of(other)._key()

    def __str__(self) -> str:
        return str(self.vstring)


def restore_distutils() -> None:
    """Give back ``distutils.version`` where Python has none."""
    if importlib.util.find_spec("distutils") is not None:
        return
    package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
    version.LooseVersion = version.StrictVersion = LooseVersion  # type: ignore[attr-defined]
    package.version = version  # type: ignore[attr-defined]
    package.__path__ = []
    sys.modules.update({"distutils": package, "distutils.version": version})


def uses_tensorflow_1(files: Iterable[Path]) -> bool:
    """Return whether any of the files uses TensorFlow as its first version was, and does not do so knowingly.

    Code that mentions ``tf.compat`` knows both versions and is left alone.
    """
    for path in files:
        if not path.is_file() or path.stat().st_size > _MOST_SOURCE:
            continue
        source = path.read_bytes()
        if b"tensorflow" not in source:
            continue
        try:
            used = set(_tensorflow_names(ast.parse(source)))
        except (SyntaxError, ValueError, RecursionError):
            continue  # it fails with its own message if it is ever imported
        if used & _TENSORFLOW_1 and "compat" not in used:
            return True
    return False


def _tensorflow_names(tree: ast.AST) -> Iterator[str]:
    """Yield the attributes that code takes directly of TensorFlow, whatever it calls the module."""
    called = {
        one.asname or one.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for one in node.names
        if one.name == "tensorflow"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "tensorflow":
            yield from (one.name for one in node.names)


class _FirstVersion(types.ModuleType):
    """``tensorflow`` as its first version was: ``tf.compat.v1``, and the real module for what that lacks."""

    def __init__(self, real: types.ModuleType) -> None:
        super().__init__("tensorflow")
        self.__dict__.update(
            {name: real.__dict__[name] for name in ("__path__", "__file__", "__spec__", "__version__", "__loader__")}
        )
        self.__dict__["_real"] = real

    def __getattr__(self, name: str) -> Any:
        real = self.__dict__["_real"]
        version_1 = real.compat.v1
        return getattr(version_1, name) if hasattr(version_1, name) else getattr(real, name)


def restore_tensorflow_1() -> None:
    """Let ``import tensorflow`` give its first version, and ``import keras`` Keras 2; nothing where there is none."""
    if importlib.util.find_spec("tensorflow") is None:
        return  # the function's own import says so
    restore_keras_2()
    import tensorflow

    if isinstance(tensorflow, _FirstVersion):
        return
    tensorflow.compat.v1.disable_v2_behavior()
    sys.modules["tensorflow"] = _FirstVersion(tensorflow)


def restore_keras_2() -> None:
    """Let ``import keras`` and ``tensorflow.keras`` give Keras 2, with the modules that it had and hid later."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if importlib.util.find_spec("tf_keras") is None:
        return  # the function's own import of Keras says what is missing
    import tf_keras

    if sys.modules.get("keras") is tf_keras:
        return
    for name in [one for one in sys.modules if one == "keras" or one.startswith("keras.")]:
        del sys.modules[name]
    sys.modules["keras"] = tf_keras
    _restore_engine(tf_keras)


def _restore_engine(keras: types.ModuleType) -> None:
    """Give back ``keras.engine``: the base classes of layers, and loading of weights by the names of layers."""
    files = importlib.import_module("tf_keras.src.saving.legacy.hdf5_format")
    engine = types.ModuleType("keras.engine")
    engine.__path__ = []
    classes = {name: getattr(keras, name) for name in ("Input", "Model", "Sequential")}
    classes |= {name: getattr(keras.layers, name) for name in ("InputLayer", "InputSpec")}
    classes["Layer"] = _shaped_layer(keras.layers.Layer)
    sys.modules["keras.engine"] = engine
    for name in ("base_layer", "input_layer", "network", "saving", "sequential", "topology", "training"):
        part = types.ModuleType(f"keras.engine.{name}")
        part.__dict__.update(classes)
        for function in ("load_weights_from_hdf5_group", "load_weights_from_hdf5_group_by_name"):
            setattr(part, function, _by_layers(getattr(files, function)))
        setattr(engine, name, part)
        sys.modules[part.__name__] = part
    engine.__dict__.update(classes)
    keras.__dict__["engine"] = engine


def _by_layers(load: Callable[..., None]) -> Callable[..., None]:
    """Return a function that loads weights into layers, of one that wants their model."""

    def loads(file: Any, layers: Iterable[Any], **options: Any) -> None:
        listed = list(layers)
        model = types.SimpleNamespace(layers=listed, _trainable_weights=[], _non_trainable_weights=[])
        model._flatten_layers = lambda **_: listed
        load(file, model, **options)

    return loads


def _shaped_layer(base: Any) -> type:
    """Return the base class of layers as it was: what ``compute_output_shape`` says is the shape that others see."""

    class Layer(base):  # type: ignore[misc]
        """A layer of Keras before its version 2.3."""

        def __call__(self, *positional: Any, **named: Any) -> Any:
            """Return the outputs with the shapes that the layer states."""
            outputs = super().__call__(*positional, **named)
            if not positional or type(self).compute_output_shape is base.compute_output_shape:
                return outputs
            entering = positional[0]
            is_list = isinstance(entering, (list, tuple))
            shapes = [tuple(one.shape) for one in entering] if is_list else tuple(entering.shape)
            stated = self.compute_output_shape(shapes)
            is_many = isinstance(outputs, (list, tuple))
            for output, shape in zip(outputs, stated) if is_many else [(outputs, stated)]:
                output.set_shape(shape)
            return outputs

    return Layer
