"""Definitions that real tools wrote, and what is written here: order, strictness, and equality when read again."""

from __future__ import annotations

import json

import pytest
from deep_raster.engine.errors import DefinitionError
from deep_raster.engine.package.emd import build_definition, read_definition, write_definition
from hypothesis import given, settings
from hypothesis import strategies as st

from .definitions import BASE, read_or_refuse

# --- definitions that arcgis.learn wrote -------------------------------------------------------------------------

_TAIL = {
    "ModelFormat": "NCHW",
    "MinCellSize": None,
    "MaxCellSize": None,
    "SupportsVariableTileSize": False,
    "ArcGISLearnVersion": "2.4.4",
    "monitored_valid_loss": 1.4210230112075806,
    "ModelFile": "net.pth",
    "ImageHeight": 128,
    "ImageWidth": 128,
    "ImageSpaceUsed": "MAP_SPACE",
    "LearningRate": "slice('1.0000e-04', '1.0000e-03', None)",
    "backend": "pytorch",
    "resize_to": None,
    "IsMultispectral": False,
    "IsImageNetNormalization": True,
    "Classes": [
        {"Value": 1, "Name": "Pool", "Color": [124, 12, 57]},
        {"Value": 2, "Name": "Roof", "Color": [20, 183, 20]},
    ],
    "Framework": "arcgis.learn.models._inferencing",
    "ExtractBands": [0, 1, 2],
}
_PARAMETERS = {"backbone": "resnet18", "backend": "pytorch"}
_STATS = {"band_min_values": [8.0, 38.0, 17.0, 32.0], "scaled_std_values": [0.12, 0.08, 0.07, 0.1]}
_BANDS = {
    "ExtractBands": [0, 1, 2, 3],
    "IsMultispectral": True,
    "Bands": ["red", "green", "blue", "nir"],
    "ImageryType": "Multispectral",
    "NormalizationStats": _STATS,
    "DoNormalize": True,
}
LEARNED = {
    "deeplab": {
        "ModelConfiguration": "_deeplab_infrencing",
        "ModelType": "ImageClassification",
        "InferenceFunction": "ArcGISImageClassifier.py",
        "ModelName": "DeepLab",
        "ModelParameters": {"pointrend": False, "keep_dilation": False, **_PARAMETERS},
        "accuracy": "9.4321e-01",
    },
    "classifier": {
        "ModelConfiguration": "_FeatureClassifier",
        "ModelType": "ObjectClassification",
        "InferenceFunction": "ArcGISObjectClassifier.py",
        "MetaDataMode": "Labeled_Tiles",
        "CropSizeFixed": 1,
        "BlackenAroundFeature": 0,
        "ModelName": "FeatureClassifier",
        "ExpMap": False,
    },
    "maskrcnn": {
        "ModelConfiguration": "_maskrcnn_inferencing",
        "ModelType": "InstanceDetection",
        "InferenceFunction": "ArcGISInstanceDetector.py",
        "MaskRCNNkwargs": {},
        "SupportsVariableTileSize": True,
        "ModelName": "MaskRCNN",
        "resize_to": 128,
    },
    "psp": {
        "ModelConfiguration": "_psp",
        "ModelType": "ImageClassification",
        "InferenceFunction": "ArcGISImageClassifier.py",
        "ModelParameters": {"pyramid_sizes": [1, 2, 3, 6], "use_unet": True, **_PARAMETERS},
        "ModelName": "PSPNetClassifier",
    },
    "retinanet": {
        "ModelConfiguration": "_RetinaNet_Inference",
        "ModelType": "ObjectDetection",
        "InferenceFunction": "ArcGISObjectDetector.py",
        "ModelParameters": {"scales": [1, 0.79, 0.63], "ratios": [0.5, 1, 2], **_PARAMETERS},
        "ModelName": "RetinaNet",
        "average_precision_score": {"Pool": 0.52, "Roof": 0.38},
    },
    "ssd": {
        "ModelConfiguration": "_DynamicSSD",
        "ModelType": "ObjectDetection",
        "InferenceFunction": "ArcGISObjectDetector.py",
        "backbone": "resnet18",
        "Grids": [6, 5],
        "Zooms": [1.0],
        "Ratios": [[1.0, 1.0]],
        "SSDVersion": 2,
        "ModelName": "SingleShotDetector",
    },
    "ssd-4-bands": {
        "ModelConfiguration": "_DynamicSSD",
        "ModelType": "ObjectDetection",
        "InferenceFunction": "ArcGISObjectDetector.py",
        "Grids": [6, 5],
        "SSDVersion": 2,
        "ModelName": "SingleShotDetector",
        "LearningRate": "1.0000e-03",
        **_BANDS,
    },
    "unet": {
        "ModelConfiguration": "_unet",
        "ModelType": "ImageClassification",
        "InferenceFunction": "ArcGISImageClassifier.py",
        "ignore_mapped_class": [],
        "SupportsVariableTileSize": True,
        "ModelName": "UnetClassifier",
        "per_class_metrics": '{"NoData":{"precision":0.0}}',
    },
    "unet-4-bands": {
        "ModelConfiguration": "_unet",
        "ModelType": "ImageClassification",
        "InferenceFunction": "ArcGISImageClassifier.py",
        "ignore_mapped_class": [],
        "SupportsVariableTileSize": True,
        "ModelName": "UnetClassifier",
        "resize_to": 128,
        **_BANDS,
    },
}


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_learned_definitions_load_without_a_warning(name):
    members = {**_TAIL, **LEARNED[name]}
    definition = read_definition(json.dumps(members, indent=4))
    assert definition.warnings == ()
    assert definition.configuration == members["ModelConfiguration"]
    assert definition.model_type == members["ModelType"]
    assert definition.tools
    assert [one.name for one in definition.classes] == ["Pool", "Roof"]
    assert definition.members == members  # nothing lost, nothing changed
    assert json.loads(write_definition(definition)) == members


