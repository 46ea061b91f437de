"""Definitions: every tolerance case of the format, real definitions, all problems at once, round trips."""

from __future__ import annotations

import json

import pytest
from deep_raster.engine.errors import DefinitionError
from deep_raster.engine.package.emd import read_definition
from deep_raster.engine.package.reading import CellSize, ClassInfo

from .definitions import BASE


def made(**changes):
    return read_definition(json.dumps({key: value for key, value in {**BASE, **changes}.items() if value is not ...}))


def problems(**changes):
    with pytest.raises(DefinitionError) as caught:
        made(**changes)
    return caught.value.problems


DOCUMENTED = r"""{
    "Framework": "TensorFlow",
    "ModelConfiguration": "ObjectDetectionAPI",
    "ModelFile":"C:\\ModelFolder\\ObjectDetection\\tree_detection.pb",
    "ModelType":"ObjectionDetection",
    "ImageHeight":850,
    "ImageWidth":850,
    "ExtractBands":[0,1,2],
    "Classes" : [
        {
            "Value": 0,
            "Name": "Tree",
            "Color": [0, 255, 0]
        }
    ]
}"""


def test_example_of_the_documentation_loads():
    definition = read_definition(DOCUMENTED)
    assert (definition.framework, definition.configuration) == ("TensorFlow", "ObjectDetectionAPI")
    assert definition.model_type == "ObjectDetection"
    assert definition.tools == ("detectobjects",)
    assert definition.model_file == "C:/ModelFolder/ObjectDetection/tree_detection.pb"
    assert definition.classes == (ClassInfo(0, "Tree", (0, 255, 0)),)
    assert (definition.image_width, definition.image_height) == (850, 850)
    assert definition.extract_bands == (0, 1, 2)
    assert "ObjectionDetection" in definition.warnings[0]


# --- the sixteen tolerance cases, in their order -----------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_01_byte_order_marks(encoding, tmp_path):
    path = tmp_path / "a.emd"
    path.write_bytes(DOCUMENTED.encode(encoding))
    assert read_definition(path) == read_definition(DOCUMENTED)


def test_02_line_ends_and_tabs(tmp_path):
    path = tmp_path / "a.emd"
    path.write_bytes(DOCUMENTED.replace("\n", "\r\n").replace("    ", " \t").encode())
    assert read_definition(str(path)) == read_definition(DOCUMENTED)


def test_03_missing_commas():
    text = (
        '{"Framework":"TensorFlow","ModelConfiguration":"DeepLab","ModelFile":"a.pb","ModelType":"ImageClassification",'
    )
    text += (
        '"ImageSpaceUsed":"MAP_SPACE"\n"Classes":[{"Value":1,"Name":"a"}],"ModelName":"Coconut"\n"Version":"2019.02"}'
    )
    definition = read_definition(text)
    assert definition.get("Version") == "2019.02"
    assert definition.classes[0].name == "a"
    assert len([one for one in definition.warnings if "missing comma" in one]) == 2


def test_04_trailing_commas():
    definition = read_definition(json.dumps(BASE)[:-1] + ', "AllTilesStats": [{"Min": 1,},],}')
    assert definition.get("AllTilesStats") == [{"Min": 1}]


def test_05_single_backslashes():
    text = json.dumps(BASE).replace("tree_detection.pb", r".\model.pb")
    assert read_definition(text).model_file == "model.pb"


def test_05_single_backslashes_that_json_takes_for_a_tab():
    text = json.dumps(BASE).replace("tree_detection.pb", r".\tree_detection.pb")
    assert json.loads(text)["ModelFile"] == ".\tree_detection.pb"  # what another parser makes of it
    assert read_definition(text).model_file == "tree_detection.pb"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (".\\model.pb", "model.pb"),
        (".\\Data\\model.pb", "Data/model.pb"),
        ("\\Data\\model.pb", "/Data/model.pb"),
        ("C:\\Data\\model.pb", "C:/Data/model.pb"),
        ("./Data/model.pb", "Data/model.pb"),
        ("Data/model.pb", "Data/model.pb"),
    ],
)
def test_06_path_styles(given, path):
    assert made(ModelFile=given).model_file == path


