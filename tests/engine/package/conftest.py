"""Consents and caches of each test alone."""

from __future__ import annotations

import pytest
from deep_raster.engine.package import trust


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEEP_RASTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(trust.VARIABLE, raising=False)
