"""QGIS without a window, the provider, a stand-in for the engine, and small rasters and layers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from osgeo import gdal

FAKE_PYTHON = Path(__file__).resolve().parent.parent / "fake_engine" / "python"

gdal.UseExceptions()
# With pytest's importlib mode test modules are no packages; what they share is found here.
sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

from conftest_values import DEFINITION, write_raster  # noqa: E402 - needs the path above
from provider_fixture import provider  # noqa: E402, F401 - found here by pytest


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path):
    """No environment, cache or setting of this computer may reach a test."""
    for name in ("DEEP_RASTER_PYTHON", "DEEP_RASTER_CACHE", "DEEP_RASTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEEP_RASTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEEP_RASTER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _no_settings(qgis_app):
    from qgis.core import QgsSettings

    QgsSettings().remove("deep_raster")
    yield
    QgsSettings().remove("deep_raster")


class FakeEngine:
    """The jobs that the stand-in was given, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, FAKE_PYTHON

    @property
    def jobs(self) -> list:
        return [json.loads(one.read_text()) for one in sorted(self.folder.glob("*.json"))]


@pytest.fixture
def fake_engine(monkeypatch, tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    monkeypatch.setenv("DEEP_RASTER_PYTHON", str(FAKE_PYTHON))
    monkeypatch.setenv("DEEP_RASTER_FAKE_JOBS", str(folder))
    return FakeEngine(folder)


@pytest.fixture
def image(tmp_path):
    """40 × 30 pixels of 2 m, three bands, EPSG:32633; upper left corner at 500000, 5000000."""
    return write_raster(tmp_path / "image.tif")


@pytest.fixture
def model(tmp_path):
    """A definition that says what a detector needs; the fake engine loads no weights."""
    (tmp_path / "tree.pth").write_bytes(b"\0")
    path = tmp_path / "tree.emd"
    path.write_text(json.dumps(DEFINITION))
    return path
