"""What functions in the wild do differently from each other, each with a small function that does it."""

from __future__ import annotations

import json
import textwrap

import numpy as np
import pytest
from deep_raster.engine.errors import JobError, ModelError
from deep_raster.engine.models.base import Detector, PixelClassifier
from deep_raster.engine.raster_function import adapter, older_libraries

from .conftest import CLASSIFIER

BASE = """
    import json
    import numpy as np

    class Function:
        def initialize(self, **kwargs):
            if "model" not in kwargs:
                return
            self.given = kwargs
            self.emd = json.load(open(kwargs["model"]))
            self.calls = ["initialize"]

        def getParameterInfo(self):
            self.calls.append("getParameterInfo")
            return [{"name": "raster", "dataType": "raster"}, {"name": "model", "dataType": "string"},
                    {"name": "device", "dataType": "numeric"}, *PARAMETERS]

        def getConfiguration(self, **scalars):
            self.calls.append("getConfiguration")
            self.scalars = scalars
            return CONFIGURATION
"""
OBJECTS = """
        def getFields(self):
            self.calls.append("getFields")
            return json.dumps(FIELDS)

        def getGeometryType(self):
            return GEOMETRY

        def vectorize(self, **blocks):
            self.blocks = blocks
            return {"output_vectors": json.dumps({"features": FEATURES})}
"""
PIXELS = """
        def updateRasterInfo(self, **kwargs):
            self.calls.append("updateRasterInfo")
            kwargs["output_info"].update(INFO)
            return kwargs

        def updatePixels(self, tlc, shape, props, **blocks):
            self.blocks, self.props, self.shape = blocks, props, shape
            return dict(blocks, output_pixels=OUTPUT, **MORE)
"""
TABLE = {
    "features": [
        {"attributes": {"OID": 1, "Value": 7, "Classvalue": 7, "Classname": "moor", "Red": 1, "Green": 2, "Blue": 3}},
        {"attributes": {"OID": 2, "Value": 300, "Classvalue": 300, "Classname": "heath", "Red": -1}},
    ]
}


def code(*parts, **values):
    """Put a function together; upper-case names in it become the given expressions."""
    text = BASE + "".join(parts)
    given = {"PARAMETERS": "[]", "CONFIGURATION": "{'tx': 8, 'ty': 8}", "FIELDS": "{'fields': []}", "GEOMETRY": "4"}
    given |= {"FEATURES": "[]", "INFO": "{}", "OUTPUT": "blocks['output_pixels']", "MORE": "{}"} | values
    for name, expression in given.items():
        text = text.replace(name, expression)
    return text


def load(package, text, members=None, name="Function.py", more=None, **arguments):
    model = adapter.load(package(text, name, members, more), "cpu", 1, arguments)
    return model, model._function._instance


def block(size=8, bands=1, dtype=np.uint8):
    return np.arange(bands * size * size, dtype=dtype).reshape(1, bands, size, size), np.ones((1, size, size), bool)


def test_types_of_geoprocessing_and_text_of_scalars(package):
    parameters = (
        "[{'name': 'a', 'dataType': 'GPLong', 'value': 56}, {'name': 'b', 'dataType': 'GPDouble', 'value': 1},"
        "{'name': 'c', 'dataType': 'GPStringKeyword', 'value': 'x', 'domain': ['x', 'y']},"
        "{'name': 'd', 'dataType': 'GPString', 'value': None}, {'name': 'e', 'dataType': 'GPBoolean', 'value': True},"
        "{'name': 'f', 'dataType': 'numeric', 'value': 0.5, 'domain': [0, 1]}]"
    )
    model, instance = load(package, code(OBJECTS, PARAMETERS=parameters), a="57")
    assert [(one.name, one.kind) for one in model.parameters] == [
        ("a", "int"), ("b", "float"), ("c", "choice"), ("d", "text"), ("e", "bool"), ("f", "float"),
    ]  # fmt: skip
    assert instance.scalars == {"a": "57", "b": "1", "c": "x", "d": "", "e": "True", "f": "0.5"}
    assert instance.given["device"] == -1
    assert instance.calls == ["initialize", "getParameterInfo", "getConfiguration", "getFields"]


