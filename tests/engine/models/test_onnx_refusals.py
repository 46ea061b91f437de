"""ONNX files that are broken, contradict their definition or reach outside; devices and memory."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from deep_raster.engine.errors import DefinitionError, ModelError, PackageError
from deep_raster.engine.models.network import Feeder, OutOfDeviceMemory, TensorInfo
from deep_raster.engine.models.normalisation import Normalisation
from deep_raster.engine.models.onnx_describe import describe_onnx
from deep_raster.engine.models.onnx_session import choose_providers
from deep_raster.engine.models.roles import NetworkRoles
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from .onnx_support import files, load, segmentation  # noqa: E402


def test_truncated_file(tmp_path):
    path = files.export(segmentation(3), tmp_path / "net.onnx", (1, 3, 32, 32))
    members = describe_onnx(path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ModelError, match="damaged, truncated"):
        load(tmp_path, members)


def test_contradictions_with_the_definition(tmp_path):
    members = describe_onnx(files.export(segmentation(3), tmp_path / "net.onnx", (1, 3, 32, 32)))
    with pytest.raises(ModelError, match="3 channels, but the definition lists 5 classes"):
        load(tmp_path, members, Classes=files.classes(5))
    with pytest.raises(DefinitionError, match="32 pixels width only, but the definition says 64"):
        load(tmp_path, members, ImageWidth=64)
    with pytest.raises(DefinitionError, match="takes 3 bands, but ExtractBands of the definition names 4"):
        load(tmp_path, members, ExtractBands=[0, 1, 2, 3])
    wrong = {"Name": "Network", "Output": {"Kind": "PixelScores", "Tensors": {"Main": "mask"}}}
    with pytest.raises(DefinitionError, match="no output called 'mask'"):
        load(tmp_path, members, ModelConfiguration=wrong)
    with pytest.raises(DefinitionError, match="padding must be a whole number"):
        load(tmp_path, members, {"padding": "2.5"})


def external(folder, location, length=None):
    path = files.export(segmentation(3), folder / "net.onnx", (1, 3, 32, 32))
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
            if entry.key == "length" and length:
                entry.value = length
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_inside_the_package(tmp_path):
    path = external(tmp_path, "weights.bin")
    members = describe_onnx(path)
    batch = files.pixels((1, 3, 32, 32))
    net = segmentation(3)
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(load(tmp_path, members).scores(batch, files.everywhere(batch)), wanted, atol=1e-4)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "C:\\secret", "a/../../secret", "missing.bin"])
def test_external_data_outside_the_package(tmp_path, location):
    (tmp_path / "secret").write_bytes(b"x" * 10_000)
    (tmp_path / "model").mkdir()
    with pytest.raises(PackageError, match="not a file of the package"):
        describe_onnx(external(tmp_path / "model", location))


def test_external_data_through_a_link_or_too_long(tmp_path):
    path = external(tmp_path, "weights.bin", length="99999999")
    with pytest.raises(PackageError, match="truncated"):
        describe_onnx(path)
    (tmp_path / "model").mkdir()
    path = external(tmp_path / "model", "link.bin")
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(PackageError, match="not a file of the package"):
        describe_onnx(path)


def test_operators_of_unknown_sets_are_refused_even_in_branches(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("Steal", ["images"], ["inner"], domain="evil")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    with pytest.raises(PackageError, match="operator Steal of the set 'evil'"):
        describe_onnx(tmp_path / "net.onnx")


def test_execution_providers():
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider"]
    assert [name for name, _ in choose_providers("cuda:1", available)] == [
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    assert choose_providers("cuda:1", available)[0][1]["device_id"] == 1
    assert [name for name, _ in choose_providers("tensorrt:0", available)][:2] == available[:2]
    assert next(name for name, _ in choose_providers("cuda:0", available[2:])) == "DmlExecutionProvider"
    assert [name for name, _ in choose_providers("cpu", available)] == ["CPUExecutionProvider"]


def test_out_of_memory_halves_the_batch(caplog):
    class Small:
        inputs = (TensorInfo("x", "float32", (None, 1, 4, 4)),)
        outputs = (TensorInfo("y", "float32", (None, 1, 4, 4)),)
        sizes: list[int] = []  # noqa: RUF012 - one test, one instance

        def run(self, feeds, wanted):
            self.sizes.append(len(feeds["x"]))
            if len(feeds["x"]) > 2:
                raise OutOfDeviceMemory("no room")
            return [feeds["x"]]

    roles = NetworkRoles.from_members({"Output": {"Kind": "Bands"}})
    batch = files.pixels((7, 1, 4, 4))
    feeder = Feeder(Small(), roles, Normalisation(), 8)
    parts = [outputs["Main"] for _, outputs in feeder(batch, files.everywhere(batch))]
    np.testing.assert_array_equal(np.concatenate(parts), batch.astype("float32"))
    assert Small.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert "does not suffice for 7 images at once; going on with 3 images" in caplog.text
