"""The tiers of the tests, each a command in the Python it needs; all run, then a summary tells what each one said."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import packaging_zip
import venvs
from common import BUILD, PACKAGE, ROOT, say

TIERS = ("lint", "engine", "qgis", "process", "desktop")
# Run when it is asked for by name alone: faults repeated until luck is no explanation.
NIGHTLY = "nightly"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=10")


@dataclass(frozen=True)
class Outcome:
    """How a tier went: its exit code, seconds, and closing line."""

    tier: str
    code: int
    seconds: float
    closing: str


def run(tiers: Sequence[str], frameworks: Sequence[str]) -> int:
    """Run the tiers (none named: all but the nightly one) and return 0 if every one passed."""
    unknown = sorted(set(tiers) - {*TIERS, NIGHTLY})
    if unknown:
        say(f"There is no tier called {', '.join(unknown)}; there are {', '.join((*TIERS, NIGHTLY))}.")
        return 2
    engine = "" if list(tiers) == ["lint"] and not frameworks else venvs.engine_python(frameworks)
    outcomes: List[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="deep_raster_") as scratch:
        environment = _environment(engine, Path(scratch))
        for tier in [one for one in (*TIERS, NIGHTLY) if one in tiers or (not tiers and one != NIGHTLY)]:
            say(f"\n===== {tier} =====")
            begin = time.monotonic()
            code, closing = _RUN[tier](engine, environment)
            outcomes.append(Outcome(tier, code, time.monotonic() - begin, closing))
    say("\n===== summary =====")
    for one in outcomes:
        say(f"{'passed' if one.code == 0 else 'FAILED':7} {one.tier:8} {one.seconds:6.1f} s  {one.closing}")
    say(f"{sum(one.seconds for one in outcomes):.0f} s in all")
    return 0 if all(one.code == 0 for one in outcomes) else 1


def _environment(engine: str, scratch: Path) -> Dict[str, str]:
    """Return the environment of the test processes: one native thread each, no screen, nothing of the user's QGIS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "QGIS_", "PYTEST_"))}
    runtime = scratch / "runtime"
    runtime.mkdir(mode=0o700)
    config = scratch / "config"
    config.mkdir()
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **kept,
        **threads,
        "DEEP_RASTER_PYTHON": engine,
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_CONFIG_HOME": str(config),
        "QT_QPA_PLATFORM": "offscreen",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _call(command: Sequence[str], environment: Dict[str, str], cwd: Path = ROOT) -> Tuple[int, str]:
    """Run a command, pass its output on as it comes, and return its exit code and last line."""
    closing = ""
    with subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            closing = line.strip() or closing
    return process.returncode, closing


def _lint(engine: str, environment: Dict[str, str]) -> Tuple[int, str]:
    python = venvs.lint_python()
    link = BUILD / "types" / PACKAGE
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(ROOT, target_is_directory=True)
    types = ["-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(BUILD / "mypy")]
    types += ["--python-executable", engine, "-p", f"{PACKAGE}.engine"]
    steps: List[Tuple[str, Sequence[str], Path]] = [
        ("ruff check", [python, "-m", "ruff", "check", "."], ROOT),
        ("ruff format", [python, "-m", "ruff", "format", "--check", "."], ROOT),
        ("mypy", [python, *types], link.parent),
        ("Qt 6", [venvs.qt_python(), *PYTEST, "tests/qt6"], ROOT),
    ]
    failed = []
    for name, command, cwd in steps:
        if _call(command, environment, cwd)[0] != 0:
            failed.append(name)
    if packaging_zip.main(python) != 0:
        failed.append("package")
    names = ", ".join([*(one[0] for one in steps), "package with bandit and detect-secrets"])
    return (1, f"failed: {', '.join(failed)}") if failed else (0, f"{names}: clean")


def _engine(engine: str, environment: Dict[str, str]) -> Tuple[int, str]:
    paths = ["tests/engine", *(str(one.relative_to(ROOT)) for one in sorted((ROOT / "tests").glob("test_*.py")))]
    # One file at a time in each process: files share what is dear to make, and many tests wait for other processes.
    parallel = ["-n", str(min(4, len(os.sched_getaffinity(0)))), "--dist", "loadfile"]
    return _call([venvs.tests_python(engine), *PYTEST, *parallel, *paths], environment)


def _nightly(engine: str, environment: Dict[str, str]) -> Tuple[int, str]:
    # One file after the other: faults are timed, and the figures shall not depend on what runs beside them.
    return _call([venvs.tests_python(engine), *PYTEST, "tests/nightly"], environment)


def _qgis(engine: str, environment: Dict[str, str]) -> Tuple[int, str]:
    return _call([venvs.qgis_python(), *PYTEST, "tests/qgis"], environment)


def _process(engine: str, environment: Dict[str, str]) -> Tuple[int, str]:
    return _call([venvs.qgis_python(), *PYTEST, "tests/process"], environment)


def _desktop(engine: str, environment: Dict[str, str]) -> Tuple[int, str]:
    shown = {name: value for name, value in environment.items() if name != "QT_QPA_PLATFORM"}
    screen = [shutil.which("xvfb-run") or "xvfb-run", "-a", "-s", "-screen 0 1400x900x24"]
    return _call([*screen, venvs.qgis_python(), *PYTEST, "tests/desktop"], shown)


_RUN: Dict[str, Callable[[str, Dict[str, str]], Tuple[int, str]]] = {
    "lint": _lint,
    "engine": _engine,
    "qgis": _qgis,
    "process": _process,
    "desktop": _desktop,
    NIGHTLY: _nightly,
}
