"""Mask R-CNN: weights saved by Keras 2 in Matterport's layers, and its steps done again with other libraries.

The reference builds the network in Keras 2 layers (with the wrappers that Matterport's files show), chooses boxes with
torchvision, pools with SciPy and resizes with scikit-image.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")
import h5py
import tf_keras
import torch
from deep_raster.engine.errors import ModelError
from deep_raster.engine.models import keras_mask_rcnn
from deep_raster.engine.models.keras_files import read_layers
from deep_raster.engine.models.keras_mask_rcnn_config import MaskRcnnConfig, read_constants
from scipy.ndimage import map_coordinates
from skimage.measure import label as connected
from skimage.transform import resize
from torchvision.ops import nms

from . import network_files as files

pytestmark = pytest.mark.tensorflow

KL = tf_keras.layers
CLASSES, WIDTH, WIDE, SIDE = 3, 16, 24, 64
SCALES, RATIOS, STRIDES = (8, 16, 32, 64, 96), (0.5, 1, 2), (4, 8, 16, 32, 64)
CONFIG_BASE = """
import os
raise SystemExit('this module must never run')
class Config(object):
    BACKBONE = "resnet101"
    DETECTION_NMS_THRESHOLD = 0.3
    IMAGE_MIN_DIM = 800
"""
CONFIG = """
import os, sys
sys.path.append(os.path.dirname(__file__))
from config import Config
import model as modellib
raise SystemExit('this module must never run')
class PondConfig(Config):
    NAME = 'ponds'
    BACKBONE = 'resnet50'
    NUM_CLASSES = 1 + 2
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 2 * 32
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 96)
    MEAN_PIXEL = np.array([12.5, 10.0, 8])
    STEPS_PER_EPOCH = compute()
class InferenceConfig(PondConfig):
    GPU_COUNT = 1
    POST_NMS_ROIS_INFERENCE = 60
    DETECTION_MIN_CONFIDENCE = 0.45
