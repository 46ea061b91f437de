"""The comparisons of the adapters for arcgis.learn and FastaiSSD once more, now with rasters through the engine.

The tests themselves stand beside the adapters; here the network they ask is the tool: every image becomes a
georeferenced raster, and its answers are read from the layer or the raster that the job wrote.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.models.base import Detections

from ..engine.models import engine_support as engine
from ..engine.models import test_arcgis_detection as detection
from ..engine.models import test_arcgis_rcnn as rcnn
from ..engine.models import test_arcgis_segmentation as segmentation
from ..engine.models import torch_support as support
from ..engine.models.conftest import _alone, _no_engine_is_left, cache  # noqa: F401 - found here by pytest

fastai_state = detection.fastai_state
test_ssd_over_torchvision = detection.test_ssd_over_torchvision
test_ssd_with_four_bands = detection.test_ssd_with_four_bands_and_a_grid_that_no_stride_reaches
test_retinanet_over_torchvision = detection.test_retinanet_over_torchvision
test_mask_rcnn_is_torchvisions_on_a_single_map = rcnn.test_mask_rcnn_is_torchvisions_on_a_single_map
test_faster_rcnn_is_torchvisions_with_a_pyramid = rcnn.test_faster_rcnn_is_torchvisions_with_a_pyramid
test_fastai_ssd_as_published = detection.test_fastai_ssd_as_published
test_unet_over_timm_with_four_bands = segmentation.test_unet_over_timm_with_four_bands_and_their_statistics
test_deeplab_on_a_trunk_of_stride_eight = segmentation.test_deeplab_is_torchvisions_head_on_a_trunk_of_stride_eight
test_pspnet_pools_on_four_grids = segmentation.test_pspnet_pools_on_four_grids_and_decodes_as_a_unet


class Tool:
    """Looks like a loaded network, but runs jobs."""

    def __init__(self, package, network, arguments, folder):
        self.plan, self.values = network.plan, getattr(network, "values", None)
        self._package, self._folder, self._count = package, folder, 0
        self._arguments = {**arguments, "padding": 0}

    def _run(self, kind, image, suffix, **members):
        self._count += 1
        source = engine.write_raster(self._folder / f"in{self._count}.tif", image)
        output, options = self._folder / f"out{self._count}{suffix}", engine.options(**self._arguments)
        engine.run(kind((source,), str(self._package.path), str(output), options, **members))
        return output

    def detect(self, pixels, valid):
        return [self._objects(self._run(jobs.DetectObjects, one, ".gpkg", run_nms=False)) for one in pixels]

    def _objects(self, path):
        shapes, fields = engine.read_layer(path)
        order = np.argsort(-fields["Confidence"], kind="stable")  # as networks list what they find
        fields, shapes = {name: values[order] for name, values in fields.items()}, engine.to_pixels(shapes[order])
        names = [one.name for one in self._package.definition.classes]
        labels = np.array([names.index(one) for one in fields["Class"]])
        rings = [[shapely.get_coordinates(ring) for ring in _rings(shape)] for shape in shapes]
        scores = np.asarray(fields["Confidence"], np.float32)
        return Detections(shapely.bounds(shapes).astype(np.float32), scores, labels, rings)

    def scores(self, pixels, valid):
        return np.array([engine.read_classes(self._run(jobs.ClassifyPixels, one, ".tif")) for one in pixels])


def _rings(shape):
    """The outline of the largest part and its holes."""
    parts = shapely.get_parts(shape)
    largest = parts[shapely.area(parts).argmax()]
    return [largest.exterior, *largest.interiors]


def _same_classes(tool, logits, values, found):
    """Take the place of the comparison of scores: the tool writes classes."""
    wanted = np.array(values)[logits.argmax(dim=1).numpy()]
    assert tool.values == values
    assert found.shape == wanted.shape
    assert len(np.unique(wanted)) > 1
    assert (found == wanted).mean() >= 0.9999


def _on_the_raster(compare, side):
    """Cut the expected boxes off at the raster's edge, as the tool does, and leave out what lies outside."""

    def same(found, boxes, scores, labels):
        cut = np.clip(boxes, 0, side)
        inside = ((cut[:, 2:] - cut[:, :2]) > 0).all(axis=1)
        compare(found, cut[inside], scores[inside], labels[inside])

    return same


def _same_outlines(found, boxes, scores, labels):
    """Compare masks, of which the tool writes the outlines: they lie in their boxes, to the pixel."""
    assert len(found.scores) == len(scores) > 0
    ours, theirs = np.argsort(-found.scores, kind="stable"), np.argsort(-scores, kind="stable")
    np.testing.assert_allclose(found.scores[ours], scores[theirs], atol=1e-4)
    np.testing.assert_array_equal(found.labels[ours], labels[theirs])
    low, high = np.floor(boxes[theirs]) - 1, np.ceil(boxes[theirs]) + 1
    assert (found.boxes[ours][:, :2] >= low[:, :2]).all()
    assert (found.boxes[ours][:, 2:] <= high[:, 2:]).all()


@pytest.fixture(autouse=True)
def _through_the_engine(tmp_path, monkeypatch, request):
    load = support.load_model

    def ask(package, *, device, threads, arguments):
        network = load(package, device=device, threads=threads, arguments=arguments)
        return Tool(package, network, arguments, tmp_path)

    monkeypatch.setattr(support, "load_model", ask)
    monkeypatch.setattr(segmentation, "expect", _same_classes)
    side = 224 if "fastai" in request.node.name else 128
    compare = _same_outlines if "mask" in request.node.name else support.assert_same_objects
    monkeypatch.setattr(support, "assert_same_objects", _on_the_raster(compare, side))
