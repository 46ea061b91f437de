"""Finding, importing and creating the class of a Python raster function.

The function of one package has a worker process to itself: packages bring modules called ``util`` or ``model``, change
``sys.path`` and ``os.environ``, and none of that may reach another package.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import inspect
import json
import os
import shutil
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Mapping

from ..errors import ModelError
from . import older_libraries
from .arcpy_stand_in import Emit, install
from .missing import STAGE, missing_import, missing_name

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage

_STAND_INS = Path(__file__).resolve().with_name("stand_ins")

# Keys of a definition that hold paths; inference code joins them by itself, with the separators of its system.
_PATH_KEYS = ("ModelFile", "InferenceFunction", "ModelConfigurationFile")


def import_path(path: Path, root: Path) -> List[Path]:
    """Return the folders that a function imports from, in their order.

    What a package brings comes before our stand-ins, as its own ``fields.py`` may hold fields that ours lacks.
    """
    ours = [root, path.parent, root / "python_raster_functions", _STAND_INS]
    return [one for one in dict.fromkeys(ours) if one.is_dir()]


def import_function(path: Path, root: Path, device: str, emit: Emit) -> types.ModuleType:
    """Import the module of a raster function.

    Args:
        path: the ``.py`` file, beside whatever else it imports.
        root: folder of the package, which holds the definition.
        device: "cpu" or "cuda:0", for the stand-in of ``arcpy``.
        emit: takes the messages of ``arcpy.AddMessage`` and its like.

    Raises:
        ModelError: it cannot be imported; the message names the import that is missing and how to provide it.
    """
    arcpy = install(device, emit)
    folders = import_path(path, root)
    older_libraries.install(folders[0])
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.append(folder)
    # Its own name stays free: functions of different packages may be called alike, and some look for their module.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError("The raster function is not a Python file.", stage=STAGE, file=str(path))
    module = importlib.util.module_from_spec(spec)
    module.__dict__["arcpy"] = arcpy
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise missing_import(path, error) from error
    except Exception as error:
        raise fault(path, "being imported", error) from error
    return module


def find_class(module: types.ModuleType, path: Path) -> type:
    """Return the class of the raster function.

    ArcGIS asks for a class named like its module; published templates break that rule, so the only class that has
    ``getParameterInfo`` will do as well.

    Raises:
        ModelError: there is none, or there are several.
    """
    classes = {
        name: one
        for name, one in vars(module).items()
        if inspect.isclass(one) and one.__module__ == module.__name__ and hasattr(one, "getParameterInfo")
    }
    for name, one in classes.items():
        if name.lower() == path.stem.lower():
            return one
    if len(classes) == 1:
        return next(iter(classes.values()))
    found = ", ".join(sorted(classes)) or "none"
    raise ModelError(
        f"The raster function “{path.name}” needs one class called {path.stem} with a method getParameterInfo; "
        f"found {found}.",
        stage=STAGE,
        file=str(path),
    )


def call(path: Path, what: str, function: Callable[..., Any], *positional: Any, **named: Any) -> Any:
    """Call into the package's code; whatever it raises becomes a sentence that names the call and the line."""
    try:
        return function(*positional, **named)
    except ImportError as error:
        raise missing_import(path, error) from error
    except Exception as error:
        raise fault(path, what, error) from error


def fault(path: Path, what: str, error: Exception) -> ModelError:
    """Return the error for an exception that the package's code raised in the call ``what``."""
    ours = str(Path(__file__).parent)
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith((ours, "<"))]
    # The line of the package's own that was last, if any: its author knows that one.
    frames = [one for one in frames if one.filename.startswith(str(path.parent))] or frames
    where = f", line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    return ModelError(
        f"The raster function “{path.name}” failed in {what}{where}: {type(error).__name__}: {error}.",
        stage=STAGE,
        file=str(path),
        hint=missing_name(error) or "Report this to the author of the package, with the log of this run.",
    )


def keep_gpu() -> None:
    """Settle which GPU this process sees, before the function names one.

    Published functions write the number they are given into CUDA_VISIBLE_DEVICES. That number counts the GPUs of the
    host, which shows each worker one alone; once the driver runs, the variable changes nothing any more.
    """
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(name).cuInit(0)
            return


def lay_out(package: ModelPackage) -> Path:
    """Return a folder that looks like the package unpacked by hand, with its definition in it; the path of the latter.

    Functions open files beside their definition and join its paths with the separators of Windows; the package's own
    folder is read only and shared, so they get links to its files and a definition of their own.
    """
    from ..package.emd import write_definition

    folder = Path(tempfile.mkdtemp(prefix="deep_raster_function_"))
    for entry in package.folder.iterdir():
        if entry.suffix.lower() != ".emd":
            _place(entry, folder / entry.name)
    path = folder / f"{package.name}.emd"
    members = json.loads(write_definition(with_native_paths(package.definition.members)))
    # Functions open it in the encoding of their system, which on Windows is not UTF-8: ASCII is the same in both.
    path.write_text(json.dumps(members, indent=4), encoding="ascii")
    return path


def _place(entry: Path, target: Path) -> None:
    """Let a file or folder of the package appear at ``target``."""
    try:
        os.symlink(entry, target, target_is_directory=entry.is_dir())
    except OSError:  # Windows asks for a right that most people lack
        if entry.is_dir():
            shutil.copytree(entry, target)
        else:
            shutil.copy2(entry, target)


def with_native_paths(members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return definition members whose paths have forward slashes and no leading ``./``."""
    found = dict(members)
    for key in _PATH_KEYS:
        if isinstance(found.get(key), str):
            found[key] = _native(found[key])
    configuration = found.get("ModelConfiguration")
    if isinstance(configuration, Mapping):
        found["ModelConfiguration"] = {
            key: _native(value) if key in ("Architecture", "Config") and isinstance(value, str) else value
            for key, value in configuration.items()
        }
    return found


def _native(path: str) -> str:
    path = path.replace("\\", "/")
    return path[2:] if path.startswith("./") else path
