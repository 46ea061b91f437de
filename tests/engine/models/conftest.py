"""What holds for every test of the networks: one thread, a cache of its own, no engine left behind."""

from __future__ import annotations

import contextlib
import os

import pytest
from deep_raster.engine import client

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

torch = None
with contextlib.suppress(ImportError):
    import torch
    import torchvision  # noqa: F401 - crashes the interpreter if it is loaded after TensorFlow; not the other way round


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of the engine's cache; weights are imported once for the tests of a module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _alone(cache, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_CACHE", str(cache))
    if torch:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _no_engine_is_left():
    yield
    client.shutdown_engines()
