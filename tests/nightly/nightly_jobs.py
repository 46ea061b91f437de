"""One small job of each kind that writes something, for faults that concern outputs, cancel and crashes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyogrio
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.package.dlpk import open_package, write_package
from nightly_models import write_pixel_network
from nightly_support import digest
from pictures import write_scene
from training_chips import detection_folder


@dataclass(frozen=True)
class Kind:
    """A kind of job: its name, the job for a target folder, and the paths below it that are its outputs."""

    name: str
    make: object
    outputs: tuple

    def job(self, folder: Path):
        """Return the job that writes into ``folder``."""
        return self.make(Path(folder))

    def there(self, folder: Path) -> list[str]:
        """Return the outputs of which anything is there."""
        found = [(one, Path(folder) / one) for one in self.outputs]
        return [
            one
            for one, path in found
            if path.is_file() or (path.is_dir() and any(x.name[0] != "." for x in path.iterdir()))
        ]

    def state(self, folder: Path) -> str:
        """Return "" if nothing is at the outputs, else a digest of all of them."""
        there = self.there(folder)
        if not there:
            return ""
        if self.name == "training":
            # Two trainings may differ in a time of day: what counts is that the package is whole.
            return open_package(str(Path(folder) / there[0])).definition.model_type
        return " ".join(digest(Path(folder) / one) if one in there else "-" for one in self.outputs)

    def is_whole(self, folder: Path, output: str, expected: str) -> bool:
        """Return whether an output is as in the undisturbed run, whose :meth:`state` was ``expected``."""
        return self.state(folder).split()[self.outputs.index(output)] == expected.split()[self.outputs.index(output)]


def all_kinds(folder: Path, side: int = 5 * 256) -> dict[str, Kind]:
    """Write the inputs below ``folder`` and return the kinds by name."""
    scene = jobs.RasterInput(write_scene(folder / "scene" / "scene.tif", side))
    network = write_pixel_network(folder / "net")
    options = jobs.RunOptions(workers=2, arguments={"padding": "0"})
    plain = jobs.RunOptions(workers=2)
    finder, trust = _finder(folder / "finder" / "finder.dlpk")
    features = _features(folder / "features" / "features.gpkg", side)
    labeller = _labeller(folder / "labeller")
    chips = str(detection_folder(folder / "chips", chips=12))
    own = jobs.RunOptions(workers=2, trust=(trust,))

    def pixels(target):
        return jobs.ClassifyPixels((scene,), network, str(target / "classes.tif"), options)

    def all_rasters(target):
        more = {"confidence_output": "confidence.tif", "probabilities_output": "probabilities.tif"}
        return dataclasses.replace(pixels(target), **{name: str(target / file) for name, file in more.items()})

    def polygons(target):
        return dataclasses.replace(pixels(target), polygons_output=str(target / "polygons.gpkg"))

    def several(target):
        places = {"confidence_output": "b/confidence.tif", "polygons_output": "c/polygons.gpkg"}
        return dataclasses.replace(pixels(target / "a"), **{name: str(target / file) for name, file in places.items()})

    def detect(target):
        return jobs.DetectObjects((scene,), finder, str(target / "objects.gpkg"), own, run_nms=False)

    def objects(target):
        return jobs.ClassifyObjects((scene,), labeller, str(target / "labelled.gpkg"), features, options=plain)

    def export(target):
        return jobs.ExportTrainingData(
            (scene,), str(target / "chips"), "PASCAL_VOC_rectangles", labels=features, class_field="Class",
            tile_size_x=64, tile_size_y=64, existing="CONTINUE", workers=2,
        )  # fmt: skip

    def training(target):
        sizes = {"width": "8", "channels": "16", "head_convs": "1"}
        return jobs.TrainModel(
            (chips,), str(target / "trained"), "FCOS", epochs=2, batch_size=4, validation=0.25, processor="CPU",
            arguments=sizes, name="trees",
        )  # fmt: skip

    def package(target):
        return jobs.CreatePackage(network, str(target / "packed.dlpk"))

    kinds = [
        Kind("pixels", pixels, ("classes.tif",)),
        Kind("rasters", all_rasters, ("classes.tif", "confidence.tif", "probabilities.tif")),
        Kind("polygons", polygons, ("classes.tif", "polygons.gpkg")),
        Kind("several", several, ("a/classes.tif", "b/confidence.tif", "c/polygons.gpkg")),
        Kind("detect", detect, ("objects.gpkg",)),
        Kind("objects", objects, ("labelled.gpkg",)),
        Kind("export", export, ("chips",)),
        Kind("training", training, ("trained/trees.dlpk",)),
        Kind("package", package, ("packed.dlpk",)),
    ]
    return {one.name: one for one in kinds}


def _finder(path: Path):
    path.parent.mkdir(parents=True)
    members = {"Framework": "", "ModelConfiguration": "", "ModelType": "ObjectDetection", "ImageHeight": 256}
    members |= {"InferenceFunction": "nightly_detector.py", "ImageWidth": 256, "ExtractBands": [0, 1, 2]}
    members |= {"Classes": [{"Value": 1, "Name": "k1", "Color": [9, 9, 9]}]}
    made = write_package(path, members, {"nightly_detector.py": Path(__file__).with_name("nightly_detector.py")})
    return str(path), made.digest


def _features(path: Path, side: int) -> jobs.VectorInput:
    path.parent.mkdir(parents=True)
    chance = np.random.default_rng(8)
    x, y = (chance.uniform(20, side - 40, 400) for _ in range(2))
    boxes = shapely.box(4e5 + x / 2, 5e6 - y / 2 - 8, 4e5 + x / 2 + 8, 5e6 - y / 2)
    classes = chance.integers(1, 4, 400)
    pyogrio.raw.write(str(path), shapely.to_wkb(boxes), [classes], ["Class"], geometry_type="Polygon", crs="EPSG:32633")
    return jobs.VectorInput(str(path))


def _labeller(folder: Path) -> str:
    folder.mkdir(parents=True)
    helper = onnx.helper
    image = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, 32, 32])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", 3])
    nodes = [helper.make_node("GlobalAveragePool", ["images"], ["mean"])]
    nodes.append(helper.make_node("Flatten", ["mean"], ["scores"]))
    graph = helper.make_graph(nodes, "label", [image], [scores])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "label.onnx")
    members = {"Framework": "ONNX", "ModelType": "ObjectClassification", "ModelFile": "label.onnx", "ImageHeight": 32}
    members |= {"ImageWidth": 32, "ExtractBands": [0, 1, 2]}
    members |= {"Classes": [{"Value": i, "Name": f"k{i}", "Color": [i, 9, 9]} for i in (1, 2, 3)]}
    path = folder / "label.emd"
    path.write_text(json.dumps(members))
    return str(path)
