"""What it takes until the first tile is done, for each framework: with a new engine, and as a warm engine's second job.

    python benchmarks/startup.py [--rounds 3] [--only ONNX,TorchScript,...]

A job on a raster of 1,024 x 1,024 pixels goes through the client to an engine with one worker; what counts is the time
until the first part (tiles or features) is reported as done. Cold: from the start of the engine's process, with nothing
cached but the files themselves, which the system has read before. Warm: a second job of the same package with the same
engine. Networks are small, so that the start is measured and not the computing; those of arcgis.learn and Mask R-CNN
(ResNet-18 and ResNet-50) have the size they have. Rounds of all frameworks are interleaved.

README.md beside this file holds what was measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, NamedTuple

import checkout
import numpy as np
import rasterio
from engines import WarmEngine
from measure import Table, machine, middle, progress
from rasterio.transform import from_origin

from deep_raster.engine import events, jobs  # isort: skip
from deep_raster.engine.package.dlpk import open_package  # isort: skip
from deep_raster.engine.package.trust import needs_of  # isort: skip

SIDE = 1024
_CLASSES = [{"Value": value, "Name": f"kind {value}", "Color": [value, 60, 60]} for value in (1, 2, 3)]
_IMAGE = {"ImageHeight": 256, "ImageWidth": 256, "ExtractBands": [0, 1, 2], "Classes": _CLASSES}
_PIXELS = {**_IMAGE, "ModelType": "ImageClassification", "Padding": 0}
_FUNCTION = """
import json
class Bright:
    def initialize(self, **kwargs):
        self.emd = json.load(open(kwargs["model"]))
    def getParameterInfo(self):
        return [{"name": "raster", "dataType": "raster"}, {"name": "padding", "dataType": "numeric", "value": 0}]
    def getConfiguration(self, **scalars):
        return {"extractBands": (0, 1, 2), "padding": 0, "tx": 256, "ty": 256, "fixedTileSize": 1, "inputMask": True}
    def updateRasterInfo(self, **kwargs):
        kwargs["output_info"].update(bandCount=1, pixelType="u1")
        return kwargs
    def updatePixels(self, tlc, shape, props, **blocks):
        brightest = blocks["raster_pixels"].argmax(axis=0)[None] + 1
        return dict(blocks, output_pixels=brightest.astype(props["pixelType"]))
"""


def onnx(folder: Path) -> dict[str, Any]:
    """A convolution of one pixel as ONNX."""
    from models import make

    made = make(folder, "pointwise")
    members = json.loads(made.read_text())
    shutil.copy(made.parent / members["ModelFile"], folder)
    return members


def torchscript(folder: Path) -> dict[str, Any]:
    """The same as TorchScript."""
    import torch
    from models import pointwise

    torch.jit.script(pointwise().eval()).save(folder / "net.pt")
    role = {"Name": "Network", "Output": {"Kind": "PixelScores", "Activation": "softmax"}}
    normalised = {"Method": "scale", "Scale": 255, "Fill": 0}
    members = {"Framework": "TorchScript", "ModelConfiguration": role, "ModelFile": "net.pt"}
    return {**_PIXELS, **members, "Normalization": normalised}


def own(folder: Path) -> dict[str, Any]:
    """A shallow U-Net of the kind that is trained here."""
    import torch
    from deep_raster.engine.models import networks

    configuration = {"Name": "DeepRaster", "Task": "segmentation", "Architecture": "unet", "Backbone": "resnet18"}
    configuration |= {"Depth": 3, "DecoderChannels": [16, 8, 8]}
    torch.save(networks.build(configuration, 3, 3, (256, 256)).state_dict(), folder / "net.pth")
    members = {"Framework": "PyTorch", "ModelConfiguration": configuration, "ModelFile": "net.pth"}
    moments = {"Method": "mean_std", "Mean": [128.0] * 3, "Std": [64.0] * 3}
    return {**_PIXELS, **members, "Normalization": moments}


def arcgis(folder: Path) -> dict[str, Any]:
    """A UnetClassifier over ResNet-18 with numbers under the names that arcgis.learn writes."""
    import torch

    support = _tests("torch_support")
    members = support.members("unet_resnet18")
    torch.save(support.seeded_state("unet_resnet18"), folder / members["ModelFile"])
    return members


def frozen_graph(folder: Path) -> dict[str, Any]:
    """A convolution of one pixel as DeepLab's exporter would write it."""
    _make_with_tensorflow("graph", folder)
    return {**_PIXELS, "Framework": "TensorFlow", "ModelConfiguration": "DeepLab", "ModelFile": "net.pb"}


def keras_classifier(folder: Path) -> dict[str, Any]:
    """A small Keras network for chips."""
    _make_with_tensorflow("keras", folder)
    members = {"Framework": "Keras", "ModelConfiguration": "KerasClassifier", "ModelFile": "net.keras"}
    return {**_IMAGE, **members, "ModelType": "ObjectClassification", "ImageHeight": 64, "ImageWidth": 64}


def mask_rcnn(folder: Path) -> dict[str, Any]:
    """Matterport's network over ResNet-50 with narrow heads, on tiles of 512 pixels."""
    _make_with_tensorflow("mask", folder)
    settings = {"BACKBONE": "resnet50", "IMAGE_MIN_DIM": 512, "IMAGE_MAX_DIM": 512, "POST_NMS_ROIS_INFERENCE": 50}
    members = {"Framework": "Keras", "ModelConfiguration": {"Name": "MaskRCNN", **settings}, "ModelFile": "net.h5"}
    side = {"ImageHeight": 512, "ImageWidth": 512, "ModelType": "ObjectDetection", "Classes": _CLASSES[:2]}
    return {**_IMAGE, **members, **side}