@pytest.mark.parametrize(("name", "value"), [("a", "57.5"), ("e", "maybe"), ("c", "z"), ("f", "2")])
def test_arguments_that_functions_would_choke_on_are_refused_before(package, name, value):
    parameters = (
        "[{'name': 'a', 'dataType': 'numeric', 'value': 56}, {'name': 'e', 'dataType': 'boolean', 'value': True},"
        "{'name': 'c', 'dataType': 'string', 'value': 'x', 'domain': ['x', 'y']},"
        "{'name': 'f', 'dataType': 'numeric', 'value': 0.5, 'domain': [0, 1]}]"
    )
    with pytest.raises(JobError, match=f"argument {name}|“{name}”|{name} "):
        load(package, code(OBJECTS, PARAMETERS=parameters), **{name: value})


def test_initialize_without_a_model_is_quiet(package):
    _, instance = load(package, code(OBJECTS))
    assert type(instance)().initialize() is None


def test_fields_as_bare_list_and_attributes_nobody_declared(package):
    fields = (
        "[{'name': 'OID', 'type': 'esriFieldTypeOID'}, {'name': 'Class', 'type': 'esriFieldTypeString'},"
        "{'name': 'Height', 'type': 'esriFieldTypeDouble'}, {'name': 'Shape', 'type': 'esriFieldTypeGeometry'}]"
    )
    features = (
        "[{'attributes': {'OID': 1, 'Classname': 'bright', 'Classvalue': 2, 'Value': 2, 'Confidence': 87.5},"
        "'geometry': {'rings': [[[1, 1], [3, 1], [3, 4], [1, 4]]]}}]"
    )
    model, _ = load(package, code(OBJECTS, FIELDS=fields, FEATURES=features))
    assert model.declared == (("Class", "text"), ("Height", "real"))
    found = model.detect(*block())[0]
    assert found.labels.tolist() == [1]
    assert found.scores.tolist() == [87.5]  # 0..100 stays as it is
    assert found.attributes[0] == {"Classname": "bright", "Classvalue": 2, "Value": 2, "Confidence": 87.5}


def test_points_and_lines(package):
    model, _ = load(package, code(OBJECTS, GEOMETRY="1", FEATURES="[{'geometry': {'x': 2, 'y': 5}}]"))
    found = model.detect(*block())[0]
    assert model.geometry_type == 1
    assert found.rings[0][0].tolist() == [[2, 5]]
    assert found.boxes[0, 0] < 2 < found.boxes[0, 2]
    paths = "[{'geometry': {'paths': [[[1, 1], [1, 6]], [[2, 2]]]}}, {'geometry': {'paths': [[[3, 3]]]}}]"
    model, _ = load(package, code(OBJECTS, GEOMETRY="3", FEATURES=paths), name="Function.py")
    found = model.detect(*block())[0]
    assert [[ring.tolist() for ring in one] for one in found.rings] == [[[[1, 1], [1, 6]]]]


def test_numbers_that_are_none(package):
    features = (
        "[{'attributes': {'Confidence': float('nan')}, 'geometry': {'rings': [[[0, 0], [4, 0], [4, float('nan')]]]}}]"
    )
    model, _ = load(package, code(OBJECTS, FEATURES=features))
    assert len(model.detect(*block())[0].boxes) == 0


def test_padding_is_taken_off(package):
    features = "[{'attributes': {}, 'geometry': {'rings': [[[-1, 0], [2, 0], [2, 2], [-1, 2]]]}}]"
    text = code(OBJECTS, CONFIGURATION="{'tx': 8, 'ty': 6, 'padding': 3}", FEATURES=features)
    model, instance = load(package, text)
    assert (model.plan.width, model.plan.height, model.plan.halo, model.plan.outer) == (14, 12, 3, True)
    pixels = np.zeros((1, 1, 12, 14), np.uint8)
    found = model.detect(pixels, np.ones((1, 12, 14), bool))[0]
    assert found.boxes.tolist() == [[2, 3, 5, 5]]
    assert instance.blocks["raster_pixels"].shape == (1, 12, 14)
    assert instance.blocks["raster_mask"].dtype == np.uint8


