"""Networks trained here, converted to ONNX for the CPU: the same answers without PyTorch, and back to it if need be."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("segmentation_models_pytorch")
from deep_raster.engine.caches import weights_cache  # noqa: E402
from deep_raster.engine.models import networks, onnx_session, own  # noqa: E402
from deep_raster.engine.models.role_models import RolePixelClassifier  # noqa: E402
from deep_raster.engine.models.torch_models import TorchPixelClassifier  # noqa: E402

from . import torch_support as support  # noqa: E402

CONFIGURATION = {
    "Name": "DeepRaster", "Task": "segmentation", "Architecture": "unet", "Backbone": "resnet18",
    "Depth": 3, "DecoderChannels": [8, 8, 4],
}  # fmt: skip


@pytest.fixture
def cache(tmp_path):
    """Of each test its own, as all of them convert the same network."""
    return tmp_path / "cache"


def made(folder, configuration=CONFIGURATION, **changes):
    """The package of a seeded network whose normalisations have seen something, and the network."""
    torch.manual_seed(0)
    network = networks.build(configuration, 3, 3, (64, 64)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.2)
    members = {
        "Framework": "PyTorch", "ModelConfiguration": configuration, "ModelType": "ImageClassification",
        "ModelFile": "model.pth", "ImageWidth": 64, "ImageHeight": 64, "ExtractBands": [0, 1, 2],
        "Classes": [{"Value": value, "Name": f"class {value}"} for value in (0, 5, 9)],
        "Normalization": {"Method": "mean_std", "Mean": support.MEAN, "Std": support.STD, "Fill": 0},
        "SupportsVariableTileSize": True, **changes,
    }  # fmt: skip
    return support.package(folder, members, network.state_dict()), network


def load(package, **arguments):
    return support.loaded(package, arguments)


def kept():
    return sorted(weights_cache().glob("*.onnx"))


def test_converted_once_and_the_same_answers(tmp_path, monkeypatch):
    package, network = made(tmp_path / "package")
    first = load(package)
    assert isinstance(first, RolePixelClassifier)
    assert len(kept()) == 1
    monkeypatch.setattr(own, "load", lambda *_: pytest.fail("the network was built again"))
    model = load(package)
    monkeypatch.undo()
    assert (model.plan, model.values) == (first.plan, first.values)
    pixels = support.pixels((2, 3, 72, 104))
    valid = support.everywhere(pixels)
    valid[0, 10:20, 30:50] = False
    filled = np.where(valid[:, np.newaxis], pixels, 0)  # as the definition's Fill says
    with torch.inference_mode():
        wanted = network(support.normalised(filled))
    np.testing.assert_allclose(model.scores(pixels, valid), wanted.softmax(1).numpy(), atol=1e-4)
    np.testing.assert_array_equal(model.scores(pixels, valid), first.scores(pixels, valid))
    without = load(package, predict_background="False").scores(pixels, valid)
    wanted = wanted.numpy().copy()
    wanted[:, 0] = -np.inf
    np.testing.assert_allclose(without, torch.from_numpy(wanted).softmax(1).numpy(), atol=1e-4)


def test_the_plan_is_that_of_the_network_in_pytorch(tmp_path):
    package, _ = made(tmp_path / "package", ImageWidth=256, ImageHeight=256)
    for arguments in ({}, {"padding": "8"}, {"tile_size": "128"}, {"batch_size": "3"}):
        wanted = own.load(package, "cpu", 1, arguments).plan
        assert load(package, **arguments).plan == wanted
    assert load(package).plan.exact


def test_a_worker_does_not_import_pytorch_again(tmp_path):
    package, _ = made(tmp_path / "package")
    load(package)
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('conf', {str(Path(__file__).parents[2] / 'conftest.py')!r})\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "from deep_raster.engine.package.dlpk import open_package\n"
        "from deep_raster.engine.models.loader import load_model\n"
        f"load_model(open_package({str(package.path)!r}), device='cpu', threads=1, arguments={{}})\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_regression_keeps_its_values(tmp_path):
    configuration = {**CONFIGURATION, "Task": "regression"}
    package, network = made(tmp_path / "package", configuration, ModelType="Pix2Pix")
    model = load(package)
    assert isinstance(model, RolePixelClassifier)
    assert model.values is None
    pixels = support.pixels((1, 3, 64, 64))
    with torch.inference_mode():
        wanted = network(support.normalised(pixels)).numpy()
    np.testing.assert_allclose(model.scores(pixels, support.everywhere(pixels)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", ["refuses", "differs", "unwritable"])
def test_pytorch_goes_on_where_the_conversion_does_not_hold(tmp_path, monkeypatch, caplog, fault):
    package, _ = made(tmp_path / "package")
    if fault == "refuses":

        def refuse(*_, **__):
            raise torch.onnx.errors.UnsupportedOperatorError("aten::something", 17, None)

        monkeypatch.setattr(torch.onnx, "export", refuse)
    elif fault == "differs":
        plain = onnx_session.OnnxNetwork.run
        monkeypatch.setattr(onnx_session.OnnxNetwork, "run", lambda *given: [one * 1.01 for one in plain(*given)])
    else:
        (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.DEBUG, "deep_raster"):
        model = load(package)
    assert isinstance(model, TorchPixelClassifier)
    assert not list((tmp_path / "cache").glob("weights/*.onnx")) or fault == "unwritable"
    assert not list((tmp_path / "cache").glob("weights/*.part"))
    notes = [one for one in caplog.records if one.name.endswith("models.converted")]
    assert [one.levelno for one in notes] == [logging.DEBUG]


def test_a_damaged_file_in_the_cache_is_made_again(tmp_path):
    package, _ = made(tmp_path / "package")
    load(package)
    (path,) = kept()
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert isinstance(load(package), RolePixelClassifier)
    assert len(kept()[0].read_bytes()) == len(whole)
