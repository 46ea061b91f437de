"""Packages with raster functions, written the way published ones are."""

from __future__ import annotations

import textwrap

import pytest
from deep_raster.engine.package.dlpk import open_package, write_package

DETECTOR = """
    import json, os, sys
    import numpy as np
    sys.path.append(os.path.dirname(__file__))
    from fields import fields
    from features import features
    import prf_utils
    from helper_of_package import THRESHOLD          # a module of the package itself

    class GeometryType:
        Point = 1
        Polygon = 4

    class ObjectDetector:
        def __init__(self):
            self.name = "Bright objects"
            self.description = "Finds bright blobs"

        def initialize(self, **kwargs):
            if "model" not in kwargs:
                return
            with open(kwargs["model"], "r") as f:
                self.json_info = json.load(f)
            self.weights = open(os.path.join(os.path.dirname(kwargs["model"]), self.json_info["ModelFile"])).read()
            if kwargs["device"] >= 0:
                arcpy.env.processorType = "GPU"       # never imported: the host provides the name
            else:
                arcpy.env.processorType = "CPU"
            arcpy.AddMessage("ready on " + arcpy.env.processorType)

        def getParameterInfo(self):
            return [
                {"name": "raster", "dataType": "raster", "required": True, "displayName": "Raster"},
                {"name": "model", "dataType": "string", "required": True, "displayName": "Model"},
                {"name": "device", "dataType": "numeric", "required": False, "displayName": "Device"},
                {"name": "padding", "dataType": "numeric", "value": int(self.json_info["ImageHeight"]) // 4,
                 "required": False, "displayName": "Padding", "description": "Border"},
                {"name": "threshold", "dataType": "numeric", "value": 0.5, "domain": (0.0, 1.0)},
                {"name": "mode", "dataType": "string", "value": "all", "domain": ("all", "first")},
                {"name": "upper", "dataType": "boolean", "value": False},
                "junk of a template",
            ]

        def getConfiguration(self, **scalars):
            self.padding = int(scalars["padding"])
            self.threshold = float(scalars["threshold"])
            self.upper = scalars["upper"].lower() in ("true", "1", "t")
            self.mode = scalars["mode"]
            inner = self.json_info["ImageHeight"] - 2 * self.padding
            return {"extractBands": tuple(self.json_info["ExtractBands"]), "padding": self.padding,
                    "tx": inner * 2, "ty": inner, "fixedTileSize": 1, "inputMask": True, "inheritProperties": 14}

        def getFields(self):
            fields["fields"].append({"name": "Size", "type": "esriFieldTypeInteger", "alias": "Size"})
            return json.dumps(fields)

        def getGeometryType(self):
            return GeometryType.Polygon

        def vectorize(self, **pixelBlocks):
            pixels, mask = pixelBlocks["raster_pixels"], pixelBlocks["raster_mask"]
            assert mask.shape == pixels.shape and mask.dtype == np.uint8
            pixels[np.where(mask == 0)] = 0
            height = self.json_info["ImageHeight"]
            batch, down, across = prf_utils.tile_to_batch(
                pixels, height, height, self.padding, fixed_tile_size=True, batch_height=1, batch_width=2)
            boxes, scores, classes = [], [], []
            for chip in batch:
                rows, cols = np.where(chip[0] > THRESHOLD * np.float(self.threshold))
                boxes.append(np.array([[rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]], float)
                             if len(rows) else np.zeros((0, 4)))
                scores.append(np.full(len(boxes[-1]), 90.0))
                classes.append(np.ones(len(boxes[-1])))
            polygons, scores, classes = prf_utils.batch_detection_results_to_tile_results(
                boxes, scores, classes, height, height, self.padding, across)
            features["features"] = []
            for i, ring in enumerate(polygons):
                name = self.json_info["Classes"][classes[i] - 1]["Name"]
                features["features"].append({
                    "attributes": {"OID": i + 1, "Class": name.upper() if self.upper else name,
                                   "Confidence": float(scores[i]), "Size": 7},
                    "geometry": {"rings": [[[p[1], p[0]] for p in ring]]}})
            return {"output_vectors": json.dumps(features)}
"""