def test_a_table_alone_says_the_classes(package):
    info = f"{{'bandCount': 1, 'pixelType': 'u2', 'rasterAttributeTable': {json.dumps(TABLE)!r}}}"
    text = code(PIXELS, INFO=info, OUTPUT="np.full((1, 9, 9), 300)")  # larger than asked for, as templates answer
    model, instance = load(package, text, {"ModelType": "ImageClassification", "Classes": []})
    assert model.values == (0, 7, 300)
    assert [(one.value, one.name, one.color) for one in model.classes] == [(7, "moor", (1, 2, 3)), (300, "heath", None)]
    scores = model.scores(*block())
    assert scores.shape == (1, 3, 8, 8)
    assert (scores[0].argmax(0) == 2).all()
    assert instance.props["pixelType"] == "u2"
    assert np.dtype(instance.props["pixelType"]) == instance.blocks["output_pixels"].dtype
    assert (instance.props["width"], instance.props["height"], instance.shape) == (8, 8, (1, 8, 8))


@pytest.mark.parametrize(("pixel_type", "dtype"), [("f4", "f4"), ("i4", "i4"), ("t4", "u1"), ("i2", "i2")])
def test_outputs_have_the_type_that_the_function_asks_for(package, pixel_type, dtype):
    text = code(PIXELS, INFO=f"{{'bandCount': 2, 'pixelType': '{pixel_type}'}}")
    model, instance = load(package, text, {"ModelType": "ImageClassification"})
    assert model.values is None  # two bands are no classes
    assert model.scores(*block()).shape == (1, 2, 8, 8)
    assert instance.props["pixelType"] == dtype


def test_two_dimensions_and_an_output_mask(package):
    text = code(
        PIXELS,
        INFO="{'bandCount': 1, 'pixelType': 'f4'}",
        OUTPUT="np.ones((8, 8), 'f4')",
        MORE="{'output_mask': np.tri(8, dtype='u1')}",
    )
    model, _ = load(package, text, {"ModelType": "ImageClassification"})
    found = model.scores(*block())[0, 0]
    assert (np.isnan(found) == (np.tri(8) == 0)).all()
    assert (found[np.tri(8) == 1] == 1).all()


def test_values_of_no_class_are_named(package):
    text = code(PIXELS, INFO="{'bandCount': 1, 'pixelType': 'i4'}", OUTPUT="np.full((1, 8, 8), 99)")
    model, _ = load(package, text, {"ModelType": "ImageClassification"})
    with pytest.raises(ModelError, match="wrote the class value 99"):
        model.scores(*block())


def test_both_kinds_in_one_function(package):
    features = "[{'attributes': {'Class': 'dark'}, 'geometry': {'rings': [[[0, 0], [4, 0], [4, 4], [0, 4]]]}}]"
    text = code(
        OBJECTS, PIXELS, FEATURES=features, INFO="{'bandCount': 1, 'pixelType': 'i4'}", OUTPUT="np.full((1, 8, 8), 2)"
    )
    model, _ = load(package, text, {"ModelType": "PanopticSegmenter"})
    assert isinstance(model, Detector)
    assert isinstance(model, PixelClassifier)
    assert model.detect(*block())[0].boxes.tolist() == [[0, 0, 4, 4]]
    assert (np.array(model.values)[model.scores(*block())[0].argmax(0)] == 2).all()
    assert "finds objects and classifies pixels" in model.take_messages()[0].text


def test_a_range_that_is_the_types_own_changes_nothing(package):
    model, instance = load(package, code(OBJECTS, CONFIGURATION="{'tx': 8, 'ty': 8, 'dataRange': (0, 255)}"))
    model.detect(*block())
    assert instance.blocks["raster_pixels"].dtype == np.uint8
    model, instance = load(package, code(OBJECTS, CONFIGURATION="{'tx': 8, 'ty': 8, 'dataRange': (-1, 1)}"))
    model.detect(np.full((1, 1, 8, 8), 255, np.uint8), np.ones((1, 8, 8), bool))
    assert instance.blocks["raster_pixels"].dtype == np.float32
    assert instance.blocks["raster_pixels"].max() == 1


