"""Graphs and SavedModels made by TensorFlow: our adapters against TensorFlow's own session on the same pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from deep_raster.engine.errors import DeepRasterError, ModelError, TrustError  # noqa: E402
from deep_raster.engine.models import tensorflow_models  # noqa: E402
from deep_raster.engine.models.tensorflow_graph import check_graph  # noqa: E402
from deep_raster.engine.models.tensorflow_operations import ALLOWED  # noqa: E402

from . import network_files as files  # noqa: E402

pytestmark = pytest.mark.tensorflow

v1 = tf.compat.v1
DETECTOR = {
    "Framework": "TensorFlow",
    "ModelConfiguration": "ObjectDetectionAPI",
    "ModelType": "ObjectDetection",
    "ModelFile": ".\\frozen.pb",
    "ImageHeight": 48,
    "ImageWidth": 64,
    "ExtractBands": [0, 1, 2],
    "Classes": files.classes(3),
}
DEEPLAB = {
    **DETECTOR,
    "ModelConfiguration": {"Name": "deeplab"},
    "ModelType": "ImageClassification",
    "Classes": files.classes(4, 0),
}


def weights(*shape, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 0.4).astype("float32")


def detector(image, variable=tf.constant):
    """Boxes, scores and 1-based class numbers of a uint8 image, with the suppression that the exporters put in."""
    values = tf.cast(image, tf.float32) / 127.5 - 1
    grid = tf.nn.conv2d(values, variable(weights(8, 8, 3, 8)), 8, "SAME")
    head = tf.nn.conv2d(tf.nn.relu(grid), variable(weights(1, 1, 8, 7, seed=1)), 1, "SAME")
    table = tf.reshape(head, [tf.shape(image)[0], -1, 7])
    centre, size = tf.sigmoid(table[..., :2]), 0.2 * tf.sigmoid(table[..., 2:4])
    boxes = tf.concat([centre - size, centre + size], -1)
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None], tf.sigmoid(table[..., 4:]), 10, 20, iou_threshold=0.5, clip_boxes=False
    )
    return {
        "detection_boxes": found.nmsed_boxes,
        "detection_scores": found.nmsed_scores,
        "detection_classes": found.nmsed_classes + 1,
        "num_detections": tf.cast(found.valid_detections, tf.float32),
    }


def frozen(path, shape, build, name, extra=None):
    """Write a frozen graph of TensorFlow 1 and return what a session of TensorFlow says about some pixels."""
    graph = v1.Graph()
    with graph.as_default():
        image = v1.placeholder(tf.uint8, shape, name=name)
        outputs = {key: tf.identity(value, key) for key, value in build(image).items()}
        if extra:
            extra(outputs)
        definition = graph.as_graph_def()
    path.write_bytes(definition.SerializeToString())

    def ask(batch):
        with v1.Session(graph=graph) as session:
            return session.run(outputs, {image: batch.transpose(0, 2, 3, 1)})

    return ask


def check_detections(model, ask, batch, one_by_one=False):
    found = model.detect(batch, files.everywhere(batch))
    total = 0
    for index, objects in enumerate(found):
        wanted = ask(batch[index : index + 1]) if one_by_one else ask(batch)
        place = 0 if one_by_one else index
        keep = wanted["detection_scores"][place] > 0.6
        ymin, xmin, ymax, xmax = wanted["detection_boxes"][place][keep].T
        np.testing.assert_allclose(objects.scores, wanted["detection_scores"][place][keep], atol=1e-4)
        np.testing.assert_allclose(objects.boxes, np.stack([xmin * 64, ymin * 48, xmax * 64, ymax * 48], 1), atol=0.01)
        np.testing.assert_array_equal(objects.labels, wanted["detection_classes"][place][keep] - 1)
        total += len(objects.boxes)
    assert total > 5


def test_detection_from_a_frozen_graph(tmp_path):
    ask = frozen(tmp_path / "frozen.pb", [None, None, None, 3], detector, "image_tensor")
    model = tensorflow_models.load_detector(files.package(tmp_path, DETECTOR), "cpu", 1, {"batch_size": "2"})
    assert model.plan.batch == 2
    assert not model.plan.fixed
    check_detections(model, ask, files.pixels((3, 3, 48, 64)))


def test_masks_of_detections_become_outlines(tmp_path):
    """TensorFlow's own resampling puts each mask back into the image, as the Object Detection API does."""

    def build(image):
        found = detector(image)
        rows, columns = tf.meshgrid(tf.linspace(-1.0, 1.0, 15), tf.linspace(-1.0, 1.0, 15), indexing="ij")
        shape = tf.exp(-(rows**2) - (columns + 0.3) ** 2)  # a blob a little left of the middle
        scores = found["detection_scores"][..., None, None]
        return {**found, "detection_masks": shape[None, None] * (0.4 + 0.7 * scores)}

    ask = frozen(tmp_path / "frozen.pb", [None, None, None, 3], build, "image_tensor")
    model = tensorflow_models.load_detector(files.package(tmp_path, DETECTOR), "cpu", 1, {})
    batch = files.pixels((1, 3, 48, 64))
    (found,) = model.detect(batch, files.everywhere(batch))
    wanted = {key: value[0] for key, value in ask(batch).items()}
    keep = wanted["detection_scores"] > 0.6
    boxes, masks = wanted["detection_boxes"][keep], wanted["detection_masks"][keep]
    low, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    back = np.concatenate([-low / size, (1 - low) / size], axis=1)
    whole = tf.image.crop_and_resize(masks[..., None], back, range(len(boxes)), (48, 64), extrapolation_value=0)
    expected = [mask for mask in whole.numpy()[..., 0] > 0.5 if mask.any()]  # some boxes are thinner than a pixel
    assert len(found.rings) == len(expected) > 3
    for rings, mask in zip(found.rings, expected):
        x, y = rings[0].T
        area = abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2
        rows, columns = np.nonzero(mask)
        assert area == mask.sum() > 0
        assert (x.min(), x.max(), y.min(), y.max()) == (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)


