"""A real network, the real loader and the real engine process with its workers: exact tiles, same bytes, one killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from deep_raster.engine import client, events, jobs
from deep_raster.engine.environment import VARIABLE
from deep_raster.engine.inference import classify_pixels
from inference_support import NORTH_UP, InProcessSession, write_raster

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def network(tmp_path):
    """A fully convolutional network with a pooling step: stride 2, reach of some ten pixels, random weights."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(2)

    def weights(name, *shape):
        return numpy_helper.from_array((random.normal(0, 0.4, shape)).astype(np.float32), name)

    held = [
        weights("w1", 4, 2, 3, 3), weights("w2", 6, 4, 5, 5), weights("w3", 3, 10, 3, 3),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "w2"], ["d"], pads=[2] * 4),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Resize", ["e", "", "twice"], ["f"], mode="nearest"),
        helper.make_node("Concat", ["b", "f"], ["g"], axis=1),
        helper.make_node("Conv", ["g", "w3"], ["h"], pads=[1] * 4),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        held,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    definition = {
        "Framework": "ONNX",
        "ModelConfiguration": {
            "Name": "Network", "Input": {"Multiple": 2}, "Output": {"Kind": "PixelScores", "Activation": "none"},
        },
        "ModelType": "ImageClassification", "ModelFile": "net.onnx", "ImageWidth": 64, "ImageHeight": 64,
        "ExtractBands": [1, 0], "Normalization": {"Method": "scale", "Scale": 255},
        "Classes": [{"Value": value, "Name": f"class {value}"} for value in (3, 5, 9)],
    }  # fmt: skip
    (tmp_path / "net.emd").write_text(json.dumps(definition))
    return str(tmp_path / "net.emd")


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1302, 1500), dtype=np.uint8)
    return pixels, write_raster(tmp_path / "picture.tif", pixels, NORTH_UP, tiled=True, compress="deflate")


def whole_pass(network, pixels):
    """Return the class values of one pass over the whole image, asked of ONNX Runtime directly."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(Path(network).with_suffix(".onnx")), options)
    (scores,) = session.run(None, {"x": pixels[None, ::-1].astype(np.float32) / 255})
    return np.array([3, 5, 9])[scores[0].argmax(0)]


def test_tiles_of_a_real_network_equal_one_pass(tmp_path, session, network, picture):
    pixels, raster = picture
    output = tmp_path / "o.tif"
    classify_pixels.run(jobs.ClassifyPixels((jobs.RasterInput(raster),), network, str(output)), session)
    told = [getattr(one, "text", "") for one in session.events]
    assert any("exact padding" in one and "in 1 tile " not in one for one in told)
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_pass(network, pixels))


def children(pid):
    found = []
    for one in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = one.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parts[1]) == pid:
            found.append(int(one.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_engine_gives_the_same_bytes_with_any_number_of_workers_and_a_killed_one(
    tmp_path, monkeypatch, network, picture
):
    monkeypatch.setenv(VARIABLE, sys.executable)
    raster = picture[1]
    in_process = tmp_path / "0" / "o.tif"
    one = jobs.ClassifyPixels((jobs.RasterInput(raster),), network, str(in_process))
    classify_pixels.run(one, InProcessSession(tmp_path))
    digests = {hashlib.sha256(in_process.read_bytes()).hexdigest()}
    killed = []

    def kill_one(event):
        if isinstance(event, events.Progress) and event.text.startswith("Predicting") and not killed:
            engines = [pid for pid in children(os.getpid()) if children(pid)]
            killed.append(children(engines[0])[0])
            os.kill(killed[0], signal.SIGKILL)

    for workers, listen in ((1, lambda _: None), (2, kill_one)):
        output = tmp_path / str(workers) / "o.tif"
        options = jobs.RunOptions(workers=workers, processor=jobs.CPU)
        job = jobs.ClassifyPixels((jobs.RasterInput(raster),), network, str(output), options)
        assert client.run_job(job, on_event=listen, is_cancelled=lambda: False) == {"OUTPUT": str(output)}
        digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
    assert killed
    assert len(digests) == 1
