"""Sentences for what a raster function needs and this system lacks: which import or name, and how to provide it."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from ..errors import ModelError

STAGE = "running the package's own code"

# Modules that inference code imports under another name than the one to install.
_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "ensemble_boxes": "ensemble-boxes",
    "fastai": '"fastai<2"',
    "segment_anything": "segment-anything",
    "groundingdino": "groundingdino-py",
    "osgeo": "gdal",
}
# Folders of ArcGIS's own functions; a child of one is asked for as a module of it.
_CHILD_FOLDERS = ("TensorFlow", "Keras", "PyTorch", "CNTK", "Onnx", "XView", "Templates", "python_raster_functions")


def missing_import(path: Path, error: ImportError) -> ModelError:
    """Return the error for a module that the environment lacks, or that lacks what is imported from it."""
    name = error.name or ""
    if not isinstance(error, ModuleNotFoundError):
        said = str(error).partition(" (")[0].rstrip(".")
        what = f"The raster function “{path.name}” cannot import what it needs: {said}."
        hint = (
            f"It was written for another version of “{name.partition('.')[0] or 'that module'}”; install the version "
            f"that its author names into {sys.executable}, or ask for a newer package."
        )
        return ModelError(what, stage=STAGE, file=str(path), hint=hint)
    importer = _importer(error)
    by = f" (in {importer})" if importer and importer != path.name else ""
    return ModelError(
        f"The raster function “{path.name}” imports “{name}”{by}, which the engine's environment does not have.",
        stage=STAGE,
        file=str(path),
        hint=_how_to_provide(name),
    )


def _importer(error: ImportError) -> str:
    """Return the name of the file whose import failed."""
    frames = [one.filename for one in traceback.extract_tb(error.__traceback__) if one.filename.endswith(".py")]
    names = [Path(one).name for one in frames if "importlib" not in one]
    return names[-1] if names else ""


def _how_to_provide(name: str) -> str:
    from ..models.loader import FRAMEWORKS  # shared with the messages on missing frameworks

    top = name.partition(".")[0]
    if top in _CHILD_FOLDERS:
        what = f"{name.replace('.', '/')}.py" if "." in name else f"the folder {name} with the module that is imported"
        return (
            "It is a part that ArcGIS brings and that the package should bring: put "
            f"{what} beside the function and pack the model again."
        )
    if top in ("arcgis", "arcpy"):
        return (
            "It belongs to ArcGIS. If its licence allows it, install it there: "
            f"{sys.executable} -m pip install {top}; or ask for the model as ONNX, which needs no code."
            if top == "arcgis"
            else "It belongs to ArcGIS and runs there alone; ask for the model as ONNX, which needs no code."
        )
    if name.startswith("tensorflow."):
        return (
            f"It was part of TensorFlow 1 and is gone since TensorFlow 2; “{name}” cannot be provided. Ask for the "
            "model as a frozen graph, SavedModel or ONNX."
        )
    if top in FRAMEWORKS:
        return (
            "Run “Set up environment” with this framework chosen, for example: "
            f"qgis_process run deepraster:setupenvironment -- FRAMEWORKS={FRAMEWORKS[top][1]}"
        )
    if top in _DISTRIBUTIONS:
        return f"Install it there: {sys.executable} -m pip install {_DISTRIBUTIONS[top]}"
    return (
        f"If “{top}” is a file of the author's, put it beside the function and pack the model again; if it is a "
        f"published library, install it there: {sys.executable} -m pip install {top}"
    )


def missing_name(error: Exception) -> str:
    """Return what to do about an attribute that a newer library no longer has; empty for any other fault."""
    if isinstance(error, AttributeError) and str(error).startswith("module "):
        module = str(error).split("'")[1] if "'" in str(error) else "the module"
        return (
            f"The function was written for another version of “{module}”. Install the version that its author names "
            f"into {sys.executable}, or ask for a newer package."
        )
    if type(error).__name__ == "UnpicklingError":
        return (
            "The weights hold Python objects, which PyTorch loads only where the function says weights_only=False. "
            "Save them as a state dict (torch.save(model.state_dict(), path)) and pack the model again."
        )
    return ""