def test_16_bit_pixels_are_rescaled_as_the_definition_says(tmp_path):
    ask = frozen(tmp_path / "frozen.pb", [None, None, None, 3], detector, "image_tensor")
    package = files.package(tmp_path, DETECTOR, DataRange=[0, 255])
    model = tensorflow_models.load_detector(package, "cpu", 1, {})
    bytes_ = files.pixels((1, 3, 48, 64))
    wide = bytes_.astype("uint16") * 257
    check_detections(model, lambda _: ask(bytes_), wide)


@pytest.mark.parametrize("variable", ["resource", "reference"])
def test_detection_from_a_saved_model_of_tensorflow_1(tmp_path, variable):
    graph = v1.Graph()
    with graph.as_default():
        count = iter(range(9))

        def make(value):
            return v1.get_variable(f"w{next(count)}", initializer=value, use_resource=variable == "resource")

        image = v1.placeholder(tf.uint8, [None, None, None, 3])
        outputs = detector(image, make)
        session = v1.Session(graph=graph)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"inputs": image}, outputs)
    package = files.package(tmp_path, DETECTOR, ModelFile="saved")
    model = tensorflow_models.load_detector(package, "cpu", 1, {})
    ask = lambda batch: session.run(outputs, {image: batch.transpose(0, 2, 3, 1)})  # noqa: E731
    check_detections(model, ask, files.pixels((2, 3, 48, 64)))


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = tf.Variable(weights(8, 8, 3, 8)), tf.Variable(weights(1, 1, 8, 7, seed=1))

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")])
    def __call__(self, image):
        given = iter((self.first, self.second))
        return detector(image, lambda _: next(given))


