"""classifypixels from raster to COG: tiled as untiled on every pixel, nodata kept, further outputs, polygons."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from deep_raster.engine import jobs
from deep_raster.engine.inference import classify_pixels
from inference_support import NORTH_UP, SmoothClassifier, plan, write_raster


def image(shape=(260, 330), seed=1):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 160, (shape[0] // 10 + 1, shape[1] // 10 + 1))
    return np.kron(coarse, np.ones((10, 10)))[: shape[0], : shape[1]].astype(np.uint8)


def job(raster, package, output, **changes):
    return jobs.ClassifyPixels(
        changes.pop("inputs", (jobs.RasterInput(raster),)), package, str(output),
        changes.pop("options", jobs.RunOptions()), **changes,
    )  # fmt: skip


def whole_image(pixels, valid=None):
    """Return what the network says when it sees everything at once."""
    data = np.ones(pixels.shape, bool) if valid is None else valid
    scores = SmoothClassifier(plan()).scores(pixels[None, None], data[None])[0]
    return np.where(data, 1 + np.argmax(scores, axis=0), 255), scores


@pytest.mark.parametrize("georeferenced", [True, False])
@pytest.mark.parametrize("network", [plan(64, 3, exact=True), plan(64, 3, exact=True, fixed=False, multiple=8)])
def test_tiled_equals_untiled(tmp_path, session, make_package, use_model, georeferenced, network):
    pixels = image()
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP if georeferenced else None)
    use_model(SmoothClassifier(network))
    output = tmp_path / "classes.tif"
    package = make_package("ImageClassification")
    assert classify_pixels.run(job(raster, package, output), session) == {"OUTPUT": str(output)}
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_image(pixels)[0])
        assert dataset.nodata == 255
        assert dataset.colormap(1)[1] == (0, 200, 0, 255)
        assert dataset.transform == (NORTH_UP if georeferenced else rasterio.Affine(1, 0, 0, 0, -1, 0))
        assert (dataset.crs is not None) == georeferenced
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert "<Category>Tree</Category>" in (tmp_path / "classes.tif.aux.xml").read_text()
