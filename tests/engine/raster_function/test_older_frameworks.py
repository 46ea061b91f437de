"""Functions written for TensorFlow 1 and Keras 2, with weights made by the frameworks, through a real engine.

Each runs in a worker of its own, as the older face of a framework cannot be taken off again.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from deep_raster.engine import jobs
from real_engine import run

from .test_job import BLOBS, _own_folders, scene  # noqa: F401

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="no TensorFlow here"),
]
GRAPH = """
import sys
import tensorflow as tf

graph = tf.Graph()
with graph.as_default():
    image = tf.compat.v1.placeholder(tf.uint8, [None, None, None, 1], name="image")
    tf.identity(tf.cast(image[..., 0] > 128, tf.int64), name="classes")
open(sys.argv[1], "wb").write(graph.as_graph_def().SerializeToString())
"""
NETWORK = """
import sys
import numpy as np
import tf_keras

layers = tf_keras.layers
network = tf_keras.Sequential(
    [layers.Input((16, 16, 1)), layers.AveragePooling2D(16), layers.Flatten(), layers.Dense(2, "softmax")]
)
network.layers[-1].set_weights([np.array([[0, 0.1]], np.float32), np.array([4, 0], np.float32)])
network.save(sys.argv[1], save_format="h5")
"""

GRAPH_CHILD = """
import os, sys
import numpy as np
import tensorflow as tf
sys.path.append(os.path.join(os.path.dirname(__file__), os.pardir))
from Templates.TemplateBaseClassifier import TemplateBaseClassifier


class Child(TemplateBaseClassifier):
    def load_model(self, path):
        self.graph = tf.Graph()
        with self.graph.as_default():
            definition = tf.GraphDef()
            with tf.gfile.GFile(path, "rb") as file:
                definition.ParseFromString(file.read())
            tf.import_graph_def(definition, name="")

    def inference(self, batch, **scalars):
        with self.graph.as_default(), tf.Session(config=tf.ConfigProto()) as session:
            found = session.run("classes:0", {"image:0": np.transpose(batch, (0, 2, 3, 1))})
        return found[:, np.newaxis]
"""
CLASSIFIER = """
import importlib, json, os, sys
sys.path.append(os.path.dirname(__file__))
from attribute_table import attribute_table


class Old:
    def initialize(self, **kwargs):
        if "model" not in kwargs:
            return
        self.emd = json.load(open(kwargs["model"]))
        os.environ["CUDA_VISIBLE_DEVICES"] = str(kwargs["device"])
        name = "{}.{}".format(self.emd["Framework"], self.emd["ModelConfiguration"])
        self.child = importlib.import_module(name).Child()
        self.child.initialize(kwargs["model"], True)

    def getParameterInfo(self):
        return [{"name": "raster", "dataType": "raster"}, {"name": "padding", "dataType": "numeric", "value": 0}]

    def getConfiguration(self, **scalars):
        return dict(self.child.getConfiguration(**scalars), inputMask=True)

    def updateRasterInfo(self, **kwargs):
        kwargs["output_info"].update(bandCount=1, pixelType="i4")
        return kwargs

    def updatePixels(self, tlc, shape, props, **blocks):
        found = self.child.updatePixels(tlc, shape, props, **blocks)
        return dict(blocks, output_pixels=found.astype(props["pixelType"], copy=False))
"""
CHIPS = """
import json, os
import arcpy
import keras.backend as K
from keras.models import load_model
import numpy as np
import tensorflow as tf
from distutils.version import LooseVersion