def test_detection_from_a_saved_model_of_tensorflow_2_takes_one_image_at_a_time(tmp_path):
    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    package = files.package(tmp_path, DETECTOR, ModelFile="saved\\saved_model.pb")
    model = tensorflow_models.load_detector(package, "cpu", 1, {"batch_size": "4"})
    assert model.plan.batch == 1

    def ask(batch):
        return {key: value.numpy() for key, value in module(tf.constant(batch.transpose(0, 2, 3, 1))).items()}

    check_detections(model, ask, files.pixels((2, 3, 48, 64)), one_by_one=True)


def deeplab(image):
    values = tf.cast(image, tf.float32) / 127.5 - 1
    logits = tf.nn.conv2d(
        tf.nn.relu(tf.nn.conv2d(values, weights(3, 3, 3, 8), 2, "SAME")), weights(3, 3, 8, 4), 1, "SAME"
    )
    logits = tf.image.resize(logits, tf.shape(image)[1:3])
    return {"SemanticPredictions": tf.argmax(logits, 3, output_type=tf.int32)}


def test_deeplab_from_a_frozen_graph(tmp_path):
    ask = frozen(tmp_path / "frozen.pb", [1, None, None, 3], deeplab, "ImageTensor")
    model = tensorflow_models.load_deeplab(files.package(tmp_path, DEEPLAB), "cpu", 1, {"padding": "8"})
    assert model.values == (0, 1, 2, 3)
    assert (model.plan.batch, model.plan.halo) == (1, 8)
    batch = files.pixels((2, 3, 48, 64))
    found = model.scores(batch, files.everywhere(batch))
    for index in range(2):
        wanted = ask(batch[index : index + 1])["SemanticPredictions"][0]
        assert len(np.unique(wanted)) > 2
        assert (found[index].argmax(0) == wanted).mean() >= 0.9999


def test_deeplab_values_that_the_definition_lacks(tmp_path):
    frozen(tmp_path / "frozen.pb", [1, None, None, 3], deeplab, "ImageTensor")
    package = files.package(tmp_path, DEEPLAB, Classes=files.classes(2, 1))
    model = tensorflow_models.load_deeplab(package, "cpu", 1, {})
    assert model.values == (0, 1, 2)
    batch = files.pixels((1, 3, 48, 64))
    with pytest.raises(ModelError, match="class number 3, which the definition does not list"):
        model.scores(batch, files.everywhere(batch))


def test_deeplab_from_a_saved_model(tmp_path):
    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
        def __call__(self, image):
            return deeplab(image)

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "saved"), signatures=net.__call__)
    model = tensorflow_models.load_deeplab(files.package(tmp_path, DEEPLAB, ModelFile="saved"), "cpu", 1, {})
    batch = files.pixels((1, 3, 48, 64))
    wanted = net(tf.constant(batch.transpose(0, 2, 3, 1)))["SemanticPredictions"].numpy()
    assert (model.scores(batch, files.everywhere(batch)).argmax(1) == wanted).mean() >= 0.9999


def test_broken_and_contradictory_files(tmp_path):
    frozen(tmp_path / "frozen.pb", [1, None, None, 3], deeplab, "ImageTensor")
    with pytest.raises(ModelError, match="no tensor image_tensor or input_tensor"):
        tensorflow_models.load_detector(files.package(tmp_path, DETECTOR), "cpu", 1, {})
    data = (tmp_path / "frozen.pb").read_bytes()
    (tmp_path / "frozen.pb").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"damaged, truncated|cannot take in"):
        tensorflow_models.load_deeplab(files.package(tmp_path, DEEPLAB), "cpu", 1, {})
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "other.txt").write_text("x")
    with pytest.raises(DeepRasterError, match=r"saved_model\.pb is missing"):
        tensorflow_models.load_deeplab(files.package(tmp_path, DEEPLAB, ModelFile="saved"), "cpu", 1, {})


def test_a_class_beyond_the_definition(tmp_path):
    frozen(tmp_path / "frozen.pb", [None, None, None, 3], detector, "image_tensor")
    model = tensorflow_models.load_detector(files.package(tmp_path, DETECTOR, Classes=files.classes(1)), "cpu", 1, {})
    batch = files.pixels((1, 3, 48, 64))
    with pytest.raises(ModelError, match="but the definition lists 1 class"):
        model.detect(batch, files.everywhere(batch))


