"""Keras model files (``.h5``, ``.keras``) read with care: HDF5 without ways out, archives without surprises.

HDF5 can point to other files (external links, external storage, virtual data sets); such files are refused before any
library follows the pointers.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import IO, Any, Union

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import ModelError, PackageError
from .keras_config import check_config

_MOST_BYTES = 16 * 2**30
_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
Layers = dict[str, dict[str, npt.NDArray[np.generic]]]


def open_hdf5(source: Union[Path, IO[bytes]], name: str) -> h5py.File:
    """Open an HDF5 file for reading after a walk through all of it.

    Args:
        source: a path, or an open binary file.
        name: what to call it in messages.

    Raises:
        ModelError: it is no complete HDF5 file.
        PackageError: it points to other files.
    """
    try:
        file = h5py.File(source, "r")
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise ModelError("The weights file is missing.", stage="loading the model", file=name) from error
        raise _broken(name) from error
    try:
        _walk(file, name)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        file.close()
        if isinstance(error, PackageError):
            raise
        raise _broken(name) from error
    except PackageError:
        file.close()
        raise
    return file


def _walk(group: h5py.Group, name: str) -> None:
    for key in group:
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise PackageError(
                f"The weights file holds a link ('{key}') instead of data.", stage="checking the model", file=name
            )
        item = group[key]
        if isinstance(item, h5py.Group):
            _walk(item, name)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise PackageError(
                    f"The weights file keeps '{key}' in another file.", stage="checking the model", file=name
                )
            if item.nbytes > _MOST_BYTES or item.dtype.kind not in "fiubSO":
                raise PackageError(f"The weights file holds odd data ('{key}').", stage="checking the model", file=name)


def read_layers(path: Path) -> Layers:
    """Return the arrays of a weights file saved by layer: layer name to (variable name to array).

    Variable names are the last part, such as "kernel" or "moving_mean". A model nested in the model (as one layer)
    has its layers listed beside the others.

    Raises:
        ModelError: the file is broken or not saved by layer.
        PackageError: it points to other files.
    """
    with open_hdf5(path, str(path)) as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise ModelError(
                "The weights file does not list its layers.",
                stage="loading the model",
                file=str(path),
                hint="Save the weights with Keras' save_weights in HDF5 format.",
            )
        layers: Layers = {}
        try:
            for layer in _texts(root, "layer_names"):
                for entry in _texts(root[layer], "weight_names"):
                    parts = entry.partition(":")[0].split("/")
                    owner = parts[-2] if len(parts) > 1 else layer
                    # The variables of a nested model carry their own layer's name; all others that of the layer.
                    owner = owner if layer.endswith("_model") else layer
                    layers.setdefault(owner, {})[parts[-1]] = np.asarray(root[layer][entry])
        except (KeyError, OSError, RuntimeError) as error:
            raise _broken(str(path)) from error
    return layers


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Return a list of texts kept in attributes; long lists are cut into name0, name1 and so on."""
    values = list(group.attrs.get(name, ()))
    number = 0
    while f"{name}{number}" in group.attrs:
        values += list(group.attrs[f"{name}{number}"])
        number += 1
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def load_model(path: Path) -> Any:
    """Load a whole model (architecture and weights) for prediction.

    Files of Keras 3 are loaded by Keras, older ones by ``tf_keras``, because Keras 3 builds them wrongly.

    Raises:
        ModelError: the file is broken, or this Keras cannot load it.
        PackageError: it points to other files.
        TrustError: it asks for more than plain layers.
        ModuleNotFoundError: the Keras that it needs is not installed.
    """
    with path.open("rb") as file:
        start = file.read(8)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if start[:2] == b"PK":
        _check_archive(path)
        return _load(path, modern=True)
    with open_hdf5(path, str(path)) as file:
        text = file.attrs.get("model_config")
        version = file.attrs.get("keras_version", "2")
    if text is None:
        raise ModelError(
            "The file holds weights only, but the whole model is needed.",
            stage="loading the model",
            file=str(path),
            hint="Save the model with model.save, not model.save_weights.",
        )
    check_config(_json(text, str(path)), str(path))
    number = (version.decode() if isinstance(version, bytes) else str(version)).split(".")[0]
    return _load(path, modern=number.isdigit() and int(number) >= 3)


def _load(path: Path, modern: bool) -> Any:
    if modern:
        import keras
    else:
        import tf_keras as keras
    try:
        return keras.models.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:  # Keras lets errors of many kinds through
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(
            f"Keras {keras.__version__} cannot load the model: {lines[0] if lines else type(error).__name__}",
            stage="loading the model",
            file=str(path),
            hint="Save it again with a current Keras, in the format .keras.",
        ) from error


def _check_archive(path: Path) -> None:
    """Check a ``.keras`` file: its members, its configuration and its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries if not entry.is_dir()]
            strange = [name for name in names if name not in _MEMBERS and not _is_asset(name)]
            if strange or len(set(names)) != len(names) or sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise PackageError(
                    "The .keras file holds parts that do not belong there: " + ", ".join(strange[:5] or ["duplicates"]),
                    stage="checking the model",
                    file=str(path),
                )
            check_config(_json(archive.read("config.json"), str(path)), str(path))
            with archive.open("model.weights.h5") as weights:
                open_hdf5(weights, str(path)).close()
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        if isinstance(error, PackageError):
            raise
        raise _broken(str(path)) from error


def _is_asset(name: str) -> bool:
    return name.startswith("assets/") and ".." not in name.split("/") and "\\" not in name


def _json(text: Any, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _broken(name) from error


def _broken(name: str) -> ModelError:
    return ModelError(
        "The Keras file is damaged, truncated or of another format.",
        stage="loading the model",
        file=name,
        hint="Save or copy the file again.",
    )
