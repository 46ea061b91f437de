"""The same networks on a CUDA device as on the CPU; runs where there is one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from deep_raster.engine.models.loader import load_model  # noqa: E402
from deep_raster.engine.models.normalisation import Normalisation  # noqa: E402
from deep_raster.engine.models.torch_runtime import HALF_TOLERANCE, Runner  # noqa: E402
from torch import nn  # noqa: E402

from . import torch_support as support  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def both(tmp_path, name, arguments):
    opened = support.package(tmp_path / "package", support.members(name), support.seeded_state(name))
    return [load_model(opened, device=device, threads=1, arguments=arguments) for device in ("cpu", "cuda:0")]


@pytest.mark.parametrize("name", ["unet_resnet18", "deeplab_resnet18", "psp_resnet18"])
def test_class_maps(tmp_path, name):
    cpu, gpu = both(tmp_path, name, {"predict_background": "True"})
    pixels = support.pixels((4, 3, 128, 128))
    valid = support.everywhere(pixels)
    valid[:, 30:60, 40:80] = False
    wanted, found = cpu.scores(pixels, valid), gpu.scores(pixels, valid)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.999


def test_objects(tmp_path):
    cpu, gpu = both(tmp_path, "ssd_resnet18", {"threshold": "0.6", "nms_overlap": "0.3"})
    pixels = support.pixels((4, 3, 128, 128))
    everywhere = support.everywhere(pixels)
    for wanted, found in zip(cpu.detect(pixels, everywhere), gpu.detect(pixels, everywhere)):
        assert abs(len(wanted.scores) - len(found.scores)) <= 1
        best = wanted.scores.argmax()
        np.testing.assert_allclose(found.scores.max(), wanted.scores.max(), atol=0.1)
        np.testing.assert_allclose(found.boxes[found.scores.argmax()], wanted.boxes[best], atol=0.1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_scaling_on_the_device_is_that_of_the_host(dtype):
    normalisation = Normalisation.from_statistics("mean_std", mean=[10, 20], std=[3, 4], fill_value=7.0)
    runner = Runner(nn.Identity(), normalisation, "cuda:0", 1)
    pixels = np.random.default_rng(0).integers(0, 250, (2, 2, 9, 8)).astype(dtype)
    valid = np.random.default_rng(1).random((2, 9, 8)) > 0.3
    np.testing.assert_allclose(runner.prepare(pixels, valid).cpu(), normalisation.apply(pixels, valid), atol=1e-4)


def test_half_precision_is_taken_only_where_it_changes_nothing():
    tame, wild = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        tame.weight.mul_(0.1)
        wild.weight.mul_(500)
    for network, wanted in ((tame, True), (wild, False)):
        runner = Runner(network, Normalisation(), "cuda:0", 1)
        taken = runner.try_half(lambda images, run=runner: run.network(images).softmax(dim=1), (1, 3, 64, 64))
        assert taken is wanted
    assert HALF_TOLERANCE == 1e-3
