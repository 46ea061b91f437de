"""One real QGIS window: the plugin loads, a job runs while the window answers, everything is taken away again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
QGIS = next((one for one in ("/usr/bin/qgis.bin", "/usr/bin/qgis") if os.path.exists(one)), "")
ENGINE_PYTHON = os.environ.get("DEEP_RASTER_PYTHON", "")
LONGEST_GAP = 0.2  # seconds; the promise to the user

pytestmark = pytest.mark.skipif(not QGIS, reason="QGIS's window is not installed here")


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """Run the window once and return its report and folder."""
    folder = tmp_path_factory.mktemp("window")
    kept = os.environ.get("DEEP_RASTER_SHOTS")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "deep_raster").symlink_to(ROOT, target_is_directory=True)
    profile = folder / "profile" / "profiles" / "default" / "QGIS"
    profile.mkdir(parents=True)
    (profile / "QGIS3.ini").write_text("[PythonPlugins]\nprocessing=true\n[qgis]\ncheckVersion=false\n")
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    (folder / "values.json").write_text(json.dumps(_values(folder)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("QT_QPA", "PYTHON"))}
    environment.update(
        QGIS_PLUGINPATH=str(folder / "plugins"),
        QGIS_CUSTOM_CONFIG_PATH=str(folder / "profile"),
        XDG_RUNTIME_DIR=str(runtime),
        DEEP_RASTER_TEST_FOLDER=str(folder),
        DEEP_RASTER_PYTHON=str(TESTS / "fake_engine" / "python"),
        DEEP_RASTER_HOME=str(folder / "home"),
        DEEP_RASTER_CACHE=str(folder / "cache"),
    )
    command = [QGIS, "--noversioncheck", "--nologo", "--code", str(Path(__file__).with_name("window.py"))]
    if not os.environ.get("DISPLAY"):
        command = [shutil.which("xvfb-run") or "xvfb-run", "-a", "-s", "-screen 0 1400x900x24", *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    report = folder / "report.json"
    assert report.exists(), done.stderr[-4000:]
    if kept:
        shutil.copytree(
            folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("plugins", "profile", "runtime")
        )
    return done.returncode, json.loads(report.read_text()), folder


def _values(folder: Path) -> dict:
    import sys

    sys.path.insert(0, str(TESTS / "qgis" / "support"))
    from conftest_values import DEFINITION, write_package, write_raster

    image = write_raster(folder / "scene.tif", width=400, height=300)
    found = {}
    if ENGINE_PYTHON:
        script = TESTS / "process" / "make_model.py"
        network = folder / "random.dlpk"
        subprocess.run([ENGINE_PYTHON, "-I", str(script), str(ROOT), str(network), "128"], check=True, timeout=120)
        real = {"MODEL": str(network), "ARGUMENTS": "threshold=0.05", "OUTPUT": str(folder / "real.gpkg")}
        found = {"python": ENGINE_PYTHON, "real": real}
    code = {**DEFINITION, "InferenceFunction": "find_trees.py", "ModelConfiguration": "", "Author": "A. Forester"}
    code["Framework"] = ""
    return {
        **found,
        "image": str(image),
        "package": str(write_package(folder / "scene.dlpk", DEFINITION)),
        "code_package": str(write_package(folder / "forester.dlpk", code, {"find_trees.py": CODE})),
        "detectobjects": {
            "MODEL": str(folder / "scene.dlpk"),
            "OUTPUT": str(folder / "found.gpkg"),
            "ARGUMENTS": "threshold=0.25",
        },
        "corners": {"MODEL": str(folder / "forester.dlpk"), "OUTPUT": str(folder / "corners.gpkg")},
    }


# The four corners of every tile, 10 by 10 pixels each.
CODE = '''import json


class FindTrees:
    """Finds trees."""

    def initialize(self, **kwargs):
        self.model = kwargs["model"]

    def getParameterInfo(self):
        return [
            {"name": "raster", "dataType": "raster", "required": True},
            {"name": "model", "dataType": "string", "required": True},
        ]

    def getConfiguration(self, **scalars):
        return {"extractBands": (0, 1, 2), "padding": 0, "tx": 100, "ty": 100, "fixedTileSize": 1}

    def getFields(self):
        names = (("OID", "esriFieldTypeOID"), ("Class", "esriFieldTypeString"), ("Confidence", "esriFieldTypeDouble"))
        return json.dumps({"fields": [{"name": name, "type": kind, "alias": name} for name, kind in names]})

    def getGeometryType(self):
        return 4

    def vectorize(self, **blocks):
        found = []
        for x, y in ((5, 5), (85, 5), (5, 85), (85, 85)):
            ring = [(x, y), (x + 10, y), (x + 10, y + 10), (x, y + 10), (x, y)]
            found.append({"attributes": {"OID": len(found) + 1, "Class": "tree", "Confidence": 90.0},
                          "geometry": {"rings": [ring]}})
        return {"output_vectors": json.dumps({"geometryType": "esriGeometryPolygon", "features": found})}
'''


def test_it_runs_to_the_end(window):
    code, report, _folder = window
    assert "fault" not in report, report["fault"]
    real = ["real job", "consent"] if ENGINE_PYTHON else []
    assert report["done"] == ["loaded twice", "job", *real, "windows", "unloaded"]
    assert code == 0


def test_the_job_ran_from_our_dialog(window):
    _code, report, folder = window
    assert report["detectobjects"]["ok"]
    assert report["detectobjects"]["dialog"] == "AskingDialog"
    assert report["detectobjects"]["results"]["COUNT"] == "3"
    assert report["detectobjects"]["results"]["OUTPUT"] == str(folder / "found.gpkg")


def test_the_window_answered_all_the_time(window):
    _code, report, _folder = window
    assert list(report["gaps"]) == ["detectobjects", *(["real"] if ENGINE_PYTHON else [])]
    for runs in report["gaps"].values():  # (idle, during the job) of each run, the last one being the best
        assert min(busy - idle for idle, busy in runs) < LONGEST_GAP, report["gaps"]


def test_a_model_for_another_tool_is_told_in_the_dialog(window):
    _code, report, _folder = window
    assert report["wrong_model"] == ["This model detects objects; use “Detect objects”."]


@pytest.mark.skipif(not ENGINE_PYTHON, reason="DEEP_RASTER_PYTHON names no engine environment")
def test_what_the_real_engine_found_is_in_the_map(window):
    _code, report, _folder = window
    assert report["real"]["ok"]
    assert report["loaded"] == ["Detected objects"]
    assert report["count"] == [int(report["real"]["results"]["COUNT"])] and report["count"][0] > 0
    assert set(report["categories"]) <= {"tree", "house"}


@pytest.mark.skipif(not ENGINE_PYTHON, reason="DEEP_RASTER_PYTHON names no engine environment")
def test_a_package_runs_its_code_only_after_consent(window):
    _code, report, folder = window
    refused, allowed = report["consent"]
    assert refused == {"asked": True, "ended": False, "exists": False}
    assert allowed == {"asked": True, "ended": True, "exists": True}
    # a scene of 400 by 300 pixels has 12 tiles of 100 by 100, with four corners each
    assert report["consent_results"]["COUNT"] == "48"
    assert report["consent_results"]["OUTPUT"] == str(folder / "corners.gpkg")
    assert report["consent_remembered"] == []


def test_nothing_is_left_behind(window):
    _code, report, _folder = window
    assert report["left"]["after"] == report["left"]["before"]