config = InferenceConfig()
model = modellib.MaskRCNN(mode='inference', config=config, model_dir='./')
"""
MEMBERS = {
    "Framework": "Keras",
    "ModelConfiguration": {"Name": "MaskRCNN", "Architecture": ".\\net\\ponds", "Config": ".\\net\\ponds"},
    "ModelType": "ObjectDetection",
    "ModelFile": ".\\ponds.h5",
    "ImageHeight": SIDE,
    "ImageWidth": SIDE,
    "ExtractBands": [0, 1, 2],
    "Classes": files.classes(2),
}


def conv(filters, size, name=None, **more):
    return KL.Conv2D(filters, size, name=name, kernel_initializer=tf_keras.initializers.GlorotNormal(3), **more)


def norm(name=None):
    return KL.BatchNormalization(name=name, gamma_initializer=tf_keras.initializers.RandomUniform(0.4, 0.8, 2))


def residual(x, stage, block, filters, stride, first):
    name = f"{stage}{block}_branch"
    y = KL.Activation("relu")(norm(f"bn{name}2a")(conv(filters, 1, f"res{name}2a", strides=stride)(x)))
    y = KL.Activation("relu")(norm(f"bn{name}2b")(conv(filters, 3, f"res{name}2b", padding="same")(y)))
    y = norm(f"bn{name}2c")(conv(4 * filters, 1, f"res{name}2c")(y))
    if first:
        x = norm(f"bn{name}1")(conv(4 * filters, 1, f"res{name}1", strides=stride)(x))
    return KL.Activation("relu", name=f"res{stage}{block}_out")(KL.Add()([y, x]))


def build():
    """The network of Matterport's files as Keras 2 writes it: one model, a nested one, heads in TimeDistributed."""
    image = KL.Input((None, None, 3), name="input_image")
    x = conv(64, 7, "conv1", strides=2)(KL.ZeroPadding2D(3)(image))
    x = KL.MaxPooling2D(3, 2, padding="same")(KL.Activation("relu")(norm("bn_conv1")(x)))
    stages = []
    for stage, filters, blocks in ((2, 64, "abc"), (3, 128, "abcd"), (4, 256, "abcdef"), (5, 512, "abc")):
        for block in blocks:
            x = residual(x, stage, block, filters, 2 if block == "a" and stage > 2 else 1, block == "a")
        stages.append(x)
    p5 = conv(WIDTH, 1, "fpn_c5p5")(stages[3])
    p4 = KL.Add()([KL.UpSampling2D()(p5), conv(WIDTH, 1, "fpn_c4p4")(stages[2])])
    p3 = KL.Add()([KL.UpSampling2D()(p4), conv(WIDTH, 1, "fpn_c3p3")(stages[1])])
    p2 = KL.Add()([KL.UpSampling2D()(p3), conv(WIDTH, 1, "fpn_c2p2")(stages[0])])
    maps = [conv(WIDTH, 3, f"fpn_p{i}", padding="same")(p) for i, p in zip((2, 3, 4, 5), (p2, p3, p4, p5))]
    maps.append(KL.MaxPooling2D(1, 2, name="fpn_p6")(maps[-1]))
    given = KL.Input((None, None, WIDTH), name="input_rpn_feature_map")
    shared = conv(512, 3, "rpn_conv_shared", padding="same", activation="relu")(given)
    rpn = tf_keras.Model(
        given, [conv(6, 1, "rpn_class_raw")(shared), conv(12, 1, "rpn_bbox_pred")(shared)], name="rpn_model"
    )
    seen = [rpn(features) for features in maps]
    rois = KL.Input((None, 7, 7, WIDTH), name="rois")
    y = KL.TimeDistributed(conv(WIDE, 7), name="mrcnn_class_conv1")(rois)
    y = KL.Activation("relu")(KL.TimeDistributed(norm(), name="mrcnn_class_bn1")(y))
    y = KL.TimeDistributed(conv(WIDE, 1), name="mrcnn_class_conv2")(y)
    y = KL.Activation("relu")(KL.TimeDistributed(norm(), name="mrcnn_class_bn2")(y))
    flat = KL.Reshape((-1, WIDE))(y)
    logits = KL.TimeDistributed(KL.Dense(CLASSES), name="mrcnn_class_logits")(flat)
    deltas = KL.TimeDistributed(KL.Dense(4 * CLASSES), name="mrcnn_bbox_fc")(flat)
    found = KL.Input((None, 14, 14, WIDTH), name="found")
    z = found
    for i in range(1, 5):
        z = KL.TimeDistributed(conv(256, 3, padding="same"), name=f"mrcnn_mask_conv{i}")(z)
        z = KL.Activation("relu")(KL.TimeDistributed(norm(), name=f"mrcnn_mask_bn{i}")(z))
    z = KL.TimeDistributed(KL.Conv2DTranspose(256, 2, strides=2, activation="relu"), name="mrcnn_mask_deconv")(z)
    z = KL.TimeDistributed(conv(CLASSES, 1, activation="sigmoid"), name="mrcnn_mask")(z)
    return (
        tf_keras.Model([image, rois, found], [maps, seen, logits, deltas, z]),
        (image, maps, seen),
        (
            (rois, [logits, deltas]),
            (found, z),
        ),
    )


def best_of(boxes, scores, overlap):
    return nms(torch.tensor(boxes.astype("float64")), torch.tensor(scores.astype("float64")), overlap)


