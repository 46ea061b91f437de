"""Jobs that go wrong: killed workers, cancel and resume, other numbers of workers, a cluster.

The oracle is the same every time: the bytes of the output of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from deep_raster.engine import client, events, jobs
from deep_raster.engine.environment import Environment
from deep_raster.engine.errors import JobCancelled
from rasterio.transform import from_origin

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
    """A raster with some structure, so that classes are not noise, and a corner without data."""
    chance = np.random.default_rng(5)
    rough = chance.integers(0, 255, (3, SIDE // 50 + 1, SIDE // 50 + 1))
    pixels = rough.repeat(50, 1).repeat(50, 2)[:, :SIDE, :SIDE] // 2 + chance.integers(1, 120, (3, SIDE, SIDE))
    pixels = pixels.astype(np.uint8)
    pixels[:, :200, :300] = 0
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "nodata": 0}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(4e5, 5e6, 0.5, 0.5), **profile) as file:
        file.write(pixels)
    return str(path)


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


def run(asked, told=None, is_cancelled=lambda: False):
    environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
    sink = told.append if told is not None else (lambda event: None)
    return client.run_job(asked, on_event=sink, is_cancelled=is_cancelled, environment=environment)


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


def workers_of(pid):
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    engines = {int(row[0]) for row in rows if int(row[1]) == pid and "launch.py engine" in row[2]}
    return [int(row[0]) for row in rows if int(row[1]) in engines and "launch.py worker" in row[2]]


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
            if not killed or any("Predicting: part" in getattr(event, "text", "") for event in told):
                for pid in workers_of(os.getpid())[: None if killed else 1]:
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
        parts = []

        def stop(event, parts=parts):
            if isinstance(event, events.Progress) and "Predicting: part" in event.text:
                parts.append(event)

        started = []

        def is_cancelled(parts=parts, started=started, after=after):
            if len(parts) >= after and not started:
                started.append(time.monotonic())
            return bool(started)

        environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
        with pytest.raises(JobCancelled):
            client.run_job(asked, on_event=stop, is_cancelled=is_cancelled, environment=environment)
        assert time.monotonic() - started[0] < 2.0
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
    sys.path.insert(0, str(Path(__file__).parent / "workers"))
    from test_cluster import NODE, Cluster

    scratch = folder / "shared"
    scratch.mkdir()
    monkeypatch.setenv("DEEP_RASTER_SCRATCH", str(scratch))
    (folder / "nodes").mkdir()
    cluster = Cluster(folder / "nodes", preload=NODE)
    path = folder / "cluster.tif"

    def kill():
        time.sleep(6.0)
        cluster.processes[-1].kill()

    thread = threading.Thread(target=kill)
    try:
        cluster.connect().close()
        thread.start()
        run(job(scene, model, path, cluster=cluster.address))
        thread.join()
    finally:
        cluster.close()
        sys.path.pop(0)
    assert digest(path) == digest(undisturbed)
