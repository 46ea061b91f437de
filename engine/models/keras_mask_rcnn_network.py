"""Mask R-CNN with a ResNet and a feature pyramid, in the layers and under the names of matterport/Mask_RCNN (MIT).

Written anew for Keras 3 and TensorFlow 2: three plain Keras models (pyramid with region proposals, classifier head,
mask head) and, between them, the steps that choose boxes. Boxes are (ymin, xmin, ymax, xmax) in fractions of the
network's image, where 1 is the last pixel, as the published weights were trained.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .keras_files import Layers
from .keras_mask_rcnn_config import MaskRcnnConfig

_BLOCKS = {"resnet50": 5, "resnet101": 22}
_VARIABLES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
Floats = npt.NDArray[np.float32]


class MaskRcnnNetwork:
    """The network with its weights."""

    def __init__(self, config: MaskRcnnConfig, layers: Layers, file: str) -> None:
        """Build the network and load its weights by the names of the layers.

        Args:
            config: its settings.
            layers: arrays by layer and variable name.
            file: where the arrays come from, for messages.

        Raises:
            ModelError: layers are missing, or arrays have other shapes than the settings ask for.
        """
        self.config = config
        self.classes = count_classes(layers, file)
        width, wide = _size(layers, "fpn_c5p5", -1, file), _size(layers, "mrcnn_class_conv1", -1, file)
        pyramid = _pyramid(config, width)
        heads = (_classifier(config, self.classes, width, wide), _masks(config, self.classes, width))
        _load([pyramid, *heads], layers, file)
        self._pyramid, (self._classifier, self._masks) = pyramid, heads
        self._anchors: dict[tuple[int, int], Any] = {}

    def detect(self, image: Floats, window: Floats) -> tuple[Floats, npt.NDArray[np.int64], Floats, Floats]:
        """Find the objects of one image.

        Args:
            image: (rows, columns, bands), mean already subtracted.
            window: the part of it that is not padding, as a box in fractions.

        Returns:
            boxes (n, 4), class numbers (n,) from 1, scores (n,), masks (n, rows, columns) of probabilities in the box.
        """
        import tensorflow as tf

        size = (image.shape[0], image.shape[1])
        p2, p3, p4, p5, scores, deltas = self._pyramid(image[np.newaxis], training=False)
        maps = (p2, p3, p4, p5)
        rois = self._propose(scores[0, :, 1], deltas[0], size)
        pooled = align(maps, rois, self.config.pool_size, size)
        chances, refinements = self._classifier(pooled, training=False)
        boxes, numbers, best = self._choose(rois, chances, refinements, tf.constant(window, tf.float32))
        if not len(numbers):
            side = 2 * self.config.mask_pool_size
            return np.zeros((0, 4), np.float32), numbers, best, np.zeros((0, side, side), np.float32)
        masks = self._masks(align(maps, boxes, self.config.mask_pool_size, size), training=False)
        chosen = np.asarray(masks)[np.arange(len(numbers)), :, :, numbers]
        return np.asarray(boxes), numbers, best, chosen

    def _propose(self, scores: Any, deltas: Any, size: tuple[int, int]) -> Any:
        """Return the regions worth a look: the best anchors, moved, clipped and without near-duplicates."""
        import tensorflow as tf

        anchors = self._anchors_for(size)
        if len(anchors) != scores.shape[0]:
            raise ModelError(
                f"The network looks at {scores.shape[0]} anchors, but its configuration makes {len(anchors)}.",
                stage="predicting",
                hint="Check RPN_ANCHOR_SCALES, RPN_ANCHOR_RATIOS and BACKBONE_STRIDES of the model's configuration.",
            )
        count = min(self.config.pre_nms_limit, len(anchors))
        best, places = tf.math.top_k(scores, count)
        moved = _move(tf.gather(anchors, places), tf.gather(deltas, places) * self.config.rpn_bbox_std_dev)
        boxes = tf.clip_by_value(moved, 0.0, 1.0)
        limit = self.config.post_nms_rois_inference
        return tf.gather(boxes, tf.image.non_max_suppression(boxes, best, limit, self.config.rpn_nms_threshold))

    def _choose(
        self, rois: Any, chances: Any, refinements: Any, window: Any
    ) -> tuple[Any, npt.NDArray[np.int64], Floats]:
        """Return the final boxes: the best class of each region, moved, confident, and the best of those alike."""
        import tensorflow as tf

        numbers = tf.argmax(chances, axis=1)
        best = tf.reduce_max(chances, axis=1)
        deltas = tf.gather(refinements, numbers, batch_dims=1)
        boxes = _move(rois, deltas * self.config.bbox_std_dev)
        low, high = tf.concat([window[:2]] * 2, 0), tf.concat([window[2:]] * 2, 0)
        boxes = tf.maximum(tf.minimum(boxes, high), low)
        confident = tf.logical_and(numbers > 0, best >= self.config.detection_min_confidence)
        kept: list[npt.NDArray[np.int64]] = []
        most = self.config.detection_max_instances
        for number in np.unique(np.asarray(numbers)[np.asarray(confident)]):
            places = tf.where(tf.logical_and(confident, numbers == number))[:, 0]
            chosen = tf.image.non_max_suppression(
                tf.gather(boxes, places), tf.gather(best, places), most, self.config.detection_nms_threshold
            )
            kept.append(np.asarray(tf.gather(places, chosen)))
        if not kept:
            return boxes[:0], np.zeros(0, np.int64), np.zeros(0, np.float32)
        together = np.sort(np.concatenate(kept))
        order = np.argsort(-np.asarray(best)[together], kind="stable")[:most]
        final = together[order]
        return tf.gather(boxes, final), np.asarray(numbers)[final], np.asarray(best)[final]

    def _anchors_for(self, size: tuple[int, int]) -> Any:
        if size not in self._anchors:
            self._anchors = {size: make_anchors(self.config, size)}
        return self._anchors[size]


def make_anchors(config: MaskRcnnConfig, size: tuple[int, int]) -> Floats:
    """Return the anchors of all levels as (n, 4) boxes in fractions, in the order of the network's outputs."""
    levels = []
    for scale, stride in zip(config.rpn_anchor_scales, config.backbone_strides):
        rows, columns = (-(-side // stride) for side in size)
        ratios = np.sqrt(np.asarray(config.rpn_anchor_ratios, np.float64))
        heights, widths = scale / ratios, scale * ratios
        y = np.arange(0, rows, config.rpn_anchor_stride) * stride
        x = np.arange(0, columns, config.rpn_anchor_stride) * stride
        y, x = y[:, np.newaxis, np.newaxis], x[np.newaxis, :, np.newaxis]
        corners = (y - heights / 2, x - widths / 2, y + heights / 2, x + widths / 2)
        levels.append(np.stack(np.broadcast_arrays(*corners), axis=-1).reshape(-1, 4))
    return to_fractions(np.concatenate(levels), size)


def to_fractions(boxes: npt.NDArray[np.generic], size: tuple[int, int]) -> Floats:
    """Return pixel boxes (ymin, xmin, ymax, xmax; the maxima lie outside) as fractions, where 1 is the last pixel."""
    scale = np.array([size[0] - 1, size[1] - 1] * 2, np.float64)
    return np.asarray((boxes - np.array([0, 0, 1, 1])) / scale, dtype=np.float32)


def _move(boxes: Any, deltas: Any) -> Any:
    """Return boxes shifted and stretched by the network's four numbers."""
    import tensorflow as tf

    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sizes + deltas[:, :2] * sizes
    sizes = sizes * tf.exp(deltas[:, 2:])
    low = centres - 0.5 * sizes
    return tf.concat([low, low + sizes], axis=1)


def align(maps: Sequence[Any], boxes: Any, side: int, size: tuple[int, int]) -> Any:
    """Return (n, side, side, channels): what the pyramid level that suits each box's area shows of it."""
    import tensorflow as tf

    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    usual = 224.0 / float(np.sqrt(np.float32(size[0] * size[1])))
    levels = tf.math.log(tf.sqrt(areas) / usual) / tf.math.log(2.0)
    # A box without area has no level; TensorFlow's cast would leave the choice to the machine.
    levels = tf.where(areas > 0, tf.round(levels), -9.0)
    levels = tf.clip_by_value(4 + tf.cast(levels, tf.int32), 2, 5)
    places, pooled = [], []
    for number, features in enumerate(maps, start=2):
        place = tf.cast(tf.where(levels == number)[:, 0], tf.int32)
        places.append(place)
        owner = tf.zeros_like(place)
        pooled.append(tf.image.crop_and_resize(features, tf.gather(boxes, place), owner, (side, side)))
    return tf.dynamic_stitch(places, pooled)


def _pyramid(config: MaskRcnnConfig, width: int) -> Any:
    import keras
    from keras import layers as kl

    image = keras.Input((None, None, config.image_channel_count))
    c2, c3, c4, c5 = _resnet(image, _BLOCKS[config.backbone])
    level = kl.Conv2D(width, 1, name="fpn_c5p5")(c5)
    raw = [level]
    for number, features in ((4, c4), (3, c3), (2, c2)):
        side = kl.Conv2D(width, 1, name=f"fpn_c{number}p{number}")(features)
        level = kl.Add()([kl.UpSampling2D(2)(level), side])
        raw.insert(0, level)
    maps = [kl.Conv2D(width, 3, padding="same", name=f"fpn_p{number}")(x) for number, x in enumerate(raw, start=2)]
    top = kl.MaxPooling2D(1, strides=2)(maps[-1])
    count = len(config.rpn_anchor_ratios)
    shared = kl.Conv2D(
        512, 3, padding="same", activation="relu", strides=config.rpn_anchor_stride, name="rpn_conv_shared"
    )
    chance, move = kl.Conv2D(2 * count, 1, name="rpn_class_raw"), kl.Conv2D(4 * count, 1, name="rpn_bbox_pred")
    seen = [shared(features) for features in (*maps, top)]
    logits = kl.Concatenate(axis=1)([kl.Reshape((-1, 2))(chance(features)) for features in seen])
    deltas = kl.Concatenate(axis=1)([kl.Reshape((-1, 4))(move(features)) for features in seen])
    return keras.Model(image, [*maps, kl.Softmax()(logits), deltas])


def _resnet(image: Any, blocks: int) -> list[Any]:
    from keras import layers as kl

    x = kl.ZeroPadding2D(3)(image)
    x = kl.Conv2D(64, 7, strides=2, name="conv1")(x)
    x = kl.ReLU()(kl.BatchNormalization(name="bn_conv1")(x))
    x = kl.MaxPooling2D(3, strides=2, padding="same")(x)
    stages = []
    for stage, (filters, count) in enumerate(((64, 2), (128, 3), (256, blocks), (512, 2)), start=2):
        for block in range(count + 1):
            stride = 2 if block == 0 and stage > 2 else 1
            x = _block(x, filters, f"{stage}{chr(97 + block)}", stride, shortcut=block == 0)
        stages.append(x)
    return stages


def _block(x: Any, filters: int, name: str, stride: int, shortcut: bool) -> Any:
    from keras import layers as kl

    def step(values: Any, branch: str, wide: int, side: int, strides: int) -> Any:
        values = kl.Conv2D(wide, side, strides=strides, padding="same", name=f"res{name}_branch{branch}")(values)
        return kl.BatchNormalization(name=f"bn{name}_branch{branch}")(values)

    inner = kl.ReLU()(step(x, "2a", filters, 1, stride))
    inner = kl.ReLU()(step(inner, "2b", filters, 3, 1))
    inner = step(inner, "2c", 4 * filters, 1, 1)
    outer = step(x, "1", 4 * filters, 1, stride) if shortcut else x
    return kl.ReLU()(kl.Add()([inner, outer]))


def _classifier(config: MaskRcnnConfig, classes: int, width: int, wide: int) -> Any:
    import keras
    from keras import layers as kl

    given = keras.Input((config.pool_size, config.pool_size, width))
    x = kl.Conv2D(wide, config.pool_size, name="mrcnn_class_conv1")(given)
    x = kl.ReLU()(kl.BatchNormalization(name="mrcnn_class_bn1")(x))
    x = kl.Conv2D(wide, 1, name="mrcnn_class_conv2")(x)
    x = kl.Flatten()(kl.ReLU()(kl.BatchNormalization(name="mrcnn_class_bn2")(x)))
    chances = kl.Dense(classes, activation="softmax", name="mrcnn_class_logits")(x)
    return keras.Model(given, [chances, kl.Reshape((classes, 4))(kl.Dense(classes * 4, name="mrcnn_bbox_fc")(x))])


def _masks(config: MaskRcnnConfig, classes: int, width: int) -> Any:
    import keras
    from keras import layers as kl

    given = x = keras.Input((config.mask_pool_size, config.mask_pool_size, width))
    for number in range(1, 5):
        x = kl.Conv2D(256, 3, padding="same", name=f"mrcnn_mask_conv{number}")(x)
        x = kl.ReLU()(kl.BatchNormalization(name=f"mrcnn_mask_bn{number}")(x))
    x = kl.Conv2DTranspose(256, 2, strides=2, activation="relu", name="mrcnn_mask_deconv")(x)
    return keras.Model(given, kl.Conv2D(classes, 1, activation="sigmoid", name="mrcnn_mask")(x))


def count_classes(layers: Layers, file: str) -> int:
    """Return the number of classes that weights are for, the background included.

    Raises:
        ModelError: the layer that tells it is missing.
    """
    return _size(layers, "mrcnn_class_logits", -1, file)


def _size(layers: Layers, layer: str, axis: int, file: str) -> int:
    kernel = layers.get(layer, {}).get("kernel")
    if kernel is None:
        raise _unfit([f"{layer}/kernel is missing"], file)
    return int(kernel.shape[axis])


def _load(models: Sequence[Any], layers: Mapping[str, Mapping[str, npt.NDArray[np.generic]]], file: str) -> None:
    problems: list[str] = []
    for layer in (layer for model in models for layer in model.layers if layer.weights):
        given = layers.get(layer.name, {})
        values = []
        for variable in layer.weights:
            name = variable.name.rpartition("/")[2]
            array = given.get(name)
            if array is None or name not in _VARIABLES:
                problems.append(f"{layer.name}/{name} is missing")
            elif array.shape != tuple(variable.shape):
                shapes = " x ".join(map(str, array.shape)), " x ".join(map(str, variable.shape))
                problems.append(f"{layer.name}/{name} is {shapes[0]} instead of {shapes[1]}")
            else:
                values.append(array)
        if len(values) == len(layer.weights):
            layer.set_weights(values)
    if problems:
        raise _unfit(problems, file)


def _unfit(problems: Sequence[str], file: str) -> ModelError:
    more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
    return ModelError(
        f"The weights do not fit a Mask R-CNN with these settings: {'; '.join(problems[:4])}{more}.",
        stage="loading the model",
        file=file,
        hint="Check BACKBONE and the other settings of the model's configuration, and that the file is complete.",
    )