CHIPS = """
        def vectorize(self, **blocks):
            self.shapes = [one.shape for one in blocks["rasters_pixels"]]
            return {"output_vectors": json.dumps({"features": [{"attributes": one} for one in ANSWERS]})}
"""


@pytest.mark.parametrize(
    ("answer", "expected", "texts"),
    [
        ("{'Label': 'bright', 'Confidence': '0.75'}", [0, 0.75], None),
        ("{'Label': 'dark;bright', 'Confidence': '0.6;0.9'}", [0, 0.9], ("dark;bright", "0.6;0.9")),
        ("{'Label': '', 'Confidence': '0.1;0.2'}", [0, 0], ("", "0.1;0.2")),
        ("{'Classname': 'dark', 'Confidence': ''}", [1, 0], None),  # a class without a number counts as sure
        ("{'Value': 2, 'Confidence': 88}", [0, 88], None),
    ],
)
def test_labels_and_confidences_of_chips(package, answer, expected, texts):
    text = code(CHIPS, ANSWERS=f"[{answer}] * 3").replace(
        '"raster", "dataType": "raster"', '"rasters", "dataType": "rasters"'
    )
    model, instance = load(package, text, {"ModelType": "ObjectClassification"})
    found = model.probabilities(np.zeros((1, 1, 16, 16), np.uint8), np.ones((1, 16, 16), bool))
    assert found.tolist() == [pytest.approx(expected)]
    assert model.labels(found, ["dark", "bright"]) == [texts]
    assert instance.shapes == [(1, 16, 16)]


def test_what_a_package_brings_comes_before_our_stand_ins(package):
    text = (
        "from fields import fields\nimport prf_utils\n" + BASE.replace("\n    ", "\n") + OBJECTS.replace("\n    ", "\n")
    )
    for name, value in (
        ("PARAMETERS", "[]"),
        ("CONFIGURATION", "{}"),
        ("FIELDS", "fields"),
        ("GEOMETRY", "4"),
        ("FEATURES", "[]"),
    ):
        text = text.replace(name, value)
    own = "fields = {'fields': [{'name': 'Own', 'type': 'esriFieldTypeInteger', 'alias': 'Own'}]}\n"
    model, _ = load(package, text, more={"fields.py": own})
    assert model.declared == (("Own", "integer"),)


@pytest.mark.parametrize(
    ("size", "padding", "batch", "tx", "ty"), [(256, 64, 4, 256, 256), (256, 0, 5, 256, 1280), (128, 32, 6, 192, 128)]
)
def test_super_tiles_of_the_template_base(package, size, padding, batch, tx, ty):
    members = {"ModelType": "ImageClassification", "ImageHeight": size, "ImageWidth": size}
    made = package(CLASSIFIER, "PixelFunction.py", members)
    model = adapter.load(made, "cpu", 1, {"padding": str(padding), "batch_size": str(batch)})
    assert (model.plan.width - 2 * padding, model.plan.height - 2 * padding, model.plan.halo) == (tx, ty, padding)


def test_a_folder_of_functions_as_arcgis_has_it(package, tmp_path):
    (tmp_path / "python_raster_functions" / "PyTorch").mkdir(parents=True)
    child = "import helper_of_all\n\n\nclass Child:\n    number = helper_of_all.NUMBER\n"
    first = "import importlib\nfrom fields import fields\nChild = importlib.import_module('PyTorch.Net').Child\n"
    text = first + textwrap.dedent(code(OBJECTS))
    more = {
        "python_raster_functions/Finder.py": text.replace("class Function", "class Finder"),
        "python_raster_functions/PyTorch/Net.py": child,
        "python_raster_functions/helper_of_all.py": "NUMBER = 5\n",
    }
    members = {"InferenceFunction": ".\\python_raster_functions\\Finder.py", "Framework": "PyTorch"}
    model, instance = load(package, "UNUSED = 1\n", members, more=more)
    assert type(instance).initialize.__globals__["Child"].number == 5
    assert model.geometry_type == 4


