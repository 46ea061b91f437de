"""Packages of other frameworks through the real engine process on a georeferenced raster, against the framework."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
import keras
import tensorflow as tf
import torch
import torchvision
from deep_raster.engine import jobs
from deep_raster.engine.errors import TrustError
from deep_raster.engine.models.onnx_describe import describe_onnx
from deep_raster.engine.package.dlpk import open_package
from torch import nn

from . import engine_support as engine
from . import network_files as files

pytestmark = pytest.mark.tensorflow


def scene(folder, height, width):
    pixels = files.pixels((3, height, width), seed=9)
    return (engine.write_raster(folder / "scene.tif", pixels),), pixels


def write_package(folder, members, **changes):
    path = folder / "model.emd"
    path.write_text(json.dumps({**members, **changes}), "utf-8")
    return str(path)


def pointwise(channels):
    """A network that looks at single pixels, so that tiling cannot matter."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, channels, 1)).eval()


def test_onnx_pixels_in_many_tiles(tmp_path):
    inputs, pixels = scene(tmp_path, 150, 210)
    net = pointwise(4)
    members = describe_onnx(files.export(net, tmp_path / "net.onnx", (1, 3, 64, 64), dynamic=(0, 2, 3)))
    package = write_package(tmp_path, members, ImageWidth=64, ImageHeight=64, Padding=8, Classes=files.classes(4, 10))
    engine.run(jobs.ClassifyPixels(inputs, package, str(tmp_path / "out.tif"), engine.options()))
    with torch.no_grad():
        wanted = net(files.scaled(pixels[None])).argmax(1)[0].numpy() + 10
    assert (engine.read_classes(tmp_path / "out.tif") == wanted).mean() >= 0.9999


def test_onnx_objects(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.body = nn.Conv2d(3, 6, 8, 8)

        def forward(self, x):
            out = self.body(x).flatten(2)
            place = torch.arange(out.shape[2])
            columns = x.shape[3] // 8
            centres = torch.stack([place % columns, place // columns])[None] * 8.0 + 4 + out[:, :2]
            return torch.cat([centres, 8 + 6 * out[:, 2:4].sigmoid(), (3 * out[:, 4:]).sigmoid()], 1)

    inputs, pixels = scene(tmp_path, 64, 96)
    net = Net().eval()
    members = describe_onnx(files.export(net, tmp_path / "net.onnx", (1, 3, 64, 96)))
    package = write_package(tmp_path, members, Padding=0, Classes=files.classes(2))
    output = str(tmp_path / "out.gpkg")
    engine.run(
        jobs.DetectObjects(inputs, package, output, engine.options(threshold="0.55", nms_overlap="0.3"), run_nms=False)
    )
    with torch.no_grad():
        table = net(files.scaled(pixels[None]))[0].T
    scores, labels = table[:, 4:].max(1)
    keep = scores > 0.55
    boxes = torchvision.ops.box_convert(table[keep, :4], "cxcywh", "xyxy")
    kept = torchvision.ops.batched_nms(boxes, scores[keep], labels[keep], 0.3)
    engine.same_objects(output, boxes[kept].numpy(), scores[keep][kept].numpy(), labels[keep][kept].numpy())


def test_torchscript_only_with_the_packages_hash(tmp_path):
    inputs, pixels = scene(tmp_path, 70, 90)
    net = pointwise(3)
    torch.jit.script(net).save(tmp_path / "net.pt")
    members = {
        **files.SAVED_BY_TORCH,
        "Framework": "TorchScript",
        "ModelFile": "net.pt",
        "Classes": files.classes(3, 0),
    }
    members |= {"ImageHeight": 64, "ImageWidth": 64}
    package = write_package(tmp_path, members)
    job = jobs.ClassifyPixels(inputs, package, str(tmp_path / "out.tif"), engine.options())
    with pytest.raises(TrustError, match="sha256:"):
        engine.run(job)
    digest = open_package(package, cache=tmp_path / "cache").digest
    engine.run(jobs.ClassifyPixels(inputs, package, str(tmp_path / "out.tif"), engine.options((digest,))))
    with torch.no_grad():
        wanted = net(files.scaled(pixels[None])).argmax(1)[0].numpy()
    assert (engine.read_classes(tmp_path / "out.tif") == wanted).mean() >= 0.9999


def test_tensorflow_objects(tmp_path):
    inputs, pixels = scene(tmp_path, 64, 96)
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(8, 8, 3, 6)).astype("float32") * 0.3
    graph = tf.compat.v1.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
        head = tf.nn.conv2d(tf.cast(image, tf.float32) / 127.5 - 1, weights, 8, "VALID")
        table = tf.reshape(head, [tf.shape(image)[0], -1, 6])
        size = 0.1 * tf.sigmoid(table[..., 2:4])
        centre = tf.sigmoid(table[..., :2])
        outputs = {
            "detection_boxes": tf.concat([centre - size, centre + size], -1, name="detection_boxes"),
            "detection_scores": tf.reduce_max(tf.sigmoid(table[..., 4:]), -1, name="detection_scores"),
            "detection_classes": tf.add(
                tf.cast(tf.argmax(table[..., 4:], -1), tf.float32), 1.0, name="detection_classes"
            ),
        }
        with tf.compat.v1.Session() as session:
            answer = session.run(outputs, {image: pixels.transpose(1, 2, 0)[None]})
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    members = {
        "Framework": "TensorFlow",
        "ModelConfiguration": "ObjectDetectionAPI",
        "ModelType": "ObjectDetection",
        "ModelFile": ".\\net.pb",
        "ImageHeight": 64,
        "ImageWidth": 96,
        "ExtractBands": [0, 1, 2],
        "Classes": files.classes(2),
    }
    package, output = write_package(tmp_path, members), str(tmp_path / "out.gpkg")
    engine.run(jobs.DetectObjects(inputs, package, output, engine.options(score_threshold="0.7"), run_nms=False))
    keep = answer["detection_scores"][0] > 0.7
    boxes = answer["detection_boxes"][0][keep][:, [1, 0, 3, 2]] * [96, 64, 96, 64]
    labels = answer["detection_classes"][0][keep].astype(int) - 1
    engine.same_objects(output, boxes, answer["detection_scores"][0][keep], labels)


def test_deeplab_pixels(tmp_path):
    inputs, pixels = scene(tmp_path, 100, 120)
    weights = np.random.default_rng(5).normal(size=(1, 1, 3, 4)).astype("float32")
    graph = tf.compat.v1.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3], name="ImageTensor")
        logits = tf.nn.conv2d(tf.cast(image, tf.float32) / 127.5 - 1, weights, 1, "SAME")
        result = tf.argmax(logits, 3, output_type=tf.int32, name="SemanticPredictions")
        with tf.compat.v1.Session() as session:
            wanted = session.run(result, {image: pixels.transpose(1, 2, 0)[None]})[0]
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    members = {
        "Framework": "TensorFlow",
        "ModelConfiguration": {"Name": "DeepLab"},
        "ModelType": "ImageClassification",
        "ModelFile": "net.pb",
        "ImageHeight": 64,
        "ImageWidth": 64,
        "ExtractBands": [0, 1, 2],
        "Classes": files.classes(4, 0),
    }
    package = write_package(tmp_path, members)
    engine.run(jobs.ClassifyPixels(inputs, package, str(tmp_path / "out.tif"), engine.options(padding="4")))
    assert (engine.read_classes(tmp_path / "out.tif") == wanted).mean() >= 0.9999


