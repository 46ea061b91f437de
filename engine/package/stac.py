"""The open description of a model beside Esri's: a STAC item with the Machine Learning Model extension (MLM 1.4).

Catalogues and other tools read it (https://github.com/stac-extensions/mlm). It says nothing that the definition does
not say: no place and no date, so that the same package has the same bytes wherever it is written.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .emd import ModelDefinition
from .vocabulary import ARCGIS_LEARN

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"

_TASKS: Dict[str, Tuple[str, ...]] = {
    "ObjectDetection": ("object-detection",),
    "InstanceDetection": ("instance-segmentation",),
    "PanopticSegmenter": ("panoptic-segmentation",),
    "ImageClassification": ("semantic-segmentation",),
    "ObjectClassification": ("scene-classification",),
    "ImageCaptioner": ("image-captioning",),
    "SuperResolution": ("super-resolution",),
    "CycleGAN": ("generative",),
    "Pix2Pix": ("generative",),
    "Pix2PixHD": ("generative",),
}
# what one prediction is: names of its axes and their sizes, -1 where they depend on the image
_RESULTS: Dict[str, Tuple[Tuple[str, ...], Tuple[int, ...]]] = {
    "ObjectDetection": (("batch", "box", "coordinate"), (-1, -1, 4)),
    "InstanceDetection": (("batch", "object", "height", "width"), (-1, -1, -1, -1)),
    "ObjectClassification": (("batch", "class"), (-1, -1)),
    "ImageCaptioner": (("batch", "token"), (-1, -1)),
}
_ARTIFACTS = {
    ".pth": ("application/octet-stream; application=pytorch", "torch.save"),
    ".pt": ("application/octet-stream; application=pytorch", "torch.jit.save"),
    ".onnx": ("application/octet-stream; framework=onnx", "onnx.save"),
    ".h5": ("application/x-hdf5", "tf.keras.Model.save"),
    ".keras": ("application/vnd.keras", "tf.keras.Model.save"),
    ".pb": ("application/octet-stream; framework=tensorflow", "tf.GraphDef"),
    ".safetensors": ("application/octet-stream; application=safetensors", "safetensors"),
}


def write_item(definition: ModelDefinition, name: str) -> str:
    """Return the STAC item of a definition as JSON text; ``name`` is the package's name without suffix."""
    return json.dumps(item(definition, name), indent=4, ensure_ascii=False) + "\n"


def item(definition: ModelDefinition, name: str) -> Dict[str, Any]:
    """Return the members of the STAC item."""
    tasks = list(_TASKS.get(definition.model_type, ()))
    properties: Dict[str, Any] = {
        "title": str(definition.get("ModelName", name)),
        "description": str(definition.get("Description", f"Model for {definition.model_type or 'rasters'}.")),
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": _identifier(name),
        "mlm:architecture": _architecture(definition),
        "mlm:framework": "PyTorch" if definition.framework == ARCGIS_LEARN else definition.framework or "unknown",
        "mlm:tasks": tasks,
        "mlm:input": [_input(definition)],
        "mlm:output": [_output(definition, tasks)],
    }
    if definition.batch_size is not None:
        properties["mlm:batch_size_suggestion"] = definition.batch_size
    names = _band_names(definition)
    if names:
        properties["bands"] = [{"name": one} for one in names]
    return {
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, CLASSIFICATION],
        "type": "Feature",
        "id": _identifier(name),
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": _assets(definition, name),
    }


def _identifier(name: str) -> str:
    """Return a name as the extension's pattern wants it: a letter first, then letters, digits and ``_.-``."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")
    return plain if re.fullmatch(r"[A-Za-z].+", plain) else f"model-{plain or 'unnamed'}"


def _architecture(definition: ModelDefinition) -> str:
    members = definition.configuration_members
    network = members.get("Architecture") if definition.configuration == "DeepRaster" else None
    parameters = definition.get("ModelParameters")
    backbone = members.get("Backbone") or (parameters.get("backbone") if isinstance(parameters, dict) else None)
    main = str(
        network or definition.get("ModelName") or definition.configuration or definition.function_name or "unknown"
    )
    return f"{main} ({backbone})" if isinstance(backbone, str) and backbone else main


def _band_names(definition: ModelDefinition) -> List[str]:
    """Return the names of the bands the network takes, where the definition knows names."""
    trained = definition.get("Bands")
    names = []
    for band in definition.extract_bands:
        if isinstance(band, str):
            names.append(band)
        elif isinstance(trained, list) and band < len(trained) and isinstance(trained[band], str):
            names.append(trained[band])
        else:
            return []
    return names if len(set(names)) == len(names) else []


def _input(definition: ModelDefinition) -> Dict[str, Any]:
    bands = len(definition.extract_bands) or -1
    scaling = _scaling(definition.get("Normalization"))
    members: Dict[str, Any] = {
        "name": "image",
        "bands": _band_names(definition),
        "input": {
            "shape": [-1, bands, definition.image_height or -1, definition.image_width or -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
    }
    if scaling is not None:
        members["value_scaling"] = scaling
    return members


def _scaling(stated: Any) -> Optional[List[Dict[str, Any]]]:
    """Return the extension's words for the member ``Normalization`` of our own networks."""
    if not isinstance(stated, Mapping):
        return None
    if stated.get("Method") == "mean_std" and _same_length(stated.get("Mean"), stated.get("Std")):
        pairs = zip(stated["Mean"], stated["Std"])
        return [{"type": "z-score", "mean": mean, "stddev": deviation} for mean, deviation in pairs]
    if stated.get("Method") == "min_max" and _same_length(stated.get("Min"), stated.get("Max")):
        return [{"type": "min-max", "minimum": low, "maximum": high} for low, high in zip(stated["Min"], stated["Max"])]
    return None


def _same_length(one: Any, other: Any) -> bool:
    return isinstance(one, list) and isinstance(other, list) and len(one) == len(other) > 0


def _output(definition: ModelDefinition, tasks: List[str]) -> Dict[str, Any]:
    axes, shape = _RESULTS.get(definition.model_type, (("batch", "channel", "height", "width"), (-1, -1, -1, -1)))
    members: Dict[str, Any] = {
        "name": definition.model_type or "result",
        "tasks": tasks,
        "result": {"shape": list(shape), "dim_order": list(axes), "data_type": "float32"},
        "classification:classes": [],
    }
    for one in definition.classes:
        entry: Dict[str, Any] = {"value": one.value, "name": one.name, "title": one.name}
        if one.color is not None:
            entry["color_hint"] = "{:02X}{:02X}{:02X}".format(*one.color)
        members["classification:classes"].append(entry)
    return members


def _assets(definition: ModelDefinition, name: str) -> Dict[str, Any]:
    assets: Dict[str, Any] = {
        "definition": {
            "href": f"./{name}.emd",
            "title": "Esri model definition",
            "type": "application/json",
            "roles": ["metadata"],
        }
    }
    if definition.model_file and definition.model_file != ".":
        suffix = definition.model_file.rpartition(".")[2].casefold()
        kind, artifact = _ARTIFACTS.get(f".{suffix}", ("application/octet-stream", "unknown"))
        assets["model"] = {
            "href": f"./{definition.model_file}",
            "title": "Weights",
            "type": kind,
            "roles": ["mlm:model"],
            "mlm:artifact_type": artifact,
        }
    return assets
