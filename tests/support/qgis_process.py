"""``qgis_process`` in a profile of its own, with the plugin as a link."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
QGIS_PROCESS = next((one for one in ("/usr/bin/qgis_process.bin", "/usr/bin/qgis_process") if os.path.exists(one)), "")
FAKE_PYTHON = str(TESTS / "fake_engine" / "python")


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
    """Calls qgis_process; ``python`` is the engine's interpreter, at first that of the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, FAKE_PYTHON
        (folder / "plugins").mkdir()
        (folder / "plugins" / "deep_raster").symlink_to(TESTS.parent, target_is_directory=True)
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
