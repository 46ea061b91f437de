"""The host against functions written as published ones are, unmodified, and against hand-computed answers."""

from __future__ import annotations

import numpy as np
import pytest
from deep_raster.engine.errors import ModelError
from deep_raster.engine.models.base import Detector, ObjectClassifier, PixelClassifier
from deep_raster.engine.raster_function import adapter, feature_set
from deep_raster.engine.raster_function.stand_ins import prf_utils

from .conftest import CLASSIFIER, DETECTOR, OBJECT_CLASSIFIER


def load(package, **arguments):
    return adapter.load(package, "cpu", 1, arguments)


def scene(bands=1, rows=16, columns=24, value=250, right=11):
    pixels = np.zeros((1, bands, rows, columns), dtype=np.uint8)
    pixels[:, :, 6:9, 5:right] = value
    return pixels, np.ones((1, rows, columns), dtype=bool)


def test_detector_of_published_shape(package):
    model = load(package(DETECTOR))
    assert isinstance(model, Detector)
    # ImageHeight 16, padding 4: inner 8, a super tile of 1 x 2 chips, delivered with its padding.
    assert (model.plan.width, model.plan.height, model.plan.halo, model.plan.fixed) == (24, 16, 4, True)
    pixels, valid = scene(right=14)
    found = model.detect(pixels, valid)[0]
    # The blob at columns 5..13 lies in both chips (0..15 and 8..23); each reports what it sees.
    assert found.boxes.tolist() == [[5, 6, 14, 9], [8, 6, 14, 9]]
    assert found.scores.tolist() == [90, 90]
    assert found.labels.tolist() == [0, 0]
    assert found.attributes[0] == {"Class": "dark", "Confidence": 90.0, "Size": 7}
    assert found.rings[0][0].tolist() == [[5, 6], [14, 6], [14, 9], [5, 9]]
    assert [one["name"] for one in model.fields] == ["Class", "Confidence", "Size"]
    assert model.geometry_type == 4
    assert [event.text for event in model.take_messages()] == ["ready on CPU"]
    assert model.take_messages() == []


def test_masked_pixels_reach_the_function_as_masked(package):
    model = load(package(DETECTOR))
    pixels, valid = scene()
    valid[0, 6:9, 5:11] = False
    assert len(model.detect(pixels, valid)[0].boxes) == 0
    assert pixels.max() == 250  # the function wrote into a copy


def test_arguments_arrive_as_text_with_defaults(package):
    made = package(DETECTOR)
    model = load(made, padding="2", upper="True", threshold="0.1")
    assert (model.plan.width, model.plan.halo) == (2 * 12 + 4, 2)
    pixels, valid = scene(rows=16, columns=28, value=40)
    found = model.detect(pixels, valid)[0]
    assert found.attributes[0]["Class"] == "DARK"
    assert found.labels.tolist() == [-1] * len(found.labels)


def test_declared_parameters_are_typed(package):
    by_name = {one.name: one for one in load(package(DETECTOR)).parameters}
    assert list(by_name) == ["padding", "threshold", "mode", "upper"]
    assert (by_name["padding"].kind, by_name["padding"].default) == ("int", "4")
    assert (by_name["threshold"].minimum, by_name["threshold"].maximum) == (0.0, 1.0)
    assert by_name["mode"].choices == ("all", "first")
    assert (by_name["upper"].kind, by_name["upper"].default) == ("bool", "False")


def test_pixel_classifier_on_the_template_base(package):
    made = package(CLASSIFIER, "PixelFunction.py", {"ModelType": "ImageClassification"})
    model = load(made)
    assert isinstance(model, PixelClassifier)
    assert model.values == (0, 1, 2)
    assert [(one.value, one.name, one.color) for one in model.classes] == [
        (1, "dark", (10, 20, 30)),
        (2, "bright", (200, 210, 220)),
    ]
    # Batch 4 is 2 x 2 chips of inner 12.
    assert (model.plan.width, model.plan.height, model.plan.halo) == (28, 28, 2)
    chance = np.random.default_rng(3)
    pixels = chance.integers(0, 255, (1, 1, 28, 28), dtype=np.uint8)
    valid = np.ones((1, 28, 28), dtype=bool)
    valid[0, 10:14, 10:14] = False
    scores = model.scores(pixels, valid)
    inner = (slice(2, 26), slice(2, 26))
    expected = np.where(valid[0] & (pixels[0, 0] > 128), 2, 1)[inner]
    assert (np.array(model.values)[scores[0].argmax(axis=0)][inner] == expected).all()


@pytest.mark.parametrize(("chosen", "delivered"), [("raster", True), ("", False)])
def test_a_function_gets_the_rasters_it_selects(package, chosen, delivered):
    selecting = CLASSIFIER.replace(
        "        def updatePixels(self, tlc, shape, props, **pixelBlocks):\n",
        f"        def selectRasters(self, tlc, shape, props):\n            return ({chosen!r},)\n\n"
        "        def updatePixels(self, tlc, shape, props, **pixelBlocks):\n"
        "            if 'raster_pixels' not in pixelBlocks:\n"
        "                assert 'raster_mask' not in pixelBlocks\n"
        "                return {'output_pixels': np.full(shape, 2, props['pixelType'])}\n",
    )
    model = load(package(selecting, "PixelFunction.py", {"ModelType": "ImageClassification"}))
    scores = model.scores(np.zeros((1, 1, 28, 28), dtype=np.uint8), np.ones((1, 28, 28), dtype=bool))
    classes = np.array(model.values)[scores[0].argmax(axis=0)][2:26, 2:26]
    assert set(np.unique(classes)) == ({1} if delivered else {2})