class Chips:
    def initialize(self, **kwargs):
        if "model" not in kwargs:
            return
        K.clear_session()
        self.emd = json.load(open(kwargs["model"]))
        self.network = load_model(os.path.join(os.path.dirname(kwargs["model"]), self.emd["ModelFile"]))
        self.graph = tf.get_default_graph()
        if LooseVersion(np.__version__) < LooseVersion("1.10"):
            raise RuntimeError("too old")

    def getParameterInfo(self):
        return [{"name": "rasters", "dataType": "rasters", "value": None}]

    def getConfiguration(self, **scalars):
        return {"extractBands": (0,), "batch_size": 2, "CropSizeFixed": 1, "BlackenAroundFeature": 0}

    def vectorize(self, **blocks):
        chips = np.transpose(np.asarray(blocks["rasters_pixels"]), (0, 2, 3, 1))
        with self.graph.as_default():
            answers = self.network.predict_on_batch(chips)
        features = [{"attributes": {"Label": self.emd["Classes"][int(np.argmax(one))]["Name"],
                                    "Confidence": str(np.max(one))}, "geometry": {"rings": [[0, 127], [0, 0]]}}
                    for one in answers]
        return {"output_vectors": json.dumps({"features": features})}
"""


def write(script, path):
    """Let the framework write weights in a process of its own, as torchvision cannot be imported after it."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment, capture_output=True)


def options(made, **arguments):
    return jobs.RunOptions(workers=1, trust=(made.digest,), arguments=arguments)


def test_a_frozen_graph_in_a_child_of_its_framework(package, scene, tmp_path):  # noqa: F811
    write(GRAPH, tmp_path / "graph.pb")
    (tmp_path / "TensorFlow").mkdir()
    members = {
        "Framework": "TensorFlow",
        "ModelConfiguration": "Nets",
        "ModelType": "ImageClassification",
        "ModelFile": ".\\graph.pb",
        "Classes": [
            {"Value": 0, "Name": "dark", "Color": [1, 2, 3]},
            {"Value": 1, "Name": "bright", "Color": [4, 5, 6]},
        ],
    }
    made = package(CLASSIFIER, "Old.py", members, {"TensorFlow/Nets.py": GRAPH_CHILD}, ("graph.pb",))
    output = tmp_path / "out"
    output.mkdir()
    job = jobs.ClassifyPixels(
        (jobs.RasterInput(str(scene)),), str(made.path), str(output / "c.tif"), options(made, padding="2")
    )
    run(job)
    with rasterio.open(scene) as given, rasterio.open(output / "c.tif") as found:
        assert (found.read(1) == (given.read(1) > 128)).all()


def test_a_whole_model_of_keras_2(package, scene, tmp_path):  # noqa: F811
    write(NETWORK, tmp_path / "net.h5")
    members = {"Framework": "Keras", "ModelType": "ObjectClassification", "ModelFile": ".\\net.h5"}
    made = package(CHIPS, "Chips.py", members, None, ("net.h5",))
    places = [*BLOBS, (40, 40, 6, 6), (12, 66, 3, 3)]
    boxes = [
        shapely.box(500_000 + 2 * c, 5_000_000 - 2 * (r + h), 500_000 + 2 * (c + w), 5_000_000 - 2 * r)
        for c, r, w, h in places
    ]
    pyogrio.raw.write(
        tmp_path / "input" / "f.gpkg",
        np.array(shapely.to_wkb(boxes), object),
        [np.arange(len(boxes))],
        ["n"],
        geometry_type="Polygon",
        crs="EPSG:32633",
    )
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "l.gpkg"
    features = jobs.VectorInput(str(tmp_path / "input" / "f.gpkg"))
    run(
        jobs.ClassifyObjects(
            (jobs.RasterInput(str(scene)),), str(made.path), str(output), features, "Kind", options(made)
        )
    )
    meta, _, _, data = pyogrio.raw.read(output)
    fields = dict(zip(meta["fields"], data))
    with rasterio.open(scene) as given:
        pixels = given.read(1).astype(np.float64)
    for n, kind, confidence in zip(fields["n"], fields["Kind"], fields["Confidence"]):
        column, row, width, height = places[n]
        left, top = round(column + width / 2) - 8, round(row + height / 2) - 8
        # Outside the raster chips are 0.
        chip = np.pad(pixels, 16)[top + 16 : top + 32, left + 16 : left + 32]
        even = np.exp([4.0, chip.mean() * 0.1])
        expected = even / even.sum()
        assert kind == ("dark", "bright")[int(expected.argmax())]
        assert confidence == pytest.approx(expected.max(), abs=1e-5)
    assert set(fields["Kind"]) == {"dark", "bright"}
