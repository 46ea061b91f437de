"""Call the tools of the toolbox through ``qgis_process``, as any script would, in a profile of the demo's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Tuple

RULE = "-" * 16
# The wrapper of some distributions hands QGIS an option that it does not know; the program beside it works.
PROGRAMS = ("/usr/bin/qgis_process.bin", "/usr/bin/qgis_process", "qgis_process")


class Toolbox:
    """Runs tools, numbers the steps, and tells how each goes on.

    Args:
        checkout: the folder of the plugin.
        scratch: an existing folder for profile and sockets.
        engine: the interpreter of the engine's environment.
        steps: how many steps there will be, for the heading of each.
    """

    def __init__(self, checkout: Path, scratch: Path, engine: str, steps: int) -> None:
        self._program = next((one for one in map(shutil.which, PROGRAMS) if one), "")
        if not self._program:
            raise RuntimeError("qgis_process is missing; install QGIS (sudo apt install qgis)")
        profile = scratch / "profile" / "profiles" / "default" / "QGIS"
        plugins = scratch / "plugins"
        runtime = scratch / "runtime"
        for folder in (profile, plugins):
            folder.mkdir(parents=True)
        runtime.mkdir(mode=0o700)
        (plugins / "deep_raster").symlink_to(checkout, target_is_directory=True)
        (profile / "QGIS3.ini").write_text("[PythonPlugins]\ndeep_raster=true\nprocessing=true\n", encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment = {
            **kept,
            "QT_QPA_PLATFORM": "offscreen",
            "QGIS_PLUGINPATH": str(plugins),
            "QGIS_CUSTOM_CONFIG_PATH": str(scratch / "profile"),
            "XDG_RUNTIME_DIR": str(runtime),
            "DEEP_RASTER_PYTHON": engine,
        }
        self._checkout = checkout
        self._steps = steps
        self._step = 0
        self._begin = time.monotonic()

    @property
    def environment(self) -> Dict[str, str]:
        """The environment variables that the tools run with."""
        return dict(self._environment)

    def heading(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        minutes, seconds = divmod(int(time.monotonic() - self._begin), 60)
        print(f"\n[{self._step}/{self._steps}  {minutes}:{seconds:02d}] {text}", flush=True)

    def run(self, tool: str, **parameters: object) -> Dict[str, str]:
        """Run ``deepraster:tool`` and return its outputs by name.

        Raises:
            RuntimeError: it failed; what it said has been printed.
        """
        given = [f"{name}={value}" for name, value in parameters.items()]
        shown = " ".join(given).replace(f"{self._checkout}/", "")
        print(f"    qgis_process run deepraster:{tool} -- {shown}", flush=True)
        lines: List[str] = []
        with subprocess.Popen(
            [self._program, "run", f"deepraster:{tool}", "--", *given],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            if process.stdout is not None:
                _follow(process.stdout.fileno(), lines)
        if process.returncode != 0:
            raise RuntimeError(f"deepraster:{tool} ended with exit code {process.returncode}")
        return _results(lines)


def _follow(descriptor: int, lines: List[str]) -> None:
    """Collect what the tool says and show it as it comes; its progress at most every few seconds."""
    pending, told, heading = "", time.monotonic(), True
    progress = _Progress()
    while True:
        chunk = os.read(descriptor, 65536)
        pending += chunk.decode("utf-8", "replace")
        *whole, pending = pending.split("\n")
        for line in whole:
            lines.append(line)
            text = progress.take(line).strip()
            if text in ("Inputs", "Results"):
                heading = True
            elif heading and line == "":  # two blocks open the output: parameters, then what happens
                heading = not _inputs_over(lines)
            elif text and not heading and text != RULE:
                print(f"      {text}", flush=True)
                told = time.monotonic()
        if time.monotonic() - told > 5 and progress.peek(pending):
            told = time.monotonic()
            print(f"      {progress.peek(pending)} %", flush=True)
        if not chunk:
            if pending:
                lines.append(pending)
            return


class _Progress:
    """Takes the progress out of lines: dots and tens without an end of line, so text follows: ``..20..30Writing``."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, line: str) -> str:
        """Return the line without the progress that it begins with."""
        rest, self._next = self._split(line)
        return rest

    def peek(self, line: str) -> int:
        """Return the percentage that has been reached with this unfinished line."""
        return max(0, self._split(line)[1] - 10)

    def _split(self, line: str) -> Tuple[str, int]:
        following = self._next
        while line.startswith((".", str(following))):
            if line.startswith("."):
                line = line[1:]
            else:
                line = line[len(str(following)) :]
                following += 10
        return line, following


def _inputs_over(lines: List[str]) -> bool:
    """Tell whether the block of inputs has been printed to its end (an empty line after at least one parameter)."""
    rules = [number for number, line in enumerate(lines) if line == RULE]
    return len(rules) == 2 and any("\t" in line for line in lines[rules[1] :])


def _results(lines: List[str]) -> Dict[str, str]:
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].strip() == "Results":
            pairs = (line.split(":\t", 1) for line in lines[number:] if ":\t" in line)
            return {name.strip(): value.strip() for name, value in pairs}
    return {}