def test_data_range_is_carried_out(package):
    made = package(CLASSIFIER, "PixelFunction.py", {"ModelType": "ImageClassification", "DataRange": [0, 256]})
    model = load(made)
    pixels = np.full((1, 1, 28, 28), 40_000, dtype=np.uint16)
    pixels[:, :, :, :14] = 30_000
    scores = model.scores(pixels, np.ones((1, 28, 28), dtype=bool))
    classes = np.array(model.values)[scores[0].argmax(axis=0)]
    assert set(classes[2:26, 2:14].ravel()) == {1}  # 30000 / 65535 * 256 = 117 < 128
    assert set(classes[2:26, 14:26].ravel()) == {2}  # 156


def test_object_classifier_uses_the_first_answers_of_a_batch(package):
    members = {"ModelType": "ObjectClassification", "CropSizeFixed": 1, "BlackenAroundFeature": 0}
    model = load(package(OBJECT_CLASSIFIER, "Chips.py", members))
    assert isinstance(model, ObjectClassifier)
    assert (model.plan.batch, model.fixed_crop, model.blacken) == (4, True, False)
    pixels = np.zeros((2, 1, 16, 16), dtype=np.uint8)
    pixels[1] = 200
    valid = np.ones((2, 16, 16), dtype=bool)
    assert model.probabilities(pixels, valid).tolist() == [[0.75, 0.0], [0.0, 0.75]]
    assert [one["Label"] for one in model.classify(pixels, valid)] == ["dark", "bright"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nowhere_to_be_found\nclass Function:\n    pass", "imports “nowhere_to_be_found”.*pip install nowhere"),
        ("import cv2_missing.sub\n", "pip install cv2_missing"),
        ("import arcgis.learn\n", "imports “arcgis.*belongs to ArcGIS"),
        ("x = 1\n", "needs one class called Function"),
        (
            "class A:\n    def getParameterInfo(self): ...\nclass B:\n    def getParameterInfo(self): ...\n",
            "found A, B",
        ),
        (
            "class Function:\n"
            "    def initialize(self, **k):\n"
            "        arcpy.sa.Slope(1)\n"
            "    def getParameterInfo(self):\n"
            "        return []\n",
            "failed in initialize, line 4 of Function.py: AttributeError: arcpy.sa exists in ArcGIS alone",
        ),
        (
            "class Function:\n"
            "    def initialize(self, **k): ...\n"
            "    def isLicensed(self, **k):\n"
            "        return {'okToRun': False, 'message': 'only on Sundays'}\n"
            "    def getParameterInfo(self):\n"
            "        return []\n",
            "refuses to run: only on Sundays",
        ),
    ],
)
def test_what_cannot_run_is_named(package, code, says):
    with pytest.raises(ModelError, match=says):
        load(package("\n" + code))


def test_helpers_follow_their_contract():
    table = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 5: (5, 1), 6: (2, 3), 7: (7, 1), 8: (2, 4), 9: (3, 3)}
    table |= {10: (10, 1), 11: (11, 1), 12: (3, 4), 13: (13, 1), 14: (14, 1), 15: (3, 5), 16: (4, 4), 20: (4, 5)}
    table |= {24: (4, 6), 30: (5, 6), 32: (32, 1), 36: (6, 6), 48: (6, 8), 64: (8, 8)}
    assert {n: prf_utils.calculate_rectangle_size_from_batch_size(n) for n in table} == table
    assert prf_utils.get_tile_size(100, 200, 10, 2, 3) == (160, 540)


def test_batch_and_tile_are_inverse():
    block = np.arange(2 * 20 * 28).reshape(2, 20, 28)
    batch, down, across = prf_utils.tile_to_batch(block, 12, 12, 2, True, batch_height=2, batch_width=3)
    assert (batch.shape, down, across) == ((6, 2, 12, 12), 2, 3)
    assert (batch[4] == block[:, 8:20, 8:20]).all()
    inner = batch[:, :, 2:-2, 2:-2]
    assert (prf_utils.batch_to_tile(inner, 2, 3) == block[:, 2:18, 2:26]).all()
    loose, down, across = prf_utils.tile_to_batch(block, 12, 12, 2, fixed_tile_size=False)
    assert (loose.shape[0], down, across) == (6, 2, 3)


def test_boxes_in_the_padding_go_with_their_scores_and_classes():
    boxes = [np.array([[0, 0, 3, 3], [5, 5, 9, 9]]), np.array([[6, 6, 10, 10]])]
    rings, scores, classes = prf_utils.batch_detection_results_to_tile_results(
        boxes, [np.array([0.1, 0.2]), np.array([0.3])], [np.array([1, 2]), np.array([3])], 16, 16, 4, 2
    )
    assert scores.tolist() == [0.2, 0.3]
    assert classes.tolist() == [2, 3]
    assert rings[0].tolist() == [[1, 1], [1, 5], [5, 5], [5, 1]]
    assert rings[1].tolist() == [[2, 10], [2, 14], [6, 14], [6, 10]]


def test_feature_sets_of_many_shapes():
    classes = ()
    found = feature_set.detections(
        {
            "features": [
                {"attributes": {"Confidence": "0.5"}, "geometry": {"x": 1, "y": 2}},
                {"attributes": {}, "geometry": {"rings": [[[0, 0], [4, 0], [4, 4]], [[1, 1], [2, 1], [2, 2]]]}},
                {"attributes": {}, "geometry": {"rings": [[0, 127], [0, 0]]}},
                {"attributes": {}, "geometry": None},
            ]
        },
        classes,
        10,
    )
    assert found.boxes.tolist() == [[11, 12, 11, 12], [10, 10, 14, 14]]
    assert found.scores[0] == 0.5
    assert np.isnan(found.scores[1])
    assert len(found.rings[1]) == 2
