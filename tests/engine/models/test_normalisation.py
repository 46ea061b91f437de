"""From raster values to network input: every scheme against its formula, in the raster's own type."""

from __future__ import annotations

import numpy as np
import pytest
from deep_raster.engine.errors import DefinitionError
from deep_raster.engine.models.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from deep_raster.engine.package.emd import build_definition

BASE = {
    "Framework": "PyTorch",
    "ModelConfiguration": {"Name": "DeepRaster"},
    "ModelType": "ImageClassification",
    "ModelFile": "m.pth",
    "ImageWidth": 64,
    "ImageHeight": 64,
    "ExtractBands": [0, 1, 2],
    "Classes": [{"Value": 1, "Name": "a"}],
}
ARCGIS = {**BASE, "Framework": "arcgis.learn.models._inferencing", "ModelConfiguration": "_unet"}


def batch(dtype="uint8", bands=3, high=255):
    rng = np.random.default_rng(3)
    return (rng.random((2, bands, 5, 7)) * high).astype(dtype)


def column(values):
    return np.array(values, np.float64).reshape(1, -1, 1, 1)


def read(**changes):
    return Normalisation.from_definition(build_definition({**BASE, **changes}))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_mean_and_standard_deviation_in_every_type(dtype):
    mean, std = [10.5, 100.0, 90.0], [3.0, 50.0, 0.25]
    pixels = batch(dtype, high=120)
    found = read(Normalization={"Method": "mean_std", "Mean": mean, "Std": std}).apply(pixels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, (pixels.astype(np.float64) - column(mean)) / column(std), rtol=1e-5, atol=1e-4)


def test_large_values_keep_their_small_differences():
    pixels = np.full((1, 1, 1, 3), 2_000_000_001, np.int32) + np.arange(3, dtype=np.int32)
    normalisation = Normalisation.from_statistics("mean_std", mean=[2_000_000_000], std=[1])
    np.testing.assert_array_equal(normalisation.apply(pixels).ravel(), [1, 2, 3])


def test_sixteen_bits_are_not_squeezed_to_eight():
    pixels = np.array([0, 1, 2, 65535], np.uint16).reshape(1, 1, 2, 2)
    found = Normalisation.from_statistics("min_max", minimum=[0], maximum=[65535]).apply(pixels).ravel()
    np.testing.assert_allclose(found, [0, 1 / 65535, 2 / 65535, 1], rtol=1e-6)


def test_imagenet_on_both_scales():
    mean, std = column(IMAGENET_MEAN), column(IMAGENET_STD)
    pixels = batch()
    wanted = (pixels / 255 - mean) / std
    np.testing.assert_allclose(read(Normalization={"Method": "imagenet"}).apply(pixels), wanted, atol=1e-5)
    unit = (pixels / 255).astype(np.float32)
    found = read(Normalization={"Method": "imagenet", "Scale": 1}).apply(unit)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_constant_bands_are_centred_only():
    flat = Normalisation.from_statistics("mean_std", mean=[5], std=[0]).apply(np.full((1, 1, 2, 2), 7, np.uint8))
    np.testing.assert_array_equal(flat, np.full((1, 1, 2, 2), 2, np.float32))


def test_pixels_without_data_become_the_mean_or_the_stated_value():
    pixels = batch("float32")
    valid = np.ones((2, 5, 7), bool)
    valid[0, 1:3, 2:4] = False
    pixels[0, :, 1:3, 2:4] = np.nan
    members = {"Method": "mean_std", "Mean": [10, 20, 30], "Std": [2, 4, 5]}
    found = read(Normalization=members).apply(pixels, valid)
    assert np.isfinite(found).all()
    assert (found[0, :, 1:3, 2:4] == 0).all()
    found = read(Normalization={**members, "Fill": 40}).apply(pixels, valid)
    np.testing.assert_allclose(found[0, :, 1, 2], [15, 5, 2], rtol=1e-6)
    np.testing.assert_allclose(found[1], (pixels[1] - column([10, 20, 30])[0]) / column([2, 4, 5])[0], rtol=1e-4)


