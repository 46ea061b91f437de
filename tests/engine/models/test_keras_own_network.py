"""A Keras package's own network, written for Keras 2 and TensorFlow 1: refused, then run in a confined worker."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")
import shapely
import tf_keras
from deep_raster.engine import jobs
from deep_raster.engine.errors import ModelError, TrustError
from deep_raster.engine.models import keras_mask_rcnn
from deep_raster.engine.package.dlpk import open_package

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

from . import engine_support as engine  # noqa: E402
from . import network_files as files  # noqa: E402

CONFIG = """
class Settings(object):
    SIDE = max(64, 8)  # cannot be known without running it
    IMAGE_MAX_DIM = SIDE
config = Settings()
"""
NETWORK = """
import os, sys
import numpy as np
import tensorflow as tf
import keras.backend as K
import keras.engine as KE
import keras.layers as KL
import keras.models as KM
sys.path.append(os.path.dirname(__file__))
from settings import config


class Chance(KE.Layer):
    def call(self, logits):
        return tf.exp(-tf.log(1.0 + tf.exp(-logits)))

    def compute_output_shape(self, shape):
        return (None, config.SIDE, config.SIDE, 1)


class Network(object):
    def __init__(self):
        image = KL.Input(shape=[None, None, 3])
        x = Chance(name='chance')(KL.Conv2D(1, 1, name='bright')(image))
        assert K.int_shape(x) == (None, config.SIDE, config.SIDE, 1), K.int_shape(x)
        self.keras_model = KM.Model(image, x)
        self.graph = tf.get_default_graph()
        os.makedirs('logs')

    def load_weights(self, path, by_name=False):
        import h5py
        from keras.engine import saving
        assert by_name
        with h5py.File(path, mode='r') as file:
            saving.load_weights_from_hdf5_group_by_name(file, self.keras_model.layers)

    def detect(self, images, verbose=0):
        print('looking at', images[0].shape)
        assert len(images) == 1
        with self.graph.as_default():
            chance = self.keras_model.predict(np.stack(images).astype('float32'))[0, :, :, 0]
        mask = chance > 0.5
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            empty = np.zeros(0)
            return [dict(rois=np.zeros((0, 4)), class_ids=empty, scores=empty, masks=np.zeros(mask.shape + (0,)))]
        roi = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        score = chance[mask].mean()
        return [dict(rois=np.array([roi]), class_ids=np.array([2]), scores=np.array([score]), masks=mask[:, :, None])]


model = Network()
"""
MEMBERS = {
    "Framework": "Keras",
    "ModelConfiguration": {"Name": "MaskRCNN", "Architecture": ".\\net\\ponds", "Config": ".\\net\\settings"},
    "ModelType": "ObjectDetection",
    "ModelFile": ".\\ponds.h5",
    "ImageHeight": 64,
    "ImageWidth": 64,
    "ExtractBands": [0, 1, 2],
    "Classes": files.classes(2),
}
LEVEL = 200  # of the first band; brighter pixels are the object


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "package"
    (place / "net").mkdir(parents=True)
    (place / "net" / "ponds.py").write_text(NETWORK)
    (place / "net" / "settings.py").write_text(CONFIG)
    (place / "model.emd").write_text(json.dumps(MEMBERS))
    net = tf_keras.Sequential([tf_keras.layers.Input((64, 64, 3)), tf_keras.layers.Conv2D(1, 1, name="bright")])
    kernel = np.zeros((1, 1, 3, 1), np.float32)
    kernel[0, 0, 0, 0] = 0.1
    net.layers[-1].set_weights([kernel, np.array([-0.1 * LEVEL], np.float32)])
    net.save_weights(place / "ponds.h5")
    return place


def test_nothing_of_the_package_runs_without_consent(folder, tmp_path):
    package = open_package(folder / "model.emd")
    assert package.code == ("net/ponds.py", "net/settings.py")
    assert not package.has_code
    with pytest.raises(ModelError, match="works out IMAGE_MAX_DIM with code") as caught:
        keras_mask_rcnn.load(package, "cpu", 1, {})
    assert f"own_code=True and TRUST={package.digest}" in str(caught.value)
    with pytest.raises(TrustError, match=r"wants to run its own Python code \(net/ponds\.py, net/settings\.py\)"):
        keras_mask_rcnn.load(package, "cpu", 1, {"own_code": "True"})


def test_with_consent_it_runs_where_our_network_does_not_fit(folder, tmp_path):
    pixels = files.pixels((3, 64, 64)) // 2
    pixels[0, 20:33, 7:52] = 230
    source, output, told = engine.write_raster(tmp_path / "scene.tif", pixels), str(tmp_path / "out.gpkg"), []
    trust = (open_package(folder / "model.emd").digest,)
    asked = engine.options(trust, score_threshold=0.1, padding=0)
    engine.run(jobs.DetectObjects((source,), str(folder / "model.emd"), output, asked), told)
    (found,), fields = engine.read_layer(output)
    assert engine.to_pixels(found).equals(shapely.box(7, 20, 52, 33))
    assert list(fields["Class"]) == ["kind 2"]
    np.testing.assert_allclose(fields["Confidence"], 1 / (1 + np.exp(-0.1 * (230 - LEVEL))), atol=1e-4)
    texts = [getattr(event, "text", "") for event in told]
    assert any("The package's own network runs instead" in text for text in texts)
    assert "looking at (64, 64, 3)" in texts
