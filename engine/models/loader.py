"""From a model package to a loaded network: a table of adapters, each importing only the framework it needs.

An adapter is a function ``load(package, device, threads, arguments)`` that returns a
:class:`~.base.Detector`, :class:`~.base.PixelClassifier` or :class:`~.base.ObjectClassifier`. The table is keyed by
framework and configuration as the definition spells them, lower case; ``*`` stands for any configuration.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Callable, Mapping, Union

from ..errors import MissingFrameworkError, ModelError
from .base import Detector, ObjectClassifier, PixelClassifier

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

Model = Union[Detector, PixelClassifier, ObjectClassifier]
Adapter = Callable[["ModelPackage", str, int, Mapping[str, str]], Model]

ARCGIS_LEARN = "arcgis.learn.models._inferencing"

# (framework, configuration) -> "module beside this one:function"
ADAPTERS: dict[tuple[str, str], str] = {
    ("pytorch", "deepraster"): "converted:load",
    ("pytorch", "fastaissd"): "pytorch_fastai_ssd:load",
    ("pytorch", "featureclassifier"): "pytorch_feature_classifier:load",
    (ARCGIS_LEARN, "*"): "arcgis_learn:load",
    ("onnx", "*"): "onnx_network:load",
    ("torchscript", "*"): "torchscript:load",
    ("torchexport", "*"): "torch_export:load",
    ("tensorflow", "objectdetectionapi"): "tensorflow_models:load_detector",
    ("tensorflow", "deeplab"): "tensorflow_models:load_deeplab",
    ("keras", "kerasclassifier"): "keras_classifier:load",
    ("keras", "maskrcnn"): "keras_mask_rcnn:load",
}

# The adapter of packages that bring their own inference code, whatever their framework.
RASTER_FUNCTION = ".raster_function.adapter:load"

# top-level module -> (the part as people call it, the name of the framework choice of the environment's set-up)
FRAMEWORKS: dict[str, tuple[str, str]] = {
    "torch": ("PyTorch", "pytorch"),
    "torchvision": ("torchvision (part of PyTorch's set)", "pytorch"),
    "timm": ("timm (part of PyTorch's set)", "pytorch"),
    "segmentation_models_pytorch": ("segmentation-models-pytorch (part of PyTorch's set)", "pytorch"),
    "safetensors": ("safetensors (part of PyTorch's set)", "pytorch"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "onnx": ("ONNX", "onnx"),
    "tensorflow": ("TensorFlow", "tensorflow"),
    "keras": ("Keras (part of TensorFlow's set)", "tensorflow"),
    "tf_keras": ("tf_keras (part of TensorFlow's set)", "tensorflow"),
    "h5py": ("h5py (part of TensorFlow's set)", "tensorflow"),
}


def load_model(package: ModelPackage, *, device: str, threads: int, arguments: Mapping[str, str]) -> Model:
    """Load the network of a package.

    Args:
        package: an opened model package.
        device: "cpu", "cuda:0" or "mps".
        threads: native threads the network may use.
        arguments: resolved model arguments, name to text.

    Raises:
        MissingFrameworkError: the environment lacks the framework; the message names it and the command to install it.
        ModelError: no adapter runs such a model, or its weights do not fit.
    """
    name = RASTER_FUNCTION if _runs_own_function(package) else adapter_name(package.definition)
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(f".{module_name}", package=__package__)
        adapter: Adapter = getattr(module, function)
        return adapter(package, device, threads, arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in FRAMEWORKS:
            raise
        raise missing_framework(missing) from error


def _runs_own_function(package: ModelPackage) -> bool:
    """Whether the package brings the code that is to run it: a Python raster function that is none of the built-in."""
    function = package.definition.function_name.lower()
    return bool(function) and any(name.rpartition("/")[2].lower() == function for name in package.code)


def adapter_name(definition: ModelDefinition) -> str:
    """Return "module:function" of the adapter for a definition.

    Raises:
        ModelError: there is none; the message says which framework and configuration were asked for.
    """
    framework = (definition.framework or "").strip().lower()
    configuration = (definition.configuration or "").strip().lower()
    for key in ((framework, configuration), (framework, "*")):
        if key in ADAPTERS:
            return ADAPTERS[key]
    if framework == "cntk":
        raise ModelError(
            "The model was made for CNTK, a framework that has been withdrawn and cannot be run any more.",
            stage="loading the model",
            hint="Export the network to ONNX on the machine where CNTK is installed, and package the ONNX file.",
        )
    known = sorted({f"{key[0]} / {key[1]}" for key in ADAPTERS})
    raise ModelError(
        f"No part of this program runs models of the framework '{definition.framework or 'none'}' with the "
        f"configuration '{definition.configuration or 'none'}'.",
        stage="loading the model",
        hint=f"Check Framework and ModelConfiguration of the model definition. Known are: {', '.join(known)}.",
    )


def missing_framework(module: str) -> MissingFrameworkError:
    """Return the error for a framework that the environment lacks; ``module`` is its top-level module."""
    part, choice = FRAMEWORKS.get(module, (module, "all"))
    return MissingFrameworkError(
        f"The model needs {part}, which is not installed in the engine's environment.",
        stage="loading the model",
        hint=f"Run the algorithm 'Set up environment' with this framework chosen, for example: "
        f"qgis_process run deepraster:setupenvironment -- FRAMEWORKS={choice}",
    )
