"""What functions ask of their host beside tiles and bands, and what the host tells when it has no use for it."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from deep_raster.engine.raster_function import adapter, image_library

FUNCTION = """
    class Function:
        def initialize(self, **kwargs):
            pass

        def getParameterInfo(self):
            return [{"name": "images", "dataType": "KIND"}]

        def getConfiguration(self, **scalars):
            return {"tx": 8, "ty": 8, "inputMask": True, MORE}

        def updateRasterInfo(self, **kwargs):
            self.infos = sorted(kwargs)
            kwargs["output_info"].update(bandCount=1, pixelType="f4")
            return kwargs

        def updatePixels(self, tlc, shape, props, **blocks):
            self.blocks = blocks
            return dict(blocks, output_pixels=blocks["output_pixels"] + 3)
"""
METADATA = """
        def updateKeyMetadata(self, names, bandIndex, **keyMetadata):
            return keyMetadata
"""


def load(package, kind, more="", extra=""):
    text = FUNCTION.replace("KIND", kind).replace("MORE", more) + extra
    made = package(text, members={"ModelType": "ImageClassification", "Classes": []})
    model = adapter.load(made, "cpu", 1, {})
    pixels = np.arange(128, dtype=np.uint8).reshape(1, 2, 8, 8)
    assert (model.scores(pixels, np.ones((1, 8, 8), bool)) == 3).all()
    return model, model._function._instance, pixels[0]


def test_a_parameter_of_any_name_gets_the_raster(package):
    _, instance, pixels = load(package, "raster")
    assert instance.infos == ["images_info", "output_info"]
    assert set(instance.blocks) == {"images_pixels", "images_mask", "output_pixels"}
    np.testing.assert_array_equal(instance.blocks["images_pixels"], pixels)
    assert instance.blocks["images_mask"].shape == pixels.shape


def test_a_list_of_rasters_comes_as_a_list_or_as_one_composite(package):
    _, instance, pixels = load(package, "rasters")
    (only,) = instance.blocks["images_pixels"]
    np.testing.assert_array_equal(only, pixels)


def test_a_composite_has_a_name_of_its_own(package):
    _, instance, pixels = load(package, "rasters", "'compositeRasters': True")
    assert set(instance.blocks) == {"compositeraster_pixels", "compositeraster_mask", "output_pixels"}
    np.testing.assert_array_equal(instance.blocks["compositeraster_pixels"], pixels)


def test_what_has_no_effect_here_is_told(package):
    model, *_ = load(package, "raster", "'keyMetadata': ('cloudcover', 'sunazimuth'), 'samplingFactor': 0.5", METADATA)
    told = " ".join(event.text for event in model.take_messages())
    for word in (
        "key metadata (cloudcover, sunazimuth)",
        "updateKeyMetadata, which is not called",
        "samplingFactor to",
    ):
        assert word in told
    model, *_ = load(package, "raster", "'samplingFactor': 1")
    assert model.take_messages() == []


@pytest.fixture
def no_skimage(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "skimage"}
    yield
    for name in [one for one in sys.modules if one.partition(".")[0] == "skimage"]:
        del sys.modules[name]
    sys.modules.update(kept)


def test_resizing_without_scikit_image_is_that_of_scikit_image(no_skimage):
    image_library.install()
    from skimage.transform import resize as ours

    assert ours is image_library.resize
    with pytest.raises(ModuleNotFoundError):
        import skimage.measure  # noqa: F401
    with pytest.raises(NotImplementedError, match="pip install scikit-image"):
        ours(np.zeros((4, 4)), (8, 8), order=3, mode="constant")
    for name in ("skimage", "skimage.transform"):
        del sys.modules[name]
    theirs = pytest.importorskip("skimage.transform").resize
    bright = np.random.default_rng(1).integers(100, 255, (20, 31, 3)).astype(np.uint8)
    options = {"order": 1, "mode": "constant", "anti_aliasing": False}
    for image in (bright, bright[:, :, 0], bright / 255.0, bright.astype(np.uint16)):
        for shape in ((64, 64), (20, 31), (9, 11)):
            for keep in (True, False):
                found = ours(image, shape, preserve_range=keep, **options)
                np.testing.assert_allclose(found, theirs(image, shape, preserve_range=keep, **options), atol=1e-9)
