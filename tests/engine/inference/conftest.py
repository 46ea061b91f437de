"""Fixtures of the inference tests; their parts are in ``inference_support.py``, importable by that name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

if "inference_support" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "inference_support", Path(__file__).with_name("inference_support.py")
    )
    sys.modules["inference_support"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["inference_support"])

from inference_support import InProcessSession


@pytest.fixture
def make_package(tmp_path):
    """Return a function that writes a model definition with a file of weights and returns its path."""

    def make(model_type="ObjectDetection", **members):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "weights.pth").write_bytes(b"0")
        definition = {
            "Framework": "PyTorch",
            "ModelConfiguration": {"Name": "DeepRaster", "Task": "detection"},
            "ModelType": model_type,
            "ModelFile": "weights.pth",
            "ImageWidth": 64,
            "ImageHeight": 64,
            "ExtractBands": [0],
            "Classes": [
                {"Value": 1, "Name": "Tree", "Color": [0, 200, 0]},
                {"Value": 2, "Name": "Roof", "Color": [200, 0, 0]},
            ],
            **members,
        }
        path = folder / "model.emd"
        path.write_text(json.dumps(definition))
        return str(path)

    return make


@pytest.fixture
def use_model(monkeypatch):
    """Return a function that makes loading any package give this network."""
    from deep_raster.engine.inference import loading

    def use(model):
        monkeypatch.setattr(loading, "_load", lambda *_: model)
        return model

    return use


@pytest.fixture
def session(tmp_path):
    return InProcessSession(tmp_path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