def test_arcgis_without_statistics_is_imagenet_and_black_where_masked():
    normalisation = Normalisation.from_definition(build_definition(ARCGIS))
    pixels, valid = batch(), np.ones((2, 5, 7), bool)
    valid[1, 0, 0] = False
    found = normalisation.apply(pixels, valid)
    black = -np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(found[1, :, 0, 0], black, rtol=1e-5)
    np.testing.assert_allclose(
        normalisation.without_moments().apply(pixels), pixels / np.float32(255), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("bands", [[3, 0], ["nir", "red"]])
def test_arcgis_statistics_are_those_of_the_extracted_bands(bands):
    statistics = {
        "band_min_values": [8, 38, 17, 32],
        "band_max_values": [238, 170, 247, 227],
        "scaled_mean_values": [0.4, 0.6, 0.2, 0.7],
        "scaled_std_values": [0.12, 0.08, 0.07, 0.1],
    }
    members = {
        **ARCGIS,
        "ExtractBands": bands,
        "Bands": ["Red", "Green", "Blue", "NIR"],
        "NormalizationStats": statistics,
    }
    normalisation = Normalisation.from_definition(build_definition(members))
    pixels = batch(bands=2)
    scaled = (pixels - column([32, 8])) / column([227 - 32, 238 - 8])
    np.testing.assert_allclose(normalisation.without_moments().apply(pixels), scaled, atol=1e-6)
    wanted = (scaled - column([0.7, 0.4])) / column([0.1, 0.12])
    np.testing.assert_allclose(normalisation.apply(pixels), wanted, rtol=1e-5, atol=1e-5)


def test_arcgis_statistics_of_a_band_that_is_not_there():
    members = {**ARCGIS, "ExtractBands": [5], "NormalizationStats": {"band_min_values": [0], "band_max_values": [1]}}
    with pytest.raises(DefinitionError, match="no entry for band 5"):
        Normalisation.from_definition(build_definition(members))


def test_data_range_rescales_the_range_of_the_type():
    normalisation = read(Framework="ONNX", ModelConfiguration="x", DataRange=[-1.0, 1.0])
    assert normalisation.apply(np.array([[[[0, 255]]]], np.uint8)).ravel() == pytest.approx([-1, 1])
    assert normalisation.apply(np.array([[[[0, 65535]]]], np.uint16)).ravel() == pytest.approx([-1, 1])
    assert normalisation.apply(np.array([[[[-32768, 32767]]]], np.int16)).ravel() == pytest.approx([-1, 1])
    assert normalisation.apply(np.array([[[[0.25, 3]]]], np.float32)).ravel() == pytest.approx([0.25, 3])


def test_what_is_written_is_read_back():
    for written in (
        Normalisation.from_statistics("mean_std", mean=[1, 2, 3], std=[4, 5, 6], fill_value=0.0),
        Normalisation.from_statistics("min_max", minimum=[0, 1, 2], maximum=[3, 4, 5]),
        Normalisation.from_statistics("scale", divisor=10_000),
        Normalisation.imagenet(),
        Normalisation("none", data_range=(0.0, 1.0)),
    ):
        assert read(Normalization=written.to_members()) == written


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"Method": "magic"}, "'magic'"),
        ({"Method": "mean_std", "Mean": [1, 2]}, "one mean and one std per band"),
        ({"Method": "min_max", "Min": ["a"], "Max": [1]}, "are not numbers"),
        ({"Method": "scale", "Scale": 0}, "divides by zero"),
    ],
)
def test_impossible_definitions_are_refused(members, sentence):
    with pytest.raises(DefinitionError, match=sentence):
        read(Normalization=members)


def test_another_number_of_bands_is_refused():
    with pytest.raises(DefinitionError, match="normalises 3 bands, but it is given 4"):
        Normalisation.imagenet().apply(batch(bands=4))


@pytest.mark.parametrize(
    ("service", "bands", "numbers"),
    [
        ("LandsatService", 7, lambda one: (np.clip(one, 0, 1) + 0.2) / 0.0000275),
        ("SentinelService", 12, lambda one: np.clip(np.round(one * 10_000), 0, 65_535)),
    ],
)
def test_reflectances_of_public_services_become_digital_numbers(service, bands, numbers):
    low, high = list(range(100, 100 + bands)), list(range(9000, 9000 + bands))
    members = {
        **ARCGIS,
        "ExtractBands": list(range(bands)),
        "Preprocessing": service,
        "NormalizationStats": {"band_min_values": low, "band_max_values": high},
    }
    normalisation = Normalisation.from_definition(build_definition(members))
    pixels = np.random.default_rng(0).uniform(-0.2, 1.4, (1, bands, 4, 4)).astype(np.float32)
    wanted = (numbers(pixels.astype(np.float64)) - column(low)) / (column(high) - column(low))
    np.testing.assert_allclose(normalisation.apply(pixels), wanted, rtol=1e-4, atol=2e-4)
    raw = (pixels * 10_000).clip(0).astype(np.uint16)
    plain = (raw - column(low)) / (column(high) - column(low))
    np.testing.assert_allclose(normalisation.apply(raw), plain, rtol=1e-4, atol=1e-5)