def test_missing_variables(tmp_path):
    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    (tmp_path / "saved" / "variables" / "variables.index").unlink()
    with pytest.raises(ModelError, match="cannot load the SavedModel"):
        tensorflow_models.load_detector(files.package(tmp_path, DETECTOR, ModelFile="saved"), "cpu", 1, {})


def write_file(target):
    def add(outputs):
        with tf.control_dependencies([tf.io.write_file(str(target), "x")]):
            tf.identity(outputs["SemanticPredictions"], "evil")

    return add


def test_a_graph_that_writes_files_is_refused_until_it_is_allowed(tmp_path):
    frozen(tmp_path / "frozen.pb", [1, None, None, 3], deeplab, "ImageTensor", write_file(tmp_path / "canary"))
    package = files.package(tmp_path, DEEPLAB)
    with pytest.raises(TrustError, match="WriteFile") as caught:
        tensorflow_models.load_deeplab(package, "cpu", 1, {})
    assert package.digest in str(caught.value)
    assert not (tmp_path / "canary").exists()
    allowed = dataclasses.replace(package, code_allowed=True)
    assert tensorflow_models.load_deeplab(allowed, "cpu", 1, {}).values == (0, 1, 2, 3)


def test_file_operations_in_functions_and_initialisers_are_found(tmp_path):
    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
        def __call__(self, image):
            def body(step):
                tf.io.write_file(str(tmp_path / "canary"), "x")
                return step + 1

            tf.while_loop(lambda step: step < 1, body, [0])
            return deeplab(image)

    net = Evil()
    tf.saved_model.save(net, str(tmp_path / "saved"), signatures=net.__call__)
    (tmp_path / "canary").unlink(missing_ok=True)
    with pytest.raises(TrustError, match="WriteFile"):
        tensorflow_models.load_deeplab(files.package(tmp_path, DEEPLAB, ModelFile="saved"), "cpu", 1, {})
    assert not (tmp_path / "canary").exists()

    class Table(tf.Module):
        def __init__(self):
            super().__init__()
            (tmp_path / "words.txt").write_text("a\nb\n")
            index = tf.lookup.TextFileIndex
            words = str(tmp_path / "words.txt")
            source = tf.lookup.TextFileInitializer(words, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
            self.table = tf.lookup.StaticHashTable(source, -1)

        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
        def __call__(self, image):
            return deeplab(image)

    net = Table()
    tf.saved_model.save(net, str(tmp_path / "table"), signatures=net.__call__)
    with pytest.raises(TrustError, match="InitializeTableFromTextFileV2"):
        tensorflow_models.load_deeplab(files.package(tmp_path, DEEPLAB, ModelFile="table"), "cpu", 1, {})


def test_a_graph_hidden_in_a_constant_is_found(tmp_path):
    inner = v1.GraphDef()
    node = inner.node.add()
    node.name, node.op = "a", "WriteFile"
    graph = v1.GraphDef()
    outer = graph.node.add()
    outer.name, outer.op = "text", "Const"
    outer.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(inner.SerializeToString()))
    with pytest.raises(TrustError, match="WriteFile"):
        check_graph(graph, tmp_path)
    outer.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(b"a harmless label of a class"))
    check_graph(graph, tmp_path)


def test_the_list_names_operations_that_exist_and_none_that_reach_outside():
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session as session

    known = op_def_pb2.OpList()
    known.ParseFromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    assert not ALLOWED - {entry.name for entry in known.op}
    words = ("File", "Py", "Print", "Save", "Restore", "Rpc", "Dataset", "Iterator", "Reader", "Queue", "Send", "Recv")
    assert not [name for name in ALLOWED if any(word in name for word in words)]
    assert not ALLOWED & {"ImmutableConst", "RemoteCall", "SymbolicGradient", "LoadAndRemapMatrix", "MatchingFiles"}
