"""Packages made by arcgis.learn: which network a definition means, and what to do with those that cannot be rebuilt.

No part of ArcGIS or fastai is needed, and no code of the package runs: networks are rebuilt from the definition and the
names of their tensors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Mapping

from ..errors import ModelError
from .own import TorchModel

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

# configuration in lower case -> module beside this one
_BY_CONFIGURATION = {
    "_dynamicssd": "arcgis_detection",
    "_retinanet_inference": "arcgis_detection",
    "_maskrcnn_inferencing": "arcgis_rcnn",
    "_unet": "arcgis_segmentation",
    "_deeplab_infrencing": "arcgis_segmentation",
    "_psp": "arcgis_segmentation",
    "_featureclassifier": "arcgis_classifier",
}
_EXTENSION = "_model_extension_inferencing"
_BY_NAME = {"fasterrcnn": "arcgis_rcnn"}
REBUILT = (
    "SingleShotDetector",
    "RetinaNet",
    "FasterRCNN",
    "MaskRCNN",
    "UnetClassifier",
    "DeepLab",
    "PSPNetClassifier",
    "FeatureClassifier",
)


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> TorchModel:
    """Load a package that arcgis.learn saved.

    Raises:
        ModelError: it holds a type of model that cannot be rebuilt; the message names it and the ways out.
    """
    module = importlib.import_module(f"{__package__}.{module_name(package.definition)}")
    model: TorchModel = module.load(package, device, threads, arguments)
    return model


def module_name(definition: ModelDefinition) -> str:
    """Return the module that loads a definition's model.

    Raises:
        ModelError: there is none.
    """
    configuration = definition.configuration.lower()
    name = "".join(one for one in str(definition.get("ModelName", "")) if one.isalnum())
    if configuration == _EXTENSION and name.lower() in _BY_NAME:
        return _BY_NAME[name.lower()]
    if configuration in _BY_CONFIGURATION:
        return _BY_CONFIGURATION[configuration]
    kind = name or definition.configuration or definition.model_type
    raise ModelError(
        f"The package holds a model of the type {kind} of arcgis.learn, which this program cannot rebuild.",
        stage="loading the model",
        hint=f"It rebuilds {', '.join(REBUILT)}. In ArcGIS, save the model with framework='ONNX' or 'TorchScript' if "
        "its type allows it and package that file, or train one of these types on the same chips.",
    )
