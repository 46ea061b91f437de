"""Packages with their own code through a real engine: refused without consent, confined with it, right in the end."""

from __future__ import annotations

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import ModelError, TrustError
from deep_raster.engine.workers import sandbox
from rasterio.transform import from_origin
from real_engine import run

from .conftest import CLASSIFIER, DETECTOR

BLOBS = [(20, 30, 6, 5), (70, 8, 4, 9), (97, 61, 3, 3)]  # column, row, width, height


@pytest.fixture
def scene(tmp_path):
    pixels = np.full((1, 80, 110), 10, dtype=np.uint8)
    for column, row, width, height in BLOBS:
        pixels[0, row : row + height, column : column + width] = 250
    path = tmp_path / "input" / "scene.tif"
    path.parent.mkdir()
    profile = {"driver": "GTiff", "width": 110, "height": 80, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(500_000, 5_000_000, 2, 2), **profile) as file:
        file.write(pixels)
    return path


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def detect(tmp_path, scene, **options):
    inputs = (jobs.RasterInput(str(scene)),)
    (tmp_path / "out").mkdir(exist_ok=True)
    output = str(tmp_path / "out" / "found.gpkg")
    return jobs.DetectObjects(inputs, str(tmp_path / "p.dlpk"), output, jobs.RunOptions(workers=2, **options))


def test_without_consent_it_is_refused_with_the_hash(package, scene, tmp_path):
    made = package(DETECTOR)
    with pytest.raises(TrustError) as caught:
        run(detect(tmp_path, scene))
    assert f"TRUST={made.digest}" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_with_consent_objects_are_where_they_are(package, scene, tmp_path):
    made = package(DETECTOR)
    told = []
    values = run(detect(tmp_path, scene, trust=(made.digest,)), told)
    meta, _, wkb, data = pyogrio.raw.read(values["OUTPUT"])
    fields = dict(zip(meta["fields"], data))
    found = sorted(shapely.bounds(shapely.from_wkb(wkb)).tolist())
    expected = sorted(
        [500_000 + 2 * c, 5_000_000 - 2 * (r + h), 500_000 + 2 * (c + w), 5_000_000 - 2 * r] for c, r, w, h in BLOBS
    )
    assert found == expected
    assert set(fields["Class"]) == {"dark"}
    assert set(fields["Confidence"]) == {90.0}
    assert set(fields["Size"]) == {7}  # a field of the package's own
    texts = [getattr(event, "text", "") for event in told]
    assert "ready on CPU" in texts
    if sandbox.available().files:
        assert any("Confined by Landlock" in text for text in texts)


@pytest.mark.skipif(not sandbox.available().files, reason="this kernel offers no Landlock")
def test_consented_code_still_cannot_read_the_users_files(package, scene, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("key")
    spy = DETECTOR.replace("self.weights = ", f"open({str(secret)!r}).read(); self.weights = ")
    made = package(spy)
    with pytest.raises(ModelError, match=r"failed in initialize.*PermissionError"):
        run(detect(tmp_path, scene, trust=(made.digest,)))


def test_pixels_classified_by_a_function(package, scene, tmp_path):
    made = package(CLASSIFIER, "PixelFunction.py", {"ModelType": "ImageClassification"})
    output = tmp_path / "out"
    output.mkdir()
    options = jobs.RunOptions(workers=2, trust=(made.digest,), arguments={"padding": "3", "batch_size": "2"})
    inputs = (jobs.RasterInput(str(scene)),)
    run(jobs.ClassifyPixels(inputs, str(tmp_path / "p.dlpk"), str(output / "classes.tif"), options))
    with rasterio.open(scene) as file:
        expected = np.where(file.read(1) > 128, 2, 1)
    with rasterio.open(output / "classes.tif") as file:
        found = file.read(1)
        assert np.argwhere(found != expected).tolist() == []
        assert file.colormap(1)[2][:3] == (200, 210, 220)
