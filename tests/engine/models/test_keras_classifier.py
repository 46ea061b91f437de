"""Whole models saved by Keras 2 and Keras 3: our adapter against Keras itself on chips resized by scikit-image."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

pytest.importorskip("tensorflow")
import h5py
import keras
import tf_keras
from deep_raster.engine.errors import DefinitionError, ModelError, PackageError, TrustError
from deep_raster.engine.models import keras_classifier
from deep_raster.engine.models.keras_config import check_config
from deep_raster.engine.models.keras_files import open_hdf5
from skimage.transform import resize

from . import network_files as files

pytestmark = pytest.mark.tensorflow

MEMBERS = {
    "Framework": "Keras",
    "ModelConfiguration": {"Name": "KerasClassifier"},
    "ModelType": "ObjectClassification",
    "ModelFile": "net.h5",
    "ImageHeight": 100,
    "ImageWidth": 100,
    "ExtractBands": [0, 1, 2],
    "CropSizeFixed": 0,
    "BlackenAroundFeature": 1,
    "Classes": files.classes(4, 0),
}


def network(library, side=64, classes=4, last="softmax"):
    library.utils.set_random_seed(5)
    layers = library.layers
    given = layers.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(given)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.GlobalMaxPooling2D()(x)
    return library.Model(given, layers.Dense(classes, activation=last, kernel_initializer="he_normal")(x))


def published(batch, side):
    """The published resizing, with scikit-image: scale to fit, truncate to the chip's type, centre in zeros."""
    result = np.zeros((len(batch), side, side, batch.shape[1]), batch.dtype)
    for index, chip in enumerate(batch.transpose(0, 2, 3, 1)):
        h, w = chip.shape[:2]
        scale = max(1, side / min(h, w))
        if round(max(h, w) * scale) > side:
            scale = side / max(h, w)
        shape = (round(h * scale), round(w * scale))
        if scale != 1:
            chip = resize(chip, shape, order=1, mode="constant", preserve_range=True, anti_aliasing=False)
        top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
        result[index, top : top + shape[0], left : left + shape[1]] = chip.astype(batch.dtype)
    return result


def load(folder, arguments=None, **changes):
    return keras_classifier.load(files.package(folder, MEMBERS, **changes), "cpu", 1, arguments or {})


@pytest.mark.parametrize(("library", "name"), [(tf_keras, "net.h5"), (keras, "net.h5"), (keras, "net.keras")])
def test_any_number_of_classes_from_every_format(tmp_path, library, name):
    net = network(library)
    net.save(tmp_path / name)
    model = load(tmp_path, ModelFile=name)
    assert model.blacken
    assert not model.fixed_crop
    assert (model.plan.width, model.plan.height, model.plan.batch) == (100, 100, 4)
    for shape in ((3, 3, 100, 100), (2, 3, 40, 90), (2, 3, 64, 64), (1, 3, 20, 21)):
        batch = files.pixels(shape)
        wanted = np.asarray(net.predict(published(batch, 64).astype("float32"), verbose=0))
        np.testing.assert_allclose(model.probabilities(batch, files.everywhere(batch)), wanted, atol=1e-4)


def test_bright_chips_do_not_darken_at_their_edges(tmp_path):
    """scikit-image takes 0 outside of an image, but lets no value leave the image's range."""
    net = network(keras)
    net.save(tmp_path / "net.h5")
    batch = 120 + files.pixels((2, 3, 40, 50)) // 2
    model = load(tmp_path, {"resampled_image_size": "64"})
    wanted = np.asarray(net.predict(published(batch, 64).astype("float32"), verbose=0))
    np.testing.assert_allclose(model.probabilities(batch, files.everywhere(batch)), wanted, atol=1e-4)


def test_16_bit_chips_keep_their_values_and_holes_are_zero(tmp_path):
    net = network(keras)
    net.save(tmp_path / "net.h5")
    model = load(tmp_path)
    batch, valid = files.pixels((1, 3, 70, 80), "uint16"), np.ones((1, 70, 80), bool)
    valid[:, :20] = False
    blackened = batch.copy()
    blackened[:, :, :20] = 0
    wanted = np.asarray(net.predict(published(blackened, 64).astype("float32"), verbose=0))
    np.testing.assert_allclose(model.probabilities(batch, valid), wanted, atol=1e-4)