class Reference:
    def __init__(self, path):
        tf_keras.utils.set_random_seed(11)
        self.whole, (image, maps, seen), ((rois, head), (found, mask)) = build()
        for name, scale in (("rpn_bbox_pred", 0.3), ("rpn_class_raw", 0.5)):
            layer = self.whole.get_layer("rpn_model").get_layer(name)
            layer.set_weights([w * scale for w in layer.get_weights()])
        self.whole.save_weights(str(path))
        self.pyramid = tf_keras.Model(image, [maps, seen])
        self.head, self.mask = tf_keras.Model(rois, head), tf_keras.Model(found, mask)

    def pool(self, maps, boxes, side, size):
        result = []
        for y1, x1, y2, x2 in boxes:
            level = 4 + np.round(np.log2(np.sqrt((y2 - y1) * (x2 - x1)) / (224 / np.sqrt(size * size))))
            features = maps[int(np.clip(level, 2, 5)) - 2][0]
            h, w = features.shape[:2]
            y, x = np.linspace(y1, y2, side) * (h - 1), np.linspace(x1, x2, side) * (w - 1)
            grid = np.meshgrid(y, x, indexing="ij")
            result.append(np.stack([map_coordinates(features[..., c], grid, order=1) for c in range(WIDTH)], -1))
        return np.stack(result).astype("float32")[None]

    def detect(self, chip, config):
        """``chip`` is (rows, columns, bands) of SIDE pixels; returns integer boxes, classes, scores, masks."""
        size = chip.shape[0]
        maps, seen = self.pyramid.predict((chip.astype("float32") - config["mean"])[None].astype("float32"), verbose=0)
        logits = np.concatenate([a.reshape(-1, 2) for a, _ in seen])
        raw = np.concatenate([b.reshape(-1, 4) for _, b in seen]) * [0.1, 0.1, 0.2, 0.2]
        chance = np.exp(logits[:, 1]) / np.exp(logits).sum(1)
        anchors = []
        for scale, stride in zip(SCALES, STRIDES):
            for y in range(0, size, stride):
                for x in range(0, size, stride):
                    for ratio in RATIOS:
                        h, w = scale / ratio**0.5, scale * ratio**0.5
                        anchors.append([y - h / 2, x - w / 2, y + h / 2, x + w / 2])
        anchors = (np.array(anchors) - [0, 0, 1, 1]) / (size - 1)
        boxes = np.clip(self.move(anchors, raw), 0, 1)
        order = np.argsort(-chance, kind="stable")[:6000]
        kept = best_of(boxes[order], chance[order], 0.7).numpy()[: config["rois"]]
        rois = boxes[order][kept]
        logits, deltas = self.head.predict(self.pool(maps, rois, 7, size), verbose=0)
        chances = np.exp(logits[0]) / np.exp(logits[0]).sum(1, keepdims=True)
        number, score = chances.argmax(1), chances.max(1)
        deltas = deltas[0].reshape(len(rois), CLASSES, 4)[np.arange(len(rois)), number] * [0.1, 0.1, 0.2, 0.2]
        final = np.clip(self.move(rois, deltas), 0, 1)
        good = np.flatnonzero((number > 0) & (score >= config["confidence"]))
        keep = []
        for one in np.unique(number[good]):
            places = good[number[good] == one]
            keep += list(places[best_of(final[places], score[places], 0.3).numpy()])
        keep = sorted(keep, key=lambda place: -score[place])
        masks = self.mask.predict(self.pool(maps, final[keep], 14, size), verbose=0)[0]
        whole = np.around(final[keep] * (size - 1) + [0, 0, 1, 1]).astype(int)
        return whole, number[keep], score[keep], masks[np.arange(len(keep)), :, :, number[keep]]

    @staticmethod
    def move(boxes, deltas):
        h, w = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        y, x = boxes[:, 0] + h / 2 + deltas[:, 0] * h, boxes[:, 1] + w / 2 + deltas[:, 1] * w
        h, w = h * np.exp(deltas[:, 2]), w * np.exp(deltas[:, 3])
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ponds")
    (place / "net").mkdir()
    (place / "net" / "ponds.py").write_text(CONFIG)
    (place / "net" / "config.py").write_text(CONFIG_BASE)
    return place


@pytest.fixture(scope="module")
def reference(folder):
    return Reference(folder / "ponds.h5")


def load(folder, arguments=None, **changes):
    return keras_mask_rcnn.load(files.package(folder, MEMBERS, **changes), "cpu", 1, arguments or {})


SETTINGS = {"mean": [12.5, 10, 8], "rois": 60, "confidence": 0.45}


