"""``qgis_process`` in a profile of its own, the plugin as a link, a real or a stand-in engine, and sample files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
QGIS_PROCESS = next((one for one in ("/usr/bin/qgis_process.bin", "/usr/bin/qgis_process") if os.path.exists(one)), "")
FAKE_PYTHON = str(TESTS / "fake_engine" / "python")
ENGINE_PYTHON = os.environ.get("DEEP_RASTER_PYTHON", "")

sys.path.insert(0, str(TESTS / "qgis" / "support"))

from conftest_values import write_raster  # noqa: E402 - needs the path above
from provider_fixture import provider  # noqa: E402, F401 - found here by pytest


def pytest_collection_modifyitems(items):
    if not QGIS_PROCESS:
        for item in items:
            if "process" in Path(item.fspath).parts:
                item.add_marker(pytest.mark.skip(reason="qgis_process is not installed here"))


class Outcome:
    """How a call ended."""

    def __init__(self, done: subprocess.CompletedProcess) -> None:
        self.code, self.text = done.returncode, done.stdout + done.stderr

    @property
    def results(self) -> dict:
        """The results as it prints them."""
        after = self.text.partition("Results")[2].splitlines()
        pairs = (line.partition(":\t") for line in after)
        return {name: value for name, mark, value in pairs if mark}


class Qgis:
    """Calls qgis_process; ``python`` is the engine's interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, FAKE_PYTHON
        (folder / "plugins").mkdir()
        (folder / "plugins" / "deep_raster").symlink_to(ROOT, target_is_directory=True)
        profile = folder / "profile" / "profiles" / "default" / "QGIS"
        profile.mkdir(parents=True)
        (profile / "QGIS3.ini").write_text("[PythonPlugins]\ndeep_raster=true\n")
        (folder / "runtime").mkdir(mode=0o700)
        self.jobs = folder / "jobs"
        self.jobs.mkdir()

    @property
    def environment(self) -> dict:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "QGIS_"))}
        return {
            **kept,
            "QT_QPA_PLATFORM": "offscreen",
            "QGIS_PLUGINPATH": str(self.folder / "plugins"),
            "QGIS_CUSTOM_CONFIG_PATH": str(self.folder / "profile"),
            "XDG_RUNTIME_DIR": str(self.folder / "runtime"),
            "DEEP_RASTER_PYTHON": self.python,
            "DEEP_RASTER_FAKE_JOBS": str(self.jobs),
            "DEEP_RASTER_HOME": str(self.folder / "home"),
            "DEEP_RASTER_CACHE": str(self.folder / "cache"),
        }

    def command(self, algorithm: str, parameters: dict) -> list:
        given = []
        for name, value in parameters.items():
            for one in value if isinstance(value, list) else [value]:
                given.append(f"{name}={one}")
        return [QGIS_PROCESS, "run", algorithm, "--", *given]

    def call(self, *arguments: str) -> Outcome:
        return self._run([QGIS_PROCESS, *arguments])

    def run(self, algorithm: str, **parameters) -> Outcome:
        name = algorithm if algorithm.startswith("/") else f"deepraster:{algorithm}"
        return self._run(self.command(name, parameters))

    def _run(self, command: list) -> Outcome:
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        return Outcome(done)


@pytest.fixture
def qgis(tmp_path):
    """With the stand-in for the engine."""
    return Qgis(tmp_path)


@pytest.fixture
def real(qgis):
    """With the real engine."""
    if not ENGINE_PYTHON:
        pytest.skip("DEEP_RASTER_PYTHON names no engine environment")
    qgis.python = ENGINE_PYTHON
    return qgis


@pytest.fixture
def image(tmp_path):
    return write_raster(tmp_path / "scene.tif", width=300, height=200)


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    """A small detector with random weights, the same in every run."""
    if not ENGINE_PYTHON:
        pytest.skip("DEEP_RASTER_PYTHON names no engine environment")
    path = tmp_path_factory.mktemp("model") / "random.dlpk"
    script = Path(__file__).with_name("make_model.py")
    subprocess.run([ENGINE_PYTHON, "-I", str(script), str(ROOT), str(path), "128"], check=True, timeout=120)
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """The folder of ``pixels.onnx`` and ``objects.onnx``, whose answers are plain to see in the image."""
    if not ENGINE_PYTHON:
        pytest.skip("DEEP_RASTER_PYTHON names no engine environment")
    folder = tmp_path_factory.mktemp("networks")
    script = Path(__file__).with_name("make_onnx.py")
    subprocess.run([ENGINE_PYTHON, "-I", str(script), str(folder)], check=True, timeout=120)
    return folder
