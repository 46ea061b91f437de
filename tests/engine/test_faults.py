"""Jobs that go wrong: killed workers, cancel and resume, other numbers of workers, a cluster.

The oracle is the same every time: the bytes of the output of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobCancelled
from pictures import write_scene
from processes import family
from real_engine import run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIDE = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("faults")
    os.environ["DEEP_RASTER_CACHE"] = str(made / "cache")
    yield made
    del os.environ["DEEP_RASTER_CACHE"]


@pytest.fixture(scope="module")
def scene(folder):
    return write_scene(folder / "scene.tif", SIDE)


@pytest.fixture(scope="module")
def model(folder):
    """A fully convolutional network with fixed random weights, three classes, any input size."""
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    chance = np.random.default_rng(1)
    nodes, weights, last = [], [], "image"
    channels = [3, 24, 24, 24, 3]
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        weights.append(tensor((chance.normal(0, 1, (b, a, 3, 3)) / (3 * a**0.5)).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last = f"r{i}" if i + 2 < len(channels) else f"c{i}"
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [*nodes[:-1], helper.make_node("Softmax", [last], ["probabilities"], axis=1)],
        "net",
        [helper.make_tensor_value_info("image", kind, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("probabilities", kind, ["n", 3, "h", "w"])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, folder / "net.onnx")
    emd = folder / "net.emd"
    classes = ",".join(f'{{"Value": {i}, "Name": "k{i}", "Color": [{i * 50}, 9, 9]}}' for i in (1, 2, 3))
    emd.write_text(
        '{"Framework": "ONNX", "ModelType": "ImageClassification", "ModelFile": "net.onnx", "ImageHeight": 256,'
        f' "ImageWidth": 256, "ExtractBands": [0, 1, 2], "Classes": [{classes}]}}'
    )
    return str(emd)


def job(scene, model, output, **options):
    return jobs.ClassifyPixels((jobs.RasterInput(scene),), model, str(output), jobs.RunOptions(**options))


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(folder, scene, model):
    path = folder / "undisturbed.tif"
    run(job(scene, model, path, workers=2))
    with rasterio.open(path) as file:
        classes, valid = file.read(1), file.read_masks(1) > 0
    assert set(np.unique(classes[valid])) == {1, 2, 3}
    assert not valid[:200, :300].any() and valid[200:, 300:].all()
    return path


def predicts(event):
    return "Predicting: part" in getattr(event, "text", "")


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_byte(folder, scene, model, undisturbed, workers):
    path = folder / f"workers{workers}.tif"
    run(job(scene, model, path, workers=workers))
    assert digest(path) == digest(undisturbed)


def test_killed_workers_change_no_byte(folder, scene, model, undisturbed):
    path, killed, stop, told = folder / "killed.tif", [], threading.Event(), []

    def killer():
        """Kill one worker as soon as there is one, and all of them while tiles are predicted."""
        while len(killed) < 2 and not stop.wait(0.02):
            if not killed or any(map(predicts, told)):
                workers = [pid for pid, command in family(os.getpid()).items() if "launch.py worker" in command]
                for pid in workers[: None if killed else 1]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        run(job(scene, model, path, workers=3), told)
    finally:
        stop.set()
        thread.join()
    assert len(killed) >= 2
    assert any("replaced" in getattr(event, "text", "") for event in told)
    assert digest(path) == digest(undisturbed)


def test_cancelled_twice_and_resumed_changes_no_byte(folder, scene, model, undisturbed):
    path = folder / "resumed.tif"
    asked = job(scene, model, path, workers=2)
    for after in (1, 2):
        told = []
        with pytest.raises(JobCancelled):
            run(asked, told, lambda told=told, after=after: sum(map(predicts, told)) >= after)
        assert not path.exists()
    told = []
    run(asked, told)
    assert any("finished already" in getattr(event, "text", "") for event in told)
    assert digest(path) == digest(undisturbed)
    assert sorted(one.name for one in folder.iterdir() if "resumed" in one.name) == [
        "resumed.tif",
        "resumed.tif.aux.xml",
    ]


def test_an_existing_output_stays_until_the_new_one_is_whole(folder, scene, model, undisturbed):
    path = folder / "old.tif"
    path.write_bytes(b"the old one")
    count = []

    def is_cancelled():
        count.append(1)
        return len(count) > 15

    with pytest.raises(JobCancelled):
        run(job(scene, model, path, workers=1), is_cancelled=is_cancelled)
    assert path.read_bytes() == b"the old one"
    run(job(scene, model, path, workers=2))
    assert digest(path) == digest(undisturbed)


def test_a_cluster_changes_no_byte_also_when_a_node_dies(folder, scene, model, undisturbed, monkeypatch):
    pytest.importorskip("distributed")
    from .workers.test_cluster import NODE, Cluster

    scratch = folder / "shared"
    scratch.mkdir()
    monkeypatch.setenv("DEEP_RASTER_SCRATCH", str(scratch))
    (folder / "nodes").mkdir()
    cluster = Cluster(folder / "nodes", preload=NODE)
    path = folder / "cluster.tif"

    parts = []

    def kill_in_the_middle(event):
        if predicts(event):
            parts.append(event)
            cluster.processes[-1].kill()

    try:
        cluster.connect().close()
        run(job(scene, model, path, cluster=cluster.address), kill_in_the_middle)
    finally:
        cluster.close()
    assert parts
    assert digest(path) == digest(undisturbed)