def test_objects_and_masks(folder, reference):
    model = load(folder)
    batch = files.pixels((1, 3, SIDE, SIDE))
    for image, found in zip(batch, model.detect(batch, files.everywhere(batch))):
        boxes, numbers, scores, masks = reference.detect(image.transpose(1, 2, 0), SETTINGS)
        assert len(boxes) > 3
        rows = []
        for index, ((y1, x1, y2, x2), mask) in enumerate(zip(boxes, masks)):
            if y2 <= y1 or x2 <= x1:
                continue
            part = resize(mask, (y2 - y1, x2 - x1), order=1, mode="constant", anti_aliasing=False) >= 0.5
            if part.any():
                parts = connected(part, connectivity=1)
                rows.append((index, np.bincount(parts[parts > 0]).max()))
        keep = [index for index, _ in rows]
        assert len(found.boxes) == len(keep)
        np.testing.assert_allclose(found.scores, scores[keep], atol=1e-4)
        np.testing.assert_array_equal(found.labels, numbers[keep] - 1)
        np.testing.assert_allclose(found.boxes, boxes[keep][:, [1, 0, 3, 2]], atol=0.01)
        for ring, (_, area) in zip(found.rings, rows):
            areas = [abs(np.dot(r[:-1, 0], r[1:, 1]) - np.dot(r[1:, 0], r[:-1, 1])) / 2 for r in ring]
            assert abs(areas[0] - sum(areas[1:]) - area) <= 2
    strict = load(folder, {"score_threshold": "0.5"}).detect(batch, files.everywhere(batch))
    assert all((found.scores > 0.5).all() for found in strict)


def test_as_pixel_classifier(folder, reference):
    model = load(folder, ModelType="ImageClassification")
    assert model.values == (0, 1, 2)
    batch = files.pixels((1, 3, SIDE, SIDE))
    boxes, numbers, _, masks = reference.detect(batch[0].transpose(1, 2, 0), SETTINGS)
    wanted = np.zeros((SIDE, SIDE), int)
    for (y1, x1, y2, x2), number, mask in zip(boxes, numbers, masks):
        if y2 > y1 and x2 > x1:
            part = resize(mask, (y2 - y1, x2 - x1), order=1, mode="constant", anti_aliasing=False) >= 0.5
            wanted[y1:y2, x1:x2][part] = number
    found = model.scores(batch, files.everywhere(batch))[0].argmax(0)
    assert len(np.unique(wanted)) > 1
    assert (found == wanted).mean() >= 0.9999


def test_settings_are_read_and_never_run(folder):
    values = read_constants(CONFIG, "ponds.py", {"config": CONFIG_BASE}.get)
    config = MaskRcnnConfig.from_values(values)
    assert (config.backbone, config.num_classes, config.image_max_dim) == ("resnet50", 3, 64)
    assert config.mean_pixel == (12.5, 10.0, 8.0)
    assert (config.image_min_dim, config.detection_nms_threshold, config.pre_nms_limit) == (64, 0.3, 6000)
    with pytest.raises(ModelError, match="works out IMAGE_MAX_DIM with code"):
        read_constants("class C(Config):\n    IMAGE_MAX_DIM = ask()\nconfig = C()", "c.py", lambda _: None)
    with pytest.raises(ModelError, match="not valid Python"):
        read_constants("class C(:", "c.py", lambda _: None)
    with pytest.raises(ModelError, match="backbone 'vgg'"):
        MaskRcnnConfig.from_values({"BACKBONE": "vgg"})
    with pytest.raises(ModelError, match="POOL_SIZE"):
        MaskRcnnConfig.from_values({"POOL_SIZE": "seven"})


def test_wrong_class_counts_and_missing_layers(folder, reference, tmp_path):
    with pytest.raises(ModelError, match="2 kinds of objects apart, but the definition lists 1"):
        load(folder, Classes=files.classes(1))
    wrong = {**MEMBERS["ModelConfiguration"], "NUM_CLASSES": 5}
    with pytest.raises(ModelError, match="NUM_CLASSES of the model's configuration is 5"):
        load(folder, ModelConfiguration=wrong)
    wrong = {**MEMBERS["ModelConfiguration"], "BACKBONE": "resnet101"}
    with pytest.raises(ModelError, match=r"res4g_branch2a/kernel is missing.* and \d+ more"):
        load(folder, ModelConfiguration=wrong)
    data = (folder / "ponds.h5").read_bytes()
    (tmp_path / "ponds.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged, truncated"):
        load(tmp_path, ModelConfiguration={"Name": "MaskRCNN"})
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["a"] = np.zeros(1)
    with pytest.raises(ModelError, match="does not list its layers"):
        read_layers(tmp_path / "empty.h5")