CLASSIFIER = """
    import json, os, sys
    import numpy as np
    sys.path.append(os.path.dirname(__file__))
    from attribute_table import attribute_table
    from Templates.TemplateBaseClassifier import TemplateBaseClassifier

    class Child(TemplateBaseClassifier):
        def load_model(self, path):
            self.limit = int(open(path).read())

        def inference(self, batch, **kwargs):
            return (batch[:, :1] > self.limit).astype(int) + 1

    class PixelFunction:
        def __init__(self):
            self.name, self.description = "Pixels", "Bright or dark"

        def initialize(self, **kwargs):
            if "model" not in kwargs:
                return
            self.json_info = json.load(open(kwargs["model"]))
            self.child = Child()
            self.child.initialize(kwargs["model"], True)

        def getParameterInfo(self):
            return [{"name": "raster", "dataType": "raster"}, {"name": "model", "dataType": "string"},
                    {"name": "padding", "dataType": "numeric", "value": 2},
                    {"name": "batch_size", "dataType": "numeric", "value": 4}]

        def getConfiguration(self, **scalars):
            answer = self.child.getConfiguration(**scalars)
            if "DataRange" in self.json_info:
                answer["dataRange"] = tuple(self.json_info["DataRange"])
            answer.update(inheritProperties=14, inputMask=True)
            return answer

        def updateRasterInfo(self, **kwargs):
            kwargs["output_info"]["bandCount"] = 1
            kwargs["output_info"]["pixelType"] = "i4"
            attribute_table["features"] = [
                {"attributes": {"OID": i + 1, "Value": c["Value"], "Class": c["Name"],
                                "Red": c["Color"][0], "Green": c["Color"][1], "Blue": c["Color"][2]}}
                for i, c in enumerate(self.json_info["Classes"])]
            kwargs["output_info"]["rasterAttributeTable"] = json.dumps(attribute_table)
            return kwargs

        def updatePixels(self, tlc, shape, props, **pixelBlocks):
            pixels, mask = pixelBlocks["raster_pixels"], pixelBlocks["raster_mask"]
            pixels[np.where(mask == 0)] = 0
            found = self.child.updatePixels(tlc, shape, props, **pixelBlocks)
            pixelBlocks["output_pixels"] = found.astype(props["pixelType"], copy=False)
            return pixelBlocks
"""

OBJECT_CLASSIFIER = """
    import json, os, sys
    import arcpy
    import numpy as np
    sys.path.append(os.path.dirname(__file__))
    from fields import fields
    from features import features
    import prf_utils

    class Chips:
        def __init__(self):
            self.name, self.description = "Chips", "Bright or dark"

        def initialize(self, **kwargs):
            if "model" not in kwargs:
                return
            self.json_info = json.load(open(kwargs["model"]))
            device = kwargs.get("device")
            if device == -2:
                device = prf_utils.get_available_device()
            arcpy.env.processorType = "GPU" if device >= 0 else "CPU"

        def getParameterInfo(self):
            return [{"name": "rasters", "dataType": "rasters", "value": None}, {"name": "model", "dataType": "string"},
                    {"name": "batch_size", "dataType": "numeric", "value": 4}]

        def getConfiguration(self, **scalars):
            self.batch_size = int(scalars["batch_size"])
            return {"extractBands": tuple(self.json_info["ExtractBands"]), "batch_size": self.batch_size,
                    "CropSizeFixed": int(self.json_info["CropSizeFixed"]),
                    "BlackenAroundFeature": int(self.json_info["BlackenAroundFeature"])}

        def getFields(self):
            fields["fields"].append({"name": "Label", "type": "esriFieldTypeString", "alias": "Label"})
            return json.dumps(fields)

        def getGeometryType(self):
            return 4

        def vectorize(self, **pixelBlocks):
            chips = np.stack(pixelBlocks["rasters_pixels"])
            assert [m.shape for m in pixelBlocks["rasters_mask"]] == [c.shape for c in chips]
            features["features"] = []
            for i in range(self.batch_size):                 # a full batch, as the published one does
                bright = i < len(chips) and chips[i].mean() > 100
                features["features"].append({
                    "attributes": {"OID": i + 1, "Confidence": str(0.75), "Label": "bright" if bright else "dark"},
                    "geometry": {"rings": [[0, 127], [0, 0]]}})
            return {"output_vectors": json.dumps(features)}
"""

DEFINITION = {
    "Framework": "MyFramework",
    "ModelType": "ObjectDetection",
    "ModelFile": ".\\weights.txt",
    "ImageHeight": 16,
    "ImageWidth": 16,
    "ExtractBands": [0],
    "Classes": [
        {"Value": 1, "Name": "dark", "Color": [10, 20, 30]},
        {"Value": 2, "Name": "bright", "Color": [200, 210, 220]},
    ],
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make a package: ``package(code, file name, {definition members}, {further texts}, (files already there))``."""
    monkeypatch.setenv("DEEP_RASTER_HOME", str(tmp_path / "home"))

    def make(code, name="Function.py", members=None, more=None, ready=()):
        (tmp_path / name).write_text(textwrap.dedent(code))
        (tmp_path / "weights.txt").write_text("128")
        (tmp_path / "helper_of_package.py").write_text("THRESHOLD = 255\n")
        files = {one: tmp_path / one for one in (name, "weights.txt", "helper_of_package.py")}
        files.update({one: tmp_path / one for one in ready})
        for extra, text in (more or {}).items():
            (tmp_path / extra).write_text(text)
            files[extra] = tmp_path / extra
        written = {**DEFINITION, "InferenceFunction": f".\\{name}", **(members or {})}
        write_package(tmp_path / "p.dlpk", written, files)
        return open_package(tmp_path / "p.dlpk", cache=tmp_path / "cache")

    return make


@pytest.fixture(autouse=True)
def _leave_no_trace_in_this_process():
    """Raster functions have a process to themselves; the tests, which share one, clean up after each."""
    import builtins
    import sys

    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        module = sys.modules[name]
        place = str(getattr(module, "__file__", "") or "")
        if name == "arcpy" or "stand_ins" in place or "deep_raster_function_" in place:
            del sys.modules[name]
    for name in ("arcpy", "fields", "features", "attribute_table", "prf_utils", "helper_of_package"):
        sys.modules.pop(name, None)
    if hasattr(builtins, "arcpy"):
        del builtins.arcpy