@pytest.mark.parametrize("word", ["ObjectionDetection", "objectdetection", " Object Detection ", "OBJECTIONDETECTION"])
def test_07_misspelt_model_type(word):
    definition = made(ModelType=word)
    assert definition.model_type == definition.members["ModelType"] == "ObjectDetection"


@pytest.mark.parametrize("value", ["deeplab", "DeepLab", {"Name": "DEEPLAB"}, {"Name": "deeplab", "Extra": 1}])
def test_08_configuration_as_text_or_object(value):
    definition = made(ModelConfiguration=value, ModelType="ImageClassification")
    assert definition.configuration == definition.configuration_members["Name"] == "DeepLab"
    assert definition.configuration_members.get("Extra") == (1 if "Extra" in value else None)


def test_08_configuration_with_modules():
    members = {"Name": "MaskRCNN", "Architecture": ".\\p\\a", "Config": ".\\p\\a"}
    assert made(Framework="keras", ModelConfiguration=members).configuration_members == members


def test_09_custom_function_needs_neither_framework_nor_weights():
    text = '{"ModelType": "ObjectDetection", "InferenceFunction": ".\\\\PromptSeg.py"}'
    definition = read_definition(text)
    assert (definition.framework, definition.configuration, definition.model_file) == ("", "", "")
    assert definition.function_name == "PromptSeg.py"
    assert not definition.names_builtin_function


def test_09_builtin_function():
    definition = made(InferenceFunction="[functions]System\\DeepLearning\\ImageClassifier.py")
    assert definition.names_builtin_function
    assert definition.function_name == "ImageClassifier.py"


def test_10_old_spelling_of_classes():
    definition = made(Classes=[{"ClassValue": 3, "ClassName": "Palm", "Count": 4}])
    assert definition.classes == (ClassInfo(3, "Palm"),)
    assert definition.members["Classes"] == [{"Value": 3, "Name": "Palm", "Count": 4}]


def test_11_class_values_and_colours():
    definition = made(
        Classes=[
            {"Value": 0, "Name": "a", "Color": [-1, -1, -1]},
            {"Value": 255, "Name": "b"},
            {"Value": -7, "Name": "c", "Color": "255, 0, 7"},
            {"Value": 2, "Name": "d", "Color": [1, 2]},
        ]
    )
    assert [one.value for one in definition.classes] == [0, 255, -7, 2]
    assert [one.color for one in definition.classes] == [None, None, (255, 0, 7), None]


def test_12_numbers_as_text():
    definition = made(
        ImageHeight="256", ImageWidth="512.0", BatchSize=" 8 ", ExtractBands=["0", 1, "2"], Threshold="0.4"
    )
    assert (definition.image_height, definition.image_width, definition.batch_size) == (256, 512, 8)
    assert definition.extract_bands == (0, 1, 2)
    assert definition.threshold == pytest.approx(0.4)
    assert made(LearningRate="1.0000e-04").get("LearningRate") == "1.0000e-04"


def test_12_unfilled_placeholders_are_missing():
    definition = made(BatchSize="e.g. 8", Description="some description", ImageHeight="e.g. 256")
    assert (definition.batch_size, definition.get("Description"), definition.image_height) == (None, None, 850)
    assert "BatchSize" not in definition.members
    assert sum("template" in one for one in definition.warnings) == 3


def test_12_a_template_is_told_as_such():
    with pytest.raises(DefinitionError, match="template that an export"):
        made(Framework="e.g. TensorFlow", ModelConfiguration="e.g. DeepLab", MetaDataMode="PASCAL_VOC_rectangles")


def test_13_band_names():
    definition = made(ExtractBands=["red", "near infrared_1", 3, "Own Band"])
    assert definition.extract_bands == ("Red", "NearInfrared_1", 3, "Own Band")


