"""``qgis_process`` with a real or a stand-in engine, and sample files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
ENGINE_PYTHON = os.environ.get("DEEP_RASTER_PYTHON", "")

sys.path.insert(0, str(TESTS / "qgis" / "support"))

from conftest_values import write_raster  # noqa: E402 - needs the path above
from provider_fixture import provider  # noqa: E402, F401 - found here by pytest
from qgis_process import QGIS_PROCESS, Qgis  # noqa: E402


def pytest_collection_modifyitems(items):
    if not QGIS_PROCESS:
        for item in items:
            if "process" in Path(item.fspath).parts:
                item.add_marker(pytest.mark.skip(reason="qgis_process is not installed here"))


@pytest.fixture
def qgis(tmp_path):
    """With the stand-in for the engine."""
    return Qgis(tmp_path)


@pytest.fixture
def real(qgis):
    """With the real engine."""
    if not ENGINE_PYTHON:
        pytest.skip("DEEP_RASTER_PYTHON names no engine environment")
    qgis.python = ENGINE_PYTHON
    return qgis


@pytest.fixture
def image(tmp_path):
    return write_raster(tmp_path / "scene.tif", width=300, height=200)


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    """A small detector with random weights, the same in every run."""
    if not ENGINE_PYTHON:
        pytest.skip("DEEP_RASTER_PYTHON names no engine environment")
    path = tmp_path_factory.mktemp("model") / "random.dlpk"
    script = Path(__file__).with_name("make_model.py")
    subprocess.run([ENGINE_PYTHON, "-I", str(script), str(ROOT), str(path), "128"], check=True, timeout=120)
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """The folder of ``pixels.onnx`` and ``objects.onnx``, whose answers are plain to see in the image."""
    if not ENGINE_PYTHON:
        pytest.skip("DEEP_RASTER_PYTHON names no engine environment")
    folder = tmp_path_factory.mktemp("networks")
    script = Path(__file__).with_name("make_onnx.py")
    subprocess.run([ENGINE_PYTHON, "-I", str(script), str(folder)], check=True, timeout=120)
    return folder
