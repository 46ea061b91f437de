"""Seams of networks in other files than ONNX, and of those that look everywhere, through the real engine."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from ..engine.models import test_reach as support  # noqa: E402
from ..engine.models.conftest import _alone, _no_engine_is_left, cache  # noqa: E402, F401 - found here by pytest

scene = support.scene


@pytest.mark.parametrize("kind", ["export", "script"])
def test_tiled_is_untiled_on_every_pixel(tmp_path, scene, kind):
    support.check_seams(tmp_path, scene, kind)


def test_networks_that_look_everywhere_are_blended(tmp_path, scene):
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), support.Squeeze()).eval()
    path = support.model(tmp_path / "model", "onnx", net)
    assert "blended" in support.classify(scene[0], path, tmp_path / "out.tif")[1]
    assert "padding of 24 pixels" in support.classify(scene[0], path, tmp_path / "out.tif", padding="24")[1]