def test_14_python_literals_in_texts():
    text = "slice('1.0000e-05', '1.0000e-04', None)"
    assert made(LearningRate=text).get("LearningRate") == text


def test_15_numbers_that_are_none():
    definition = read_definition(json.dumps(BASE)[:-1] + ', "accuracy": NaN, "loss": {"a": [Infinity, 1]}}')
    assert definition.get("accuracy", "none") == "none"
    assert definition.get("loss") == {"a": [None, 1]}


def test_16_comments():
    assert read_definition("// made by hand\n" + DOCUMENTED + "\n/* end */").model_type == "ObjectDetection"


def test_given_as_json_text_path_or_bytes(tmp_path):
    path = tmp_path / "a.EMD"
    path.write_text(DOCUMENTED)
    assert (
        read_definition(DOCUMENTED)
        == read_definition(path)
        == read_definition(str(path))
        == read_definition(DOCUMENTED.encode())
    )


@pytest.mark.parametrize("place", ["no/such.emd", "", ".", "a" * 5_000, "nul\0byte.emd"])
def test_missing_file_is_one_sentence(place):
    with pytest.raises(DefinitionError):
        read_definition(place)


# --- values ------------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_together():
    found = problems(
        ImageWidth="wide", ExtractBands=[0, -1], Classes=[{"Value": "x"}], DataRange=[1], BatchSize=0, ModelFile=...
    )
    keys = [one.split(":")[0] for one in found]
    assert set(keys) == {"ImageWidth", "ExtractBands[1]", "Classes[0].Value", "DataRange", "BatchSize", "ModelFile"}
    assert len(keys) == 6
    assert all("found " in one and "expected " in one for one in found)
    assert "found “wide”, expected a whole number from 1 to 16384" in found[0]


def test_cell_sizes():
    definition = made(
        MinCellSize={"x": 0.5, "y": 0.25, "spatialReference": {"wkid": 102100, "latestWkid": 3857}},
        MaxCellSize={"x": 1, "y": 1, "spatialReference": {"wkid": 102003}},
    )
    assert definition.min_cell_size == CellSize(0.5, 0.25, "EPSG:3857")
    assert definition.max_cell_size == CellSize(1.0, 1.0, "ESRI:102003")
    assert made(MinCellSize=None).min_cell_size is None
    assert made(MinCellSize="2").min_cell_size == CellSize(2.0, 2.0)


def test_flags_and_ranges():
    definition = made(
        CropSizeFixed=0,
        BlackenAroundFeature="True",
        SupportsVariableTileSize=1,
        fixedTileSize="1",
        DataRange=["0", 1.0],
        ImageSpaceUsed="pixel_space",
        ModelPadding=64,
    )
    assert (definition.crop_size_fixed, definition.blacken_around_feature) == (False, True)
    assert (definition.supports_variable_tile_size, definition.fixed_tile_size) == (True, True)
    assert definition.data_range == (0.0, 1.0)
    assert definition.image_space_used == "PIXEL_SPACE"
    assert definition.model_padding == 64


@pytest.mark.parametrize(
    ("framework", "configuration", "model_type"),
    [
        ("tensorflow", "objectdetectionapi", "ObjectDetection"),
        ("TensorFlow", {"Name": "deeplab"}, "ImageClassification"),
        ("KERAS", "MaskRCNN", "ObjectDetection"),
        ("Keras", {"Name": "kerasclassifier"}, "ObjectClassification"),
        ("pytorch", "FASTAISSD", "ObjectDetection"),
        ("PyTorch", "FeatureClassifier", "ObjectClassification"),
        ("arcgis.learn.models._inferencing", "_UNET", "ImageClassification"),
    ],
)
def test_predefined_triples_in_any_case(framework, configuration, model_type):
    definition = made(Framework=framework, ModelConfiguration=configuration, ModelType=...)
    assert definition.model_type == model_type
    assert any("ModelType is missing" in one for one in definition.warnings)


def test_foreign_model_types_are_kept_and_have_no_tool():
    definition = made(ModelType="llm")
    assert (definition.model_type, definition.tools) == ("llm", ())
