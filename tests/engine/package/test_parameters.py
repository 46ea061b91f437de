"""Arguments: the published names and defaults per model, the text forms, and the spelling that functions expect."""

from __future__ import annotations

import json

import pytest
from deep_raster.engine.errors import JobError
from deep_raster.engine.package.emd import read_definition
from deep_raster.engine.package.parameters import declared_parameters, parse_arguments, resolve_arguments

LEARN = "arcgis.learn.models._inferencing"


def declared(framework, configuration, model_type, **more):
    members = {"Framework": framework, "ModelConfiguration": configuration, "ModelType": model_type, "ModelFile": "a",
               "ImageHeight": 256, "ImageWidth": 256, **more}  # fmt: skip
    return {one.name: one for one in declared_parameters(read_definition(json.dumps(members)))}


def defaults(*given, **more):
    return {name: one.default for name, one in declared(*given, **more).items()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [  # name = default, from the published functions
        (
            ("TensorFlow", "ObjectDetectionAPI", "ObjectDetection"),
            {"padding": "0", "score_threshold": "0.6", "batch_size": "1"},
        ),
        (("Keras", "MaskRCNN", "ObjectDetection"), {"padding": "0", "score_threshold": "0.6", "batch_size": "1"}),
        (("PyTorch", "FastaiSSD", "ObjectDetection"), {"padding": "0", "score_threshold": "0.6", "batch_size": "1"}),
        (("TensorFlow", "DeepLab", "ImageClassification"), {"padding": "0"}),
        (("Keras", "KerasClassifier", "ObjectClassification"), {"batch_size": "4", "resampled_image_size": "64"}),
        (("PyTorch", "FeatureClassifier", "ObjectClassification"), {"batch_size": "4"}),
        (
            (LEARN, "_RetinaNet_Inference", "ObjectDetection"),
            {"padding": "64", "threshold": "0.5", "nms_overlap": "0.1"},
        ),
        ((LEARN, "_yolov3_inference", "ObjectDetection"), {"padding": "64", "threshold": "0.1", "nms_overlap": "0.1"}),
        (
            (LEARN, "_maskrcnn_inferencing", "InstanceDetection"),
            {"padding": "64", "threshold": "0.9", "return_bboxes": "False"},
        ),
        ((LEARN, "_unet", "ImageClassification"), {"padding": "64", "batch_size": "4", "predict_background": "True"}),
        ((LEARN, "_FeatureClassifier", "ObjectClassification"), {"batch_size": "4", "test_time_augmentation": "False"}),
        ((LEARN, "_cyclegan", "CycleGAN"), {"padding": "64", "batch_size": "4"}),
    ],
)
def test_published_names_and_defaults(given, expected):
    found = defaults(*given)
    assert {name: found.get(name) for name in expected} == expected
    assert set(found) - set(expected) <= {"batch_size", "test_time_augmentation"}


def test_definition_decides_what_is_offered():
    unet = (LEARN, "_unet", "ImageClassification")
    assert "batch_size" not in defaults(*unet, BatchSize=8)
    assert "padding" not in defaults(*unet, ModelPadding=64)
    assert defaults(*unet, SupportsVariableTileSize=True)["tile_size"] == "256"
    assert "tile_size" not in defaults(*unet)
    assert defaults(*unet, Padding=10)["padding"] == "10"
    assert defaults("PyTorch", {"Name": "DeepRaster"}, "ObjectDetection", Threshold=0.25)["threshold"] == "0.25"
    assert defaults(*unet, test_time_augmentation=True)["test_time_augmentation"] == "True"


@pytest.mark.parametrize(
    ("values", "expected"), [([], "True"), ([1], "True"), ([0, 1], "True"), ([1, 2], "False"), ([3, 0, 7], "True")]
)
def test_background_rule(values, expected):
    classes = [{"Value": value, "Name": str(value)} for value in values]
    assert defaults(LEARN, "_psp", "ImageClassification", Classes=classes)["predict_background"] == expected


def test_networks_that_describe_themselves():
    roles = {"Name": "Network", "Output": {"Kind": "Rows", "Overlap": 0.6, "Threshold": 0.3}}
    found = defaults("ONNX", roles, "ObjectDetection")
    assert (found["threshold"], found["nms_overlap"], found["padding"]) == ("0.3", "0.6", "32")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (None, {}),
        ("padding=56;threshold=0.5", {"padding": "56", "threshold": "0.5"}),
        (" padding = 56 ; ", {"padding": "56"}),
        ("padding 56;threshold 0.5", {"padding": "56", "threshold": "0.5"}),
        ("name='a b';url=http://x?a=1", {"name": "a b", "url": "http://x?a=1"}),
        ('{"padding": 56, "flag": true, "scale": 1.5, "whole": 2.0, "text": "a;b", "none": null, "list": [1]}',
         {"padding": "56", "flag": "True", "scale": "1.5", "whole": "2", "text": "a;b", "none": "", "list": "[1]"}),
        ({"padding": 56.0, "flag": False}, {"padding": "56", "flag": "False"}),
    ],
)  # fmt: skip
def test_text_forms(text, expected):
    assert parse_arguments(text) == expected


@pytest.mark.parametrize("text", ["padding", "=5", "a=1;a=2", "{", '{"a":', "[1]x"])
def test_text_that_is_no_argument(text):
    with pytest.raises(JobError):
        parse_arguments(text)


def test_resolved_as_functions_expect():
    known = tuple(declared(LEARN, "_unet", "ImageClassification").values())
    found = resolve_arguments(known, {"padding": "56.0", "predict_background": "yes", "batch_size": ""})
    assert found == {
        "padding": "56",
        "batch_size": "4",
        "predict_background": "True",
        "test_time_augmentation": "False",
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"paddin": "5"}, "padding (default 64)"),
        ({"padding": "a"}, "whole number from 0 to 127"),
        ({"padding": "5.5"}, "whole number"),
        ({"padding": "128"}, "from 0 to 127"),
        ({"threshold": "1.5"}, "from 0 to 1"),
        ({"threshold": "nan"}, "a number"),
        ({"test_time_augmentation": "perhaps"}, "True or False"),
    ],
)
def test_wrong_arguments_are_told(given, says):
    known = tuple(declared(LEARN, "_DynamicSSD", "ObjectDetection").values())
    with pytest.raises(JobError) as caught:
        resolve_arguments(known, given)
    assert says in str(caught.value)
