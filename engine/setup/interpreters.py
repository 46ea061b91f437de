"""Find a Python interpreter that a new environment can be built on.

``sys.executable`` is of no use: inside QGIS it names QGIS itself (Windows, macOS) or the first python3 on the PATH.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess  # nosec B404 - candidates are run to see what they are
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from ..errors import EnvironmentFault
from .child import run_python

OLDEST = (3, 10)
NEWEST = (3, 14)
_PYTHON_NAME = re.compile(r"^python(3(\.\d+)?)?(\.exe)?$", re.IGNORECASE)
_PROBE = """
import importlib.util, json, platform, sys
print(json.dumps({
    "version": list(sys.version_info[:3]), "bits": sys.maxsize.bit_length() + 1, "machine": platform.machine(),
    "venv": all(importlib.util.find_spec(one) for one in ("venv", "ensurepip")),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that has been run: its path, version, machine type, and whether it can make environments."""

    path: str
    version: Tuple[int, ...]
    machine: str
    has_venv: bool

    @property
    def short(self) -> str:
        """The version as ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"


def probe(path: str) -> Interpreter:
    """Run the interpreter and return what it is.

    Raises:
        EnvironmentFault: it is not a Python, does not run, or is a 32-bit one.
    """
    if not _PYTHON_NAME.match(Path(path).name):
        raise EnvironmentFault(
            f"“{path}” is not a Python interpreter.", hint="Name the file python3 (or python.exe) of an environment."
        )
    try:
        answer = run_python(path, _PROBE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"The Python interpreter “{path}” does not start: {error}.") from error
    try:
        found = json.loads(answer.stdout)
    except ValueError as error:
        tail = (answer.stderr or answer.stdout).strip().splitlines()[-1:]
        raise EnvironmentFault(f"“{path}” did not answer as a Python interpreter: {' '.join(tail)}") from error
    if found["bits"] != 64:
        raise EnvironmentFault(f"“{path}” is a 32-bit Python.", hint="The deep-learning libraries need a 64-bit one.")
    return Interpreter(path, tuple(found["version"]), str(found["machine"]), bool(found["venv"]))


def find_base(python: str = "") -> Interpreter:
    """Return the interpreter to build an environment on: the one named, or the best one found on this machine.

    Raises:
        EnvironmentFault: none will do; the sentence says which were tried and what to install.
    """
    rejected: List[str] = []
    without_venv: Optional[Interpreter] = None
    for path in [python] if python else _candidates():
        try:
            found = probe(path)
        except EnvironmentFault as error:
            if python:
                raise
            rejected.append(error.message)
            continue
        if found.version[:2] < OLDEST or (found.version[:2] > NEWEST and not python):
            rejected.append(f"{path} is Python {found.short}.")
        elif not found.has_venv:
            without_venv = without_venv or found
        else:
            return found
    if without_venv is not None:
        raise EnvironmentFault(
            f"{without_venv.path} cannot make environments: its parts venv and ensurepip are missing.",
            hint=f"Install them with: sudo apt install python3-venv (or python{without_venv.short}-venv).",
        )
    needed = f"Python {_text(OLDEST)} to {_text(NEWEST)}"
    raise EnvironmentFault(
        f"No Python interpreter fit for the engine was found ({needed} is needed). " + " ".join(rejected),
        hint=f"Install {needed}, or name an interpreter.",
    )


def _text(version: Tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _candidates() -> Iterator[str]:
    """Yield existing interpreters, the likeliest first, each file once."""
    seen = set()
    for path in {"win32": _on_windows, "darwin": _on_macos}.get(sys.platform, _on_linux)():
        if not path or not os.access(path, os.X_OK) or os.path.isdir(path):
            continue
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            yield path


def _minors() -> List[int]:
    """Minor versions by preference: that of this process first, then from new to old."""
    rest = range(NEWEST[1], OLDEST[1] - 1, -1)
    return sorted(rest, key=lambda minor: minor != sys.version_info[1])


def _on_linux() -> Iterator[str]:
    for folder in ("/usr/bin", "/usr/local/bin"):
        for minor in _minors():
            yield f"{folder}/python3.{minor}"
    yield "/usr/bin/python3"
    yield f"{sys.base_prefix}/bin/python3.{sys.version_info[1]}"
    for minor in _minors():
        yield shutil.which(f"python3.{minor}") or ""


def _on_macos() -> Iterator[str]:
    # /usr/bin/python3 is never run: without the developer tools it opens Xcode's installer.
    yield f"{sys.prefix}/bin/python3"
    for bundle in [one for one in Path(sys.prefix).parents if one.suffix == ".app"] or [Path("/Applications/QGIS.app")]:
        yield f"{bundle}/Contents/MacOS/bin/python3"
        for minor in _minors():
            yield f"{bundle}/Contents/MacOS/python3.{minor}"
        yield from sorted(
            glob.glob(f"{bundle}/Contents/Frameworks/Python.framework/Versions/3.*/bin/python3"), reverse=True
        )
    for minor in _minors():
        yield f"/Library/Frameworks/Python.framework/Versions/3.{minor}/bin/python3.{minor}"
        yield f"/opt/homebrew/bin/python3.{minor}"
        yield f"/usr/local/bin/python3.{minor}"


def _on_windows() -> Iterator[str]:
    yield str(Path(sys.prefix) / "python.exe")
    yield str(Path(sys.prefix) / "python3.exe")
    root = os.environ.get("OSGEO4W_ROOT", "")
    if root:
        yield str(Path(root) / "bin" / "python3.exe")
    local = os.environ.get("LOCALAPPDATA", "")
    for minor in _minors():
        if local:
            yield str(Path(local) / "Programs" / "Python" / f"Python3{minor}" / "python.exe")
        yield str(Path(os.environ.get("PROGRAMFILES", r"C:\Program Files")) / f"Python3{minor}" / "python.exe")
