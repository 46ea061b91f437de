"""SavedModels and Mask R-CNN through the engine on a georeferenced raster, against TensorFlow and Keras themselves.

Frozen graphs and the Keras classifier go through it in every run of the tests (``engine/models/test_through_engine``).
The last test has jobs of all families follow one another in one warm engine.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torchvision")  # before TensorFlow, which would end the process otherwise
pytest.importorskip("tensorflow")
from ..engine.models.conftest import _alone, _no_engine_is_left, cache  # noqa: F401 - found here by pytest

# isort: split
import shapely
import tensorflow as tf
from deep_raster.engine import jobs
from skimage.transform import resize

from ..engine.models import engine_support as engine
from ..engine.models import test_keras_mask_rcnn as ponds
from ..engine.models import test_tensorflow as graphs
from ..engine.models import test_through_engine as cases

folder, reference = ponds.folder, ponds.reference


def test_objects_of_a_saved_model_of_tensorflow_2(tmp_path):
    inputs, pixels = cases.scene(tmp_path, 48, 64)
    module = graphs.Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    package = cases.write_package(tmp_path, graphs.DETECTOR, ModelFile="saved")
    output = str(tmp_path / "out.gpkg")
    asked = engine.options(score_threshold="0.6", padding="0")
    engine.run(jobs.DetectObjects(inputs, package, output, asked, run_nms=False))
    answer = {key: value.numpy()[0] for key, value in module(tf.constant(pixels.transpose(1, 2, 0)[None])).items()}
    keep = answer["detection_scores"] > 0.6
    boxes = answer["detection_boxes"][keep][:, [1, 0, 3, 2]] * [64, 48, 64, 48]
    labels = answer["detection_classes"][keep].astype(int) - 1
    engine.same_objects(output, boxes, answer["detection_scores"][keep], labels, size=(64, 48))


def test_classes_of_a_saved_model(tmp_path):
    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
        def __call__(self, image):
            return graphs.deeplab(image)

    inputs, pixels = cases.scene(tmp_path, 48, 64)
    net = Net()
    tf.saved_model.save(net, str(tmp_path / "saved"), signatures=net.__call__)
    package = cases.write_package(tmp_path, graphs.DEEPLAB, ModelFile="saved")
    engine.run(jobs.ClassifyPixels(inputs, package, str(tmp_path / "out.tif"), engine.options(padding="0")))
    wanted = net(tf.constant(pixels.transpose(1, 2, 0)[None]))["SemanticPredictions"].numpy()[0]
    assert len(np.unique(wanted)) > 2
    assert (engine.read_classes(tmp_path / "out.tif") == wanted).mean() >= 0.9999


def pond_masks(reference, pixels):
    """Boxes, class numbers, scores and whole masks by the reference; empty ones left out."""
    side, found = ponds.SIDE, []
    for (y1, x1, y2, x2), number, score, mask in zip(*reference.detect(pixels.transpose(1, 2, 0), ponds.SETTINGS)):
        if y2 <= y1 or x2 <= x1:
            continue
        whole = np.zeros((side, side), bool)
        part = resize(mask, (y2 - y1, x2 - x1), order=1, mode="constant", anti_aliasing=False) >= 0.5
        whole[y1:y2, x1:x2] = part
        if part.any():
            found.append((number, score, whole))
    return found


def test_mask_rcnn_objects_and_classes(folder, reference, tmp_path):
    inputs, pixels = cases.scene(tmp_path, ponds.SIDE, ponds.SIDE)
    wanted = pond_masks(reference, pixels)
    assert len(wanted) > 3
    package, output = cases.write_package(folder, ponds.MEMBERS), str(tmp_path / "out.gpkg")
    asked = engine.options(score_threshold="0.1", padding="0")
    engine.run(jobs.DetectObjects(inputs, package, output, asked, run_nms=False))
    shapes, fields = engine.read_layer(output)
    order = np.argsort(-fields["Confidence"], kind="stable")
    np.testing.assert_allclose(fields["Confidence"][order], [score for _, score, _ in wanted], atol=1e-4)
    assert list(fields["Class"][order]) == [f"kind {number}" for number, _, _ in wanted]
    for box, (_, _, mask) in zip(shapely.bounds(engine.to_pixels(shapes[order])), wanted):
        parts = ponds.connected(mask, connectivity=1)
        rows, columns = np.nonzero(parts == np.bincount(parts[parts > 0]).argmax())
        np.testing.assert_allclose(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=1)
    package = cases.write_package(folder, ponds.MEMBERS, ModelType="ImageClassification")
    engine.run(jobs.ClassifyPixels(inputs, package, str(tmp_path / "out.tif"), engine.options(padding="0")))
    classes = np.zeros((ponds.SIDE, ponds.SIDE), int)
    for number, _, mask in wanted:
        classes[mask] = number
    assert (engine.read_classes(tmp_path / "out.tif") == classes).mean() >= 0.9999


def test_jobs_of_all_families_follow_one_another_in_one_engine(tmp_path):
    """torchvision cannot be imported after TensorFlow, so each family has workers of its own."""
    jobs_of_all = (
        cases.test_onnx_objects,
        cases.test_keras_classes_of_features,
        cases.test_scripted_torchvision_objects_after_tensorflow_in_the_same_engine,
        cases.test_tensorflow_objects,
        cases.test_torchscript_only_with_the_packages_hash,
        cases.test_deeplab_pixels,
        cases.test_onnx_pixels_in_many_tiles,
    )
    for number, case in enumerate((*jobs_of_all, *reversed(jobs_of_all))):
        place = tmp_path / str(number)
        place.mkdir()
        case(place)