def test_extension_models_and_custom_examples():
    well = {
        **_TAIL,
        "ModelConfiguration": "_model_extension_inferencing",
        "ModelType": "ObjectDetection",
        "ModelName": "FasterRCNN",
        "InferenceFunction": "ArcGISObjectDetector.py",
        "ModelConfigurationFile": "ModelConfiguration.py",
        "Kwargs": {},
    }
    assert read_definition(json.dumps(well)).configuration == "_model_extension_inferencing"
    tanks = {
        "InferenceFunction": "TankFinder.py",
        "ModelFile": "tanks.onnx",
        "ModelType": "ObjectDetection",
        "ImageHeight": 640,
        "ImageWidth": 640,
        "Padding": 64,
        "Threshold": 0.4,
        "BatchSize": 16,
        "DataRange": [0.0, 1.0],
    }
    definition = read_definition(json.dumps(tanks))
    assert (definition.padding, definition.threshold, definition.batch_size) == (64, 0.4, 16)
    feature = {
        "ModelFile": "storm.pth",
        "ImageHeight": 400,
        "ImageWidth": 400,
        "ModelParameters": {"backbone": "resnet34"},
        "Framework": "PyTorch",
        "ModelConfiguration": "FeatureClassifier",
        "ModelType": "ObjectClassification",
    }
    assert read_definition(json.dumps(feature)).tools == ("classifyobjects",)


# --- writing -----------------------------------------------------------------------------------------------------


