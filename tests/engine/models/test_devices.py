"""Devices: memory that runs out in each framework's own way, and execution providers that do not start."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
from deep_raster.engine.errors import ModelError  # noqa: E402
from deep_raster.engine.models import onnx_session, torch_export, torchscript  # noqa: E402
from deep_raster.engine.models.base import TilePlan  # noqa: E402
from deep_raster.engine.models.network import Feeder  # noqa: E402
from deep_raster.engine.models.normalisation import Normalisation  # noqa: E402
from deep_raster.engine.models.onnx_session import OnnxNetwork, choose_providers  # noqa: E402
from deep_raster.engine.models.roles import InputRole, NetworkRoles  # noqa: E402
from deep_raster.engine.models.torch_models import TorchPixelClassifier  # noqa: E402
from deep_raster.engine.models.torch_runtime import Runner  # noqa: E402
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # noqa: E402
from torch import nn  # noqa: E402

from . import network_files as files  # noqa: E402

ROLES = NetworkRoles.from_members({"Output": {"Kind": "PixelScores", "Activation": "softmax"}})


def network():
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 3, padding=1).eval()


class Scarce:
    """Lets a call through for few images, and notes how many were asked for."""

    def __init__(self, call, count, room, error):
        self.call, self.count, self.room, self.error, self.sizes = call, count, room, error, []

    def __call__(self, *given, **named):
        size = self.count(*given, **named)
        self.sizes.append(size)
        if size > self.room:
            raise self.error
        return self.call(*given, **named)


def onnx_network(tmp_path, room):
    found = OnnxNetwork(files.export(network(), tmp_path / "net.onnx", (1, 3, 16, 16), dynamic=(0, 2, 3)), "cpu", 1)
    # what ONNX Runtime's arena raises on a GPU or on the CPU
    text = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9999"

    class Session:
        run = Scarce(
            found._session.run, lambda _names, feeds: len(feeds["images"]), room, ort_errors.RuntimeException(text)
        )

    found._session = Session()
    return found, Session.run


def exported_network(tmp_path, room):
    auto = torch.export.Dim.AUTO
    program = torch.export.export(network(), (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    torch.export.save(program, tmp_path / "net.pt2")
    found = torch_export.ExportedNetwork(tmp_path / "net.pt2", "cpu")
    text = "CUDA out of memory. Tried to allocate 2.00 GiB."
    scarce = Scarce(found._program, lambda tensors: len(tensors[0]), room, torch.OutOfMemoryError(text))
    scarce.outputs = found._program.outputs
    found._program = scarce
    return found, scarce


def script_network(tmp_path, room):
    torch.jit.trace(network(), torch.rand(1, 3, 16, 16)).save(tmp_path / "net.pt")
    found = torchscript.TorchScriptNetwork(tmp_path / "net.pt", "cpu", InputRole(), 3, (16, 16))
    # the allocator of the CPU raises a plain error
    text = (
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 9999 bytes"
    )
    found._module = scarce = Scarce(found._module, len, room, RuntimeError(text))
    return found, scarce


@pytest.mark.parametrize("make", [onnx_network, exported_network, script_network])
def test_network_files_halve_the_batch_and_try_none_twice(tmp_path, make, caplog):
    loaded, scarce = make(tmp_path, 2)
    feeder = Feeder(loaded, ROLES, Normalisation.from_members({"Method": "scale", "Scale": 255}), 16)
    batch = files.pixels((9, 3, 16, 16))
    with caplog.at_level(logging.WARNING):
        parts = [outputs["Main"] for _, outputs in feeder(batch, files.everywhere(batch))]
        again = [outputs["Main"] for _, outputs in feeder(batch, files.everywhere(batch))]
    with torch.no_grad():
        wanted = network()(files.scaled(batch)).numpy()
    np.testing.assert_allclose(np.concatenate(parts), wanted, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(parts))
    too_large = [size for size in scarce.sizes if size > 2]
    assert too_large == [9, 4]  # each once, and none in the second call
    assert caplog.text.count("does not suffice") == 2
    scarce.room = 0
    with pytest.raises(ModelError, match="too small for a single image"):
        list(feeder(batch, files.everywhere(batch)))


def test_networks_of_pytorch_halve_the_batch_and_try_none_twice(caplog):
    runner = Runner(network(), Normalisation.from_members({"Method": "scale", "Scale": 255}), "cpu", 1)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    scarce = Scarce(runner.network, len, 2, error)
    runner.network = scarce
    model = TorchPixelClassifier(runner, TilePlan(16, 16, batch=9), (1, 2))
    batch = files.pixels((9, 3, 16, 16))
    with caplog.at_level(logging.WARNING):
        found = model.scores(batch, files.everywhere(batch))
        model.scores(batch[:3], files.everywhere(batch[:3]))
    with torch.no_grad():
        wanted = network()(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert [size for size in scarce.sizes if size > 2] == [9, 4]
    assert "9 images at once; going on with 4" in caplog.text
    scarce.room = 0
    with pytest.raises(ModelError, match="does not suffice for one image"):
        model.scores(batch, files.everywhere(batch))


def test_other_errors_of_memory_like_names_are_no_reason_to_try_again(tmp_path):
    loaded, scarce = onnx_network(tmp_path, 0)
    scarce.error = ort_errors.InvalidArgument("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions")
    feeder = Feeder(loaded, ROLES, Normalisation(), 4)
    batch = files.pixels((4, 3, 16, 16))
    with pytest.raises(ModelError, match="invalid dimensions"):
        list(feeder(batch, files.everywhere(batch)))
    assert scarce.sizes == [4]


ALL = [
    "TensorrtExecutionProvider", "CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider",
    "OpenVINOExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider",
]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("cpu", []),
        ("cuda:0", ["CUDA"]),
        ("tensorrt:0", ["Tensorrt", "CUDA"]),
        ("dml:0", ["Dml"]),
        ("openvino", ["OpenVINO"]),
        ("mps", ["CoreML"]),
        ("coreml", ["CoreML"]),
    ],
)
def test_providers_by_device_with_the_cpu_last(device, wanted):
    found = [name for name, _ in choose_providers(device, ALL)]
    assert found == [*(f"{one}ExecutionProvider" for one in wanted), "CPUExecutionProvider"]
    assert [name for name, _ in choose_providers(device, ALL[-1:])] == ["CPUExecutionProvider"]


@pytest.mark.parametrize("device", ["cuda:0", "tensorrt:0", "openvino", "mps"])
@pytest.mark.filterwarnings("ignore")
def test_a_provider_that_does_not_start_leaves_the_network_to_the_cpu(tmp_path, monkeypatch, caplog, device):
    path = files.export(network(), tmp_path / "net.onnx", (1, 3, 16, 16), dynamic=(0, 2, 3))
    monkeypatch.setattr(onnx_session.onnxruntime, "get_available_providers", lambda: ALL)
    start = onnxruntime.InferenceSession
    asked = []

    def session(path, options, providers):
        asked.append(providers[0][0])
        if len(asked) == 1 and providers[0][0] != ALL[-1]:
            raise ort_errors.EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : the driver is too old")
        return start(path, options, providers=providers)

    monkeypatch.setattr(onnx_session.onnxruntime, "InferenceSession", session)
    with caplog.at_level(logging.INFO):
        loaded = OnnxNetwork(path, device, 1)
    assert loaded.providers == ("CPUExecutionProvider",)
    assert len(asked) == 2
    assert "the driver is too old" in caplog.text
    assert f"cannot use the device {device}: the CPU is used" in caplog.text
    image = np.ones((1, 3, 16, 16), np.float32)
    with torch.no_grad():
        wanted = network()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(loaded.run({"images": image}, ["output"])[0], wanted, atol=1e-5)


def test_a_broken_network_is_no_fault_of_the_provider(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x12\x00:\x00")
    with pytest.raises(ModelError, match="ONNX Runtime cannot load the network"):
        OnnxNetwork(tmp_path / "net.onnx", "cpu", 1)
