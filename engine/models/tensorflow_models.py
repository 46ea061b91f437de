"""Adapters for the predefined TensorFlow configurations: ObjectDetectionAPI and DeepLab.

Both are described by tensor names that their exporters fix, so they are bare networks with known roles. Sources: the
exporters of tensorflow/models (object_detection, deeplab) and Esri/raster-deep-learning (both Apache-2.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Mapping

from ..errors import ModelError, TrustError
from ..package import trust
from .consent import require_consent
from .role_models import RoleModel, build
from .roles import BOXES, PIXEL_CLASSES, InputRole, NetworkRoles, OutputRole
from .tensorflow_function import TensorFlowNetwork, load_frozen, load_saved_model, prepare_tensorflow

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage

_BOXES, _SCORES, _CLASSES = "detection_boxes", "detection_scores", "detection_classes"
_DETECTION_OUTPUTS = (_BOXES, _SCORES, _CLASSES)
_MASKS = "detection_masks"  # of networks that find outlines as well
_DETECTION_INPUTS = ("image_tensor", "input_tensor", "inputs")
_PIXEL_OUTPUTS = ("SemanticPredictions",)
_PIXEL_INPUTS = ("ImageTensor",)
_USUAL_THRESHOLD = 0.6


def load_detector(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> RoleModel:
    """Load a detector exported by the Object Detection API: a frozen graph, or a SavedModel of TensorFlow 1 or 2.

    Args:
        package: an opened package.
        device: "cpu" or "cuda:0".
        threads: native threads for one operation.
        arguments: ``padding``, ``score_threshold``, ``batch_size``.

    Raises:
        ModelError: the graph is broken or lacks the tensors of such a detector.
        TrustError: it can do more than compute, and nobody has allowed that.
    """
    network = _load(package, device, threads, _DETECTION_INPUTS, (*_DETECTION_OUTPUTS, _MASKS))
    names = {info.name for info in network.outputs}
    missing = [name for name in _DETECTION_OUTPUTS if name not in names]
    if missing:
        raise _missing(package, missing, names)
    tensors = {"Boxes": _BOXES, "Scores": _SCORES, "Labels": _CLASSES}
    output = OutputRole(
        BOXES,
        {**tensors, "BoxMasks": _MASKS} if _MASKS in names else tensors,
        first_label=1,
        box_format="yxyx",
        box_units="fraction",
        threshold=_USUAL_THRESHOLD,
    )
    return build(network, NetworkRoles(_input(network), output), package.definition, arguments, device)


def load_deeplab(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> RoleModel:
    """Load a DeepLab network whose output is a map of class values: a frozen graph or a SavedModel.

    Args:
        package: an opened package.
        device: "cpu" or "cuda:0".
        threads: native threads for one operation.
        arguments: ``padding``.

    Raises:
        ModelError: the graph is broken or lacks the tensors of such a network.
        TrustError: it can do more than compute, and nobody has allowed that.
    """
    network = _load(package, device, threads, _PIXEL_INPUTS, _PIXEL_OUTPUTS)
    names = [info.name for info in network.outputs]
    main = next((name for name in names if name in _PIXEL_OUTPUTS), names[0] if len(names) == 1 else "")
    if not main:
        raise _missing(package, list(_PIXEL_OUTPUTS), set(names))
    output = OutputRole(PIXEL_CLASSES, {"Main": main}, meaning="value")
    return build(network, NetworkRoles(_input(network), output), package.definition, arguments, device)


def _load(
    package: ModelPackage, device: str, threads: int, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> TensorFlowNetwork:
    prepare_tensorflow(device, threads)
    path = package.file(package.definition.model_file)
    if path.name == "saved_model.pb":
        path = path.parent
    load: Callable[[bool], TensorFlowNetwork]
    if path.is_dir():
        signature = str(package.definition.get("Signature", ""))

        def load(allowed: bool) -> TensorFlowNetwork:
            return load_saved_model(path, signature, allowed)
    else:

        def load(allowed: bool) -> TensorFlowNetwork:
            return load_frozen(path, outputs, inputs, allowed)

    try:
        return load(False)
    except TrustError as refusal:
        try:
            require_consent(package, trust.GRAPH)
        except TrustError as error:
            refusal.hint = error.hint or refusal.hint
            raise refusal from error
        return load(True)


def _input(network: TensorFlowNetwork) -> InputRole:
    image = network.inputs[0]
    kind = image.dtype if image.dtype in ("uint8", "float32", "int32", "uint16") else "uint8"
    return InputRole(image.name, "NHWC", kind)


def _missing(package: ModelPackage, missing: list[str], names: set[str]) -> ModelError:
    return ModelError(
        f"The graph has no output {', '.join(missing)}; it has: {', '.join(sorted(names))}.",
        stage="loading the model",
        file=package.definition.model_file,
        hint="Check that ModelConfiguration names the configuration with which the graph was exported.",
    )