def test_the_definition_reads_the_same_in_any_encoding(package):
    made = package(code(OBJECTS), members={"Classes": [{"Value": 1, "Name": "Bäume"}]})
    model = adapter.load(made, "cpu", 1, {})
    path = model._function._instance.given["model"]
    for encoding in ("ascii", "cp1252", "utf-8"):
        with open(path, encoding=encoding) as file:
            assert json.load(file)["Classes"][0]["Name"] == "Bäume"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("from Keras.Missing import x", "imports “Keras”.*the folder Keras with the module.*beside the function"),
        ("import torch_not_there_at_all", "If “torch_not_there_at_all” is a file of the author's"),
        ("from json import gone_since_long", "cannot import name 'gone_since_long'.*another version of “json”"),
        (
            "import json; json.gone_since_long(1)",
            "AttributeError: module 'json' has no attribute.*another version of “json”",
        ),
    ],
)
def test_each_missing_thing_is_named_with_its_remedy(package, line, says):
    with pytest.raises(ModelError, match=f"(?s){says}"):
        load(package, line + "\n")


def test_missing_frameworks_point_to_the_set_up(monkeypatch):
    from pathlib import Path

    from deep_raster.engine.raster_function.missing import missing_import

    for name, remedy in {
        "tensorflow": "FRAMEWORKS=tensorflow",
        "torch.nn": "FRAMEWORKS=pytorch",
        "tensorflow.contrib": "gone since TensorFlow 2",
        "cv2": "pip install opencv-python-headless",
        "skimage.color": "pip install scikit-image",
        "arcgis.learn": "belongs to ArcGIS",
        "TensorFlow.Child": "TensorFlow/Child.py beside",
    }.items():
        error = missing_import(Path("F.py"), ModuleNotFoundError("No module", name=name))
        assert f"imports “{name}”" in str(error)
        assert remedy in str(error)


def test_names_that_numpy_and_python_took_away(package):
    lines = "import numpy as np, collections\nv = np.float(1.5), np.Inf, np.product([2, 3]), collections.Iterable\n"
    text = (
        lines
        + "class Function:\n    def getParameterInfo(self): return []\n    def initialize(self, **k): self.v = v\n"
    )
    text += "    def getConfiguration(self, **k): return {}\n    def vectorize(self, **b): return {}\n"
    _, instance = load(package, text)
    assert instance.v[:3] == (1.5, np.inf, 6)


def test_version_numbers_compare_as_distutils_did():
    version = older_libraries.LooseVersion
    assert version("0.9") < version("0.14")
    assert version("1.10.2") > version("1.9")
    assert version("2.0rc1") != version("2.0")
    assert version("0.14") >= "0.14"


@pytest.mark.parametrize(
    ("source", "old"),
    [
        ("import tensorflow as tf\nwith tf.Session() as s: pass\n", True),
        ("import tensorflow as nets\nnets.GraphDef()\n", True),
        ("from tensorflow import placeholder\n", True),
        ("import tensorflow as tf\ntf.compat.v1.Session()\n", False),
        ("import tensorflow as tf\nS = tf.Session if tf.__version__ < '2' else tf.compat.v1.Session\n", False),
        ("import tensorflow as tf\n'''tf.Session()'''\n# tf.GraphDef\n", False),
        ("import torch\n# tensorflow\nclass tf: Session = 1\ntf.Session\n", False),
        ("import tensorflow as tf\nprint 'python 2'\n", False),
    ],
)
def test_functions_for_tensorflow_1_are_told_from_their_source(tmp_path, source, old):
    (tmp_path / "a.py").write_text(source)
    assert older_libraries.uses_tensorflow_1([tmp_path / "a.py", tmp_path / "none.py"]) is old


def test_without_the_right_to_link_files_are_copied(package, monkeypatch):
    import os

    def refuse(*args, **kwargs):
        raise OSError("privilege not held")

    monkeypatch.setattr(os, "symlink", refuse)
    _, instance = load(package, code(OBJECTS))
    folder = os.path.dirname(instance.given["model"])
    assert "weights.txt" in os.listdir(folder)
    assert not any(os.path.islink(os.path.join(folder, one)) for one in os.listdir(folder))