def raster_function(folder: Path) -> dict[str, Any]:
    """A Python raster function that imports numpy alone."""
    (folder / "Bright.py").write_text(_FUNCTION)
    members = {"Framework": "", "InferenceFunction": "Bright.py", "ModelFile": "weights.txt"}
    (folder / "weights.txt").write_text("none")
    return {**_PIXELS, **members}


FRAMEWORKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ONNX": onnx,
    "TorchScript": torchscript,
    "PyTorch, trained here": own,
    "arcgis.learn": arcgis,
    "TensorFlow frozen graph": frozen_graph,
    "Keras classifier": keras_classifier,
    "Keras Mask R-CNN": mask_rcnn,
    "raster function": raster_function,
}


def _tests(name: str) -> ModuleType:
    """Return a module of the tests of models, which hold the builders of networks; they import their neighbours."""
    tests = checkout.ROOT / "tests"
    sys.path[:0] = [one for one in (str(tests), str(tests / "support")) if one not in sys.path]
    return importlib.import_module(f"engine.models.{name}")


def _make_with_tensorflow(what: str, folder: Path) -> None:
    """Let a process of its own write a network, as TensorFlow and torchvision cannot share one."""
    command = [sys.executable, __file__, "--make", what, str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def make_here(what: str, folder: Path) -> None:
    """Write a network of TensorFlow or Keras."""
    if what == "mask":
        import torchvision  # noqa: F401 - TensorFlow first would end the process

        network, *_ = _tests("test_keras_mask_rcnn").build()
        network.save_weights(str(folder / "net.h5"))
        return
    import tensorflow as tf

    if what == "keras":
        import keras

        layers = [keras.layers.Conv2D(8, 9, strides=4), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3)]
        keras.Sequential([keras.layers.Input((64, 64, 3)), *layers]).save(folder / "net.keras")
        return
    graph = tf.compat.v1.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3], name="ImageTensor")
        weights = np.random.default_rng(1).normal(size=(1, 1, 3, 3)).astype("float32")
        logits = tf.nn.conv2d(tf.cast(image, tf.float32), weights, 1, "SAME")
        tf.add(tf.argmax(logits, 3, output_type=tf.int32), 1, name="SemanticPredictions")
    (folder / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())


class Start(NamedTuple):
    """CPU seconds and seconds until the first part was done."""

    cpu: float
    wall: float


def start(engine: WarmEngine, job: jobs.Job, since: float, before: float) -> Start:
    """Have a job done and return what it took until its first part was."""
    found: list[Start] = []

    def look(event: events.Event) -> None:
        if not found and isinstance(event, events.Progress) and event.text.startswith("Predicting: part"):
            found.append(Start(engine.tree.cpu - before, time.monotonic() - since))

    engine.engine.run(job, look, lambda: False)
    return found[0]


def measure(scene: Path, model: Path, scratch: Path) -> tuple[Start, Start]:
    """Return the cold and the warm start."""
    package = open_package(model, cache=scratch / "packages")
    trust = (package.digest,) if needs_of(package) else ()
    options = jobs.RunOptions(processor=jobs.CPU, workers=1, trust=trust)
    inputs, output = (jobs.RasterInput(str(scene)),), str(scratch / "out")
    kinds: dict[str, Callable[[], jobs.Job]] = {
        "ImageClassification": lambda: jobs.ClassifyPixels(inputs, str(model), f"{output}.tif", options),
        "ObjectDetection": lambda: jobs.DetectObjects(inputs, str(model), f"{output}.gpkg", options),
        "ObjectClassification": lambda: jobs.ClassifyObjects(inputs, str(model), f"{output}.gpkg", options=options),
    }
    job = kinds[package.definition.model_type]()
    since = time.monotonic()
    with WarmEngine(scratch) as engine:
        cold = start(engine, job, since, 0.0)
        warm = start(engine, job, time.monotonic(), engine.tree.cpu)
    return cold, warm


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of frameworks, separated by commas")
    parser.add_argument("--make", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        make_here(given.make[0], Path(given.make[1]))
        return
    chosen = [name for name in FRAMEWORKS if not given.only or name in given.only.split(",")]
    scratch = Path(tempfile.mkdtemp(prefix="deep_raster_startup_"))
    try:
        scene = scratch / "scene.tif"
        pixels = np.random.default_rng(1).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
        profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": SIDE, "width": SIDE, "tiled": True}
        with rasterio.open(scene, "w", crs="EPSG:32633", transform=from_origin(5e5, 5e6, 1, 1), **profile) as file:
            file.write(pixels)
        found: dict[str, list[tuple[Start, Start]]] = {name: [] for name in chosen}
        for name in chosen:
            folder = scratch / name.replace(" ", "_")
            folder.mkdir()
            progress(f"making {name}")
            members = FRAMEWORKS[name](folder)
            for old in folder.glob("*.emd"):
                old.unlink()
            (folder / "model.emd").write_text(json.dumps(members))
        for number in range(given.rounds):
            for name in chosen:
                place = scratch / f"run_{number}_{name.replace(' ', '_')}"
                place.mkdir()
                found[name].append(measure(scene, scratch / name.replace(" ", "_") / "model.emd", place))
                progress(f"{name}: {found[name][-1]}")
                shutil.rmtree(place)
        print(machine())
        table = Table(
            "Start-up to the first finished part", "package", "cold, CPU s", "cold, s", "warm, CPU s", "warm, s"
        )
        for name, rounds in found.items():
            figures = [[one.cpu for one, _ in rounds], [one.wall for one, _ in rounds]]
            figures += [[one.cpu for _, one in rounds], [one.wall for _, one in rounds]]
            table.row(name, *(f"{middle(values):.2f}" for values in figures))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
