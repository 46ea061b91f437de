"""Scenes, networks and jobs of the nightly tests; everything is the same in every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import rasterio
from deep_raster.engine import jobs
from deep_raster.engine.package.dlpk import write_package
from pictures import write_scene


def write_pixel_network(folder: Path, side: int = 256) -> str:
    """Write a small convolutional network of fixed weights, three classes and tiles of ``side``; return its .emd."""
    folder.mkdir(parents=True, exist_ok=True)
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    chance = np.random.default_rng(1)
    weights = [
        tensor((chance.normal(0, 1, (8, 3, 3, 3)) / 5).astype(np.float32), "a"),
        tensor((chance.normal(0, 1, (3, 8, 3, 3)) / 8).astype(np.float32), "b"),
    ]
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["c"], **same),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["d"], **same),
        helper.make_node("Softmax", ["d"], ["probabilities"], axis=1),
    ]
    kind, shape = onnx.TensorProto.FLOAT, ["n", 3, side, side]
    image = helper.make_tensor_value_info("image", kind, shape)
    scores = helper.make_tensor_value_info("probabilities", kind, shape)
    graph = helper.make_graph(nodes, "net", [image], [scores], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "net.onnx")
    classes = [{"Value": i, "Name": f"k{i}", "Color": [i * 50, 9, 9]} for i in (1, 2, 3)]
    members = {"Framework": "ONNX", "ModelType": "ImageClassification", "ModelFile": "net.onnx", "ImageHeight": side}
    members |= {"ImageWidth": side, "ExtractBands": [0, 1, 2], "Classes": classes}
    path = folder / "net.emd"
    path.write_text(json.dumps(members))
    return str(path)


def pixel_job(scene, model, output, **options) -> jobs.ClassifyPixels:
    """Return the job that classifies the scene on four workers."""
    chosen = jobs.RunOptions(**{"workers": 4, "arguments": {"padding": "0"}, **options})
    return jobs.ClassifyPixels((jobs.RasterInput(scene),), model, str(output), chosen)


def write_numbered_scene(path: Path, tiles: int) -> str:
    """Write a scene of ``tiles`` x ``tiles`` tiles of 256 pixels, each with its number in its first pixel."""
    write_scene(path, tiles * 256)
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        for number in range(tiles * tiles):
            row, column = divmod(number, tiles)
            pixels[0, row * 256, column * 256], pixels[1, row * 256, column * 256] = divmod(number, 256)
            pixels[2, row * 256, column * 256] = 1
        file.nodata = None
        file.write(pixels)
    return str(path)


def write_function_package(path: Path):
    """Package ``nightly_function.py``; return (path, hash that allows its code)."""
    classes = [{"Value": i, "Name": f"k{i}", "Color": [i * 50, 9, 9]} for i in (1, 2)]
    members = {"ModelType": "ImageClassification", "InferenceFunction": "nightly_function.py", "ImageHeight": 256}
    members |= {"ImageWidth": 256, "ExtractBands": [0, 1, 2], "Classes": classes, "ModelFile": "weights.txt"}
    members |= {"Framework": "", "ModelConfiguration": ""}
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = path.parent / "weights.txt"
    weights.write_text("90")
    function = Path(__file__).with_name("nightly_function.py")
    made = write_package(path, members, {"nightly_function.py": function, "weights.txt": weights})
    return str(path), made.digest


def function_job(scene, package, output, **arguments) -> jobs.ClassifyPixels:
    """Return the job that runs the packaged function on four workers; its faults are in the scene's fault.json."""
    path, trust = package
    fault = str(Path(scene).with_name("fault.json"))
    chosen = jobs.RunOptions(workers=4, trust=(trust,), arguments={"fault": fault, **arguments})
    return jobs.ClassifyPixels((jobs.RasterInput(scene),), path, str(output), chosen)


def set_fault(scene, **fault) -> None:
    """Say how the function misbehaves in the next jobs on this scene."""
    Path(scene).with_name("fault.json").write_text(json.dumps(fault))
