"""The Python environments of the developer's tools: made once, kept outside the checkout, named by their contents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Sequence

from common import ROOT, SYSTEM_PYTHON, Told
from deep_raster.engine.environment import create_environment, find_environment
from deep_raster.engine.errors import EnvironmentFault
from deep_raster.engine.setup.child import run_python
from deep_raster.engine.setup.create import VenvPlan
from deep_raster.engine.setup.interpreters import find_base, probe
from deep_raster.engine.setup.locations import home

REQUIREMENTS = ROOT / "tools" / "requirements"


def engine_python(frameworks: Sequence[str]) -> str:
    """Return the interpreter of an engine environment with the frameworks, made now if there is none."""
    try:
        return find_environment(frameworks).python
    except EnvironmentFault:
        if os.environ.get("DEEP_RASTER_PYTHON"):
            raise
    return create_environment(frameworks, on_progress=Told("engine environment")).python


def lint_python() -> str:
    """Return the interpreter with the linters, the type checker and the security scanners."""
    return _make("lint", find_base().path)


def qgis_python() -> str:
    """Return QGIS's own Python with pytest added."""
    return _make("qgis", SYSTEM_PYTHON, system=True)


def qt_python() -> str:
    """Return an interpreter with Qt 6 and pytest, and without QGIS."""
    return _make("qt", find_base().path)


def tests_python(engine: str) -> str:
    """Return an interpreter with pytest that sees the packages of the engine's environment, which stays as it is."""
    answer = run_python(
        engine, "import sysconfig; print(*{sysconfig.get_path(n) for n in ('purelib', 'platlib')}, sep='\\n')"
    )
    folders = answer.stdout.split("\n")

    def link(site: Path) -> None:
        (site / "engine_environment.pth").write_text("\n".join(folders), encoding="utf-8")

    return _make("tests", engine, salt=answer.stdout, prepare=link)


def _make(name: str, base: str, **options: object) -> str:
    plan = VenvPlan(
        name=name,
        base=probe(base),
        files=[REQUIREMENTS / f"{name}.txt"],
        root=home(),
        kind="tools",
        **options,  # type: ignore[arg-type]
    )
    return str(plan.make(Told(f"{name} tools"), lambda: False))