def test_a_model_of_one_output_tells_two_classes_apart(tmp_path):
    net = network(keras, None, 1, "sigmoid")
    net.save(tmp_path / "net.keras")
    model = load(tmp_path, {"resampled_image_size": "32"}, ModelFile="net.keras", Classes=files.classes(2), BatchSize=7)
    assert model.plan.batch == 7
    batch = files.pixels((2, 3, 32, 32))
    wanted = np.asarray(net.predict(batch.transpose(0, 2, 3, 1).astype("float32"), verbose=0))
    found = model.probabilities(batch, files.everywhere(batch))
    np.testing.assert_allclose(found, np.hstack([1 - wanted, wanted]), atol=1e-4)


def test_contradictions_give_sentences(tmp_path):
    network(keras).save(tmp_path / "net.h5")
    with pytest.raises(ModelError, match="tells 4 classes apart, but the definition lists 3"):
        load(tmp_path, Classes=files.classes(3))
    with pytest.raises(DefinitionError, match="64 pixels only, but resampled_image_size is 96"):
        load(tmp_path, {"resampled_image_size": "96"})
    batch = files.pixels((1, 4, 64, 64))
    with pytest.raises(ModelError, match="takes 3 bands, but it is given 4"):
        load(tmp_path).probabilities(batch, files.everywhere(batch))


def test_broken_files_give_sentences(tmp_path):
    net = network(keras)
    for name in ("net.h5", "net.keras"):
        net.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(ModelError, match="damaged, truncated"):
            load(tmp_path, ModelFile=name)
        (tmp_path / name).write_bytes(b"PK nothing" if name.endswith("keras") else b"nothing at all")
        with pytest.raises(ModelError, match="damaged, truncated"):
            load(tmp_path, ModelFile=name)
    tf_keras_net = network(tf_keras)
    tf_keras_net.save_weights(tmp_path / "net.h5")
    with pytest.raises(ModelError, match="weights only"):
        load(tmp_path)


@pytest.mark.parametrize(("library", "name"), [(tf_keras, "net.h5"), (keras, "net.h5"), (keras, "net.keras")])
def test_lambda_layers_are_refused_before_keras_sees_them(tmp_path, library, name):
    given = library.layers.Input((64, 64, 3))
    x = library.layers.Lambda(lambda t: t * 2)(given)
    x = library.layers.Dense(4)(library.layers.GlobalAveragePooling2D()(x))
    library.Model(given, x).save(tmp_path / name)
    with pytest.raises(TrustError, match="Lambda"):
        load(tmp_path, ModelFile=name)


@pytest.mark.parametrize(
    "part",
    [
        {"class_name": "TFSMLayer", "config": {"filepath": "x"}, "module": "keras.layers"},
        {"class_name": "function", "config": "system", "module": "os"},
        {"class_name": "function", "config": "get_file", "module": "keras.utils"},
        {"class_name": "Dense", "config": {}, "module": "evil.module"},
        {"class_name": "Dense", "config": {}, "module": "keras.layers", "registered_name": "evil>Dense"},
        {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}, "module": "keras.layers"},
        {"class_name": "Conv2D", "config": {"activation": "os.system"}},
        {"class_name": ["Dense"], "config": {}},
    ],
)
def test_configurations_that_reach_outside_are_refused(part):
    with pytest.raises(TrustError):
        check_config({"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}, part]}}, "x.keras")


def test_archives_with_strange_members_are_refused(tmp_path):
    network(keras).save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras", "a") as archive:
        archive.writestr("../evil.py", "x")
    with pytest.raises(PackageError, match=r"evil\.py"):
        load(tmp_path, ModelFile="net.keras")


def test_weights_that_point_to_other_files_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 64)
    links = {"external": h5py.ExternalLink("other.h5", "/a"), "soft": h5py.SoftLink("/b")}
    for name, link in links.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["b"] = np.zeros(3)
            file["a"] = link
        with pytest.raises(PackageError, match="holds a link"):
            open_hdf5(tmp_path / f"{name}.h5", name)
    with h5py.File(tmp_path / "storage.h5", "w") as file:
        file.create_dataset("a", (64,), "u1", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(PackageError, match="in another file"):
        open_hdf5(tmp_path / "storage.h5", "storage")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "soft.h5"), "b", (3,))
        file.create_virtual_dataset("a", layout)
    with pytest.raises(PackageError, match="in another file"):
        open_hdf5(tmp_path / "virtual.h5", "virtual")


def test_a_harmless_configuration_of_every_kind_passes():
    for library in (keras, tf_keras):
        given = library.layers.Input((32, 32, 3))
        x = library.layers.SeparableConv2D(4, 3, activation=library.activations.swish)(given)
        x = library.layers.Add()([x, x])
        inner = library.Sequential([library.layers.Flatten(), library.layers.Dense(3, kernel_regularizer="l2")])
        check_config(json.loads(library.Model(given, inner(x)).to_json()), "x")
