"""The same parameters from a script, a model and the command line: the same job, the same features."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from conftest_values import DEFINITION, write_package
from osgeo import ogr

from .model_files import write_model

IDS = (
    "labelobjects", "exporttrainingdata", "trainmodel", "createpackage", "packageinfo", "detectobjects",
    "classifypixels", "classifyobjects", "detectchange", "nonmaximumsuppression", "computeaccuracy", "setupenvironment",
)  # fmt: skip

SCRIPT = """
import os, sys
sys.path.insert(0, "/usr/share/qgis/python/plugins")
from qgis.core import QgsApplication, QgsProcessingFeedback
QgsApplication.setPrefixPath("/usr", True)
application = QgsApplication([], False)
application.initQgis()
import importlib.util, json
spec = importlib.util.spec_from_file_location("launch", sys.argv[1] + "/engine/launch.py")
launch = importlib.util.module_from_spec(spec); spec.loader.exec_module(launch); launch.register()
import processing
from processing.core.Processing import Processing
Processing.initialize()
from deep_raster.processing_provider.provider import DeepRasterProvider
provider = DeepRasterProvider()
application.processingRegistry().addProvider(provider)
print(json.dumps(processing.run("deepraster:detectobjects", json.loads(sys.argv[2]), feedback=QgsProcessingFeedback())))
sys.stdout.flush()
os._exit(0)
"""


def by_script(qgis, parameters):
    done = subprocess.run(
        ["/usr/bin/python3", "-c", SCRIPT, str(Path(__file__).resolve().parents[2]), json.dumps(parameters)],
        env=qgis.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_list_and_help(qgis):
    listed = qgis.call("list").text
    assert [name for name in IDS if f"deepraster:{name}" not in listed] == []
    told = qgis.call("help", "deepraster:detectobjects").text
    assert "ARGUMENTS" in told and "padding=64;threshold=0.5" in told and "MOSAICKED" in told


def test_the_same_job(qgis, provider, image, tmp_path):
    package = write_package(tmp_path / "tree.dlpk", DEFINITION)
    same = {"INPUT": str(image), "MODEL": str(package), "ARGUMENTS": "padding=32;threshold=0.4", "RUN_NMS": True,
            "MAX_OVERLAP": 0.25, "EXTENT": "500000,500400,4999800,5000000 [EPSG:32633]", "CELL_SIZE": 1.5,
            "PROCESSOR": "CPU", "WORKERS": 1}  # fmt: skip
    command = qgis.run("detectobjects", **{**same, "RUN_NMS": "true"}, OUTPUT=tmp_path / "a.gpkg")
    assert command.code == 0, command.text
    assert command.results["COUNT"] == "3"
    by_script(qgis, {**same, "OUTPUT": str(tmp_path / "a.gpkg")})
    write_model(tmp_path / "one.model3", [("detect", "detectobjects", same, {})], {"detect": ["OUTPUT"]})
    model = qgis.run(str(tmp_path / "one.model3"), **{"detect:OUTPUT": tmp_path / "a.gpkg"})
    assert model.code == 0, model.text
    jobs = [json.loads(one.read_text()) for one in sorted(qgis.jobs.glob("*.json"))]
    assert len(jobs) == 3
    assert jobs[0] == jobs[1] == jobs[2]


def features(path):
    data = ogr.Open(str(path))
    return [(one.GetGeometryRef().ExportToWkb(), *(one.GetField(i) for i in range(one.GetFieldCount())))
            for one in data.GetLayer(0)]  # fmt: skip


def test_the_same_features(real, provider, image, detector, tmp_path):
    same = {"INPUT": str(image), "MODEL": str(detector), "ARGUMENTS": "threshold=0.05"}
    command = real.run("detectobjects", **same, OUTPUT=tmp_path / "command.gpkg")
    assert command.code == 0, command.text
    by_script(real, {**same, "OUTPUT": str(tmp_path / "script.gpkg")})
    write_model(tmp_path / "one.model3", [("detect", "detectobjects", same, {})], {"detect": ["OUTPUT"]})
    model = real.run(str(tmp_path / "one.model3"), **{"detect:OUTPUT": tmp_path / "model.gpkg"})
    assert model.code == 0, model.text
    found = features(tmp_path / "command.gpkg")
    assert len(found) == int(command.results["COUNT"]) > 20
    assert features(tmp_path / "script.gpkg") == found
    assert features(tmp_path / "model.gpkg") == found


def test_every_model_type_on_offer_is_known_to_the_training(real):
    from deep_raster.processing_provider.trainmodel import AUTO, MODEL_TYPES

    code = "import json, runpy, sys; runpy.run_path(sys.argv[1], run_name='launch')['register']()\n"
    code += "from deep_raster.engine.training.settings import MODEL_TYPES\nprint(json.dumps(sorted(MODEL_TYPES)))"
    launch = str(Path(__file__).resolve().parents[2] / "engine" / "launch.py")
    told = subprocess.run([real.python, "-I", "-c", code, launch], capture_output=True, text=True, check=True).stdout
    known = set(json.loads(told.strip().splitlines()[-1]))
    assert {one.replace("_", "") for one in MODEL_TYPES if one != AUTO} <= known