def test_written_in_the_writers_order():
    members = {**_TAIL, **LEARNED["ssd"], "Mine": {"b": 1, "a": 2}}
    written = json.loads(write_definition(dict(sorted(members.items()))))
    keys = list(written)
    assert keys[:5] == ["Framework", "InferenceFunction", "ModelConfiguration", "ModelType", "ExtractBands"]
    assert keys.index("Mine") < keys.index("Classes") < keys.index("ModelFormat") < keys.index("MinCellSize")
    tail = ["ModelFile", "ImageHeight", "ImageWidth", "ImageSpaceUsed", "LearningRate", "ModelName", "backend"]
    assert [key for key in keys if key in tail] == tail
    assert keys.index("monitored_valid_loss") + 1 == keys.index("ModelFile")
    assert list(written["Mine"]) == ["b", "a"]


def test_written_strictly():
    text = write_definition({**BASE, "loss": float("nan"), "tuple": (1, 2), "Name": "Bäume"})
    assert '"loss": null' in text
    assert "Bäume" in text
    assert text.startswith('{\n    "Framework"')
    assert text.endswith("}\n")
    assert "\r" not in text
    assert json.loads(text)["tuple"] == [1, 2]


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(DefinitionError):
        write_definition({**BASE, "x": object()})
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(DefinitionError):
        write_definition({**BASE, "x": deep})


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["e.g. 256", "0", "-1", "1e400", "True", ".\\a\\b", "[Functions]a.py", "../x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["Value", "Name", "Color", "x", "y"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
KEYS = sorted(
    {
        *BASE,
        *_TAIL,
        *_BANDS,
        "InferenceFunction",
        "DataRange",
        "ModelPadding",
        "Padding",
        "BatchSize",
        "Threshold",
        "CropSizeFixed",
        "ModelFiles",
        "fixedTileSize",
        "ModelParameters",
        "ONNX",
        "TorchScript",
    }
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=10), ANY, max_size=8), st.booleans())
def test_generated_definitions_raise_nothing_but_our_own_error(changes, from_base):
    text = json.dumps({**(BASE if from_base else {}), **changes})
    definition = read_or_refuse(read_definition, text)
    if definition is None:
        return
    again = read_definition(write_definition(definition))
    assert again == definition
    assert write_definition(again) == write_definition(definition)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_definitions_raise_nothing_but_our_own_error(data):
    text = bytearray(json.dumps({**_TAIL, **LEARNED["ssd-4-bands"]}).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    definition = read_or_refuse(read_definition, bytes(text))
    assert definition is None or definition.framework or definition.inference_function


VALID = st.fixed_dictionaries(
    {
        "Framework": st.just("PyTorch"),
        "ModelConfiguration": st.just({"Name": "DeepRaster"}),
        "ModelType": st.sampled_from(["ObjectDetection", "ImageClassification", "ObjectClassification"]),
        "ModelFile": st.sampled_from(["a.pth", ".\\a.pth", "deep/a.pth"]),
        "ImageWidth": st.integers(1, 16_384) | st.integers(1, 999).map(str),
        "ImageHeight": st.integers(1, 16_384),
        "ExtractBands": st.lists(st.integers(0, 20) | st.sampled_from(["Red", "nearinfrared"]), max_size=6),
        "Classes": st.lists(
            st.builds(
                lambda value, name, color: {"Value": value, "Name": name, "Color": color},
                st.integers(-1000, 1000),
                st.text(min_size=1, max_size=20),
                st.lists(st.integers(0, 255), min_size=3, max_size=3) | st.just([-1, -1, -1]),
            ),
            max_size=5,
        ),
    },
    optional={
        "DataRange": st.just([0, 255]),
        "BatchSize": st.integers(1, 64),
        "Threshold": st.floats(0, 1),
        "Own": st.dictionaries(st.text(max_size=5), st.integers() | st.text(), max_size=3),
    },
)


@settings(max_examples=100, deadline=None)
@given(VALID)
def test_good_definitions_come_back_equal(members):
    definition = build_definition(members)
    again = read_definition(write_definition(definition))
    assert again == definition
    assert list(json.loads(write_definition(again))) == list(json.loads(write_definition(definition)))
    assert again.get("Own") == members.get("Own")