def test_keras_classes_of_features(tmp_path):
    inputs, pixels = scene(tmp_path, 128, 192)
    keras.utils.set_random_seed(2)
    layers = keras.layers
    net = keras.Sequential(
        [
            layers.Input((64, 64, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 9, strides=4, activation="relu", kernel_initializer="he_normal"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    net.save(tmp_path / "net.keras")
    members = {
        "Framework": "Keras",
        "ModelConfiguration": "KerasClassifier",
        "ModelType": "ObjectClassification",
        "ModelFile": "net.keras",
        "ImageHeight": 64,
        "ImageWidth": 64,
        "ExtractBands": [0, 1, 2],
        "CropSizeFixed": 1,
        "BlackenAroundFeature": 0,
        "Classes": files.classes(3, 0),
    }
    corners = [(column, row) for row in (0, 64) for column in (0, 64, 128)]
    boxes = [(x + 20, y + 20, x + 44, y + 44) for x, y in corners]
    features = engine.write_features(tmp_path / "features.gpkg", boxes)
    package, output = write_package(tmp_path, members), str(tmp_path / "out.gpkg")
    engine.run(jobs.ClassifyObjects(inputs, package, output, features=features, options=engine.options()))
    chips = np.stack([pixels[:, y : y + 64, x : x + 64] for x, y in corners]).transpose(0, 2, 3, 1)
    wanted = np.asarray(net.predict(chips.astype("float32"), verbose=0))
    _, fields = engine.read_layer(output)
    names = {int(one): text for one, text in zip(fields["number"], fields["ClassLabel"])}
    assert [names[index] for index in range(6)] == [f"kind {value}" for value in wanted.argmax(1)]


def test_scripted_torchvision_objects_after_tensorflow_in_the_same_engine(tmp_path):
    """torchvision cannot be loaded into a process with TensorFlow: the worker dies and another one does the task."""
    inputs, pixels = scene(tmp_path, 64, 96)
    torch.manual_seed(4)
    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, score_thresh=0.01
    ).eval()
    torch.jit.script(net).save(tmp_path / "net.pt")
    tensors = {"Boxes": "boxes", "Scores": "scores", "Labels": "labels"}
    members = {
        "Framework": "TorchScript",
        "ModelConfiguration": {
            "Name": "Network",
            "Input": {"Batched": False},
            "Output": {"Kind": "Boxes", "FirstLabel": 1, "Tensors": tensors},
        },
        "ModelType": "ObjectDetection",
        "ModelFile": "net.pt",
        "ImageHeight": 64,
        "ImageWidth": 96,
        "Padding": 0,
        "ExtractBands": [0, 1, 2],
        "Normalization": {"Method": "scale", "Scale": 255, "Fill": 0},
        "Classes": files.classes(2),
    }
    package, output = write_package(tmp_path, members), str(tmp_path / "out.gpkg")
    with torch.no_grad():
        wanted = net(list(files.scaled(pixels[None])))[0]
    scores = wanted["scores"].numpy()
    threshold = float(np.median(scores)) - 1e-3
    trust = (open_package(package, cache=tmp_path / "cache").digest,)
    engine.run(
        jobs.DetectObjects(inputs, package, output, engine.options(trust, threshold=str(threshold)), run_nms=False)
    )
    keep = scores > threshold
    engine.same_objects(output, wanted["boxes"].numpy()[keep], scores[keep], wanted["labels"].numpy()[keep] - 1)
