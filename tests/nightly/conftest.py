"""Fixtures of the nightly tests, and the table of figures at the end (``build/nightly/figures.json`` and ``.txt``).

Helpers are in ``nightly_support.py``, importable by that name. NIGHTLY_SCALE multiplies how often faults are repeated.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import nightly_models
from nightly_support import SCALE, Host, digest
from pictures import picture, write_cog, write_scene
from range_server import RangeServer

REPORT = Path(__file__).resolve().parents[2] / "build" / "nightly"
_figures: list[dict] = []


@pytest.fixture
def figure(request):
    """Return a function that adds a line to the report: ``figure("W1 kills", 120, target="500", ok=True)``."""

    def add(name, value, target="", ok=True):
        _figures.append(
            {"test": request.node.nodeid.split("/")[-1], "name": name, "value": value, "target": target, "ok": bool(ok)}
        )

    return add


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """The folder of this session; caches of the engine are below it."""
    made = tmp_path_factory.mktemp("nightly")
    before = {name: os.environ.get(name) for name in ("DEEP_RASTER_CACHE", "XDG_CONFIG_HOME", "OMP_NUM_THREADS")}
    os.environ.update(DEEP_RASTER_CACHE=str(made / "cache"), XDG_CONFIG_HOME=str(made / "config"), OMP_NUM_THREADS="1")
    yield made
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def scene(workshop):
    """A deflate GeoTIFF of 400 tiles of 256 pixels, three 8-bit bands, with a corner without data."""
    return write_scene(workshop / "scene" / "scene.tif", 20 * 256)


@pytest.fixture(scope="session")
def model(workshop):
    """An ONNX network of fixed weights and fixed tiles of 256 pixels, three classes."""
    return nightly_models.write_pixel_network(workshop / "model")


def _done(folder, job_of):
    """Have a job for an output in a new folder done; return the output and the host."""
    folder.mkdir()
    host = Host(job_of(folder / "classes.tif"), folder / "run")
    assert host.wait() == "done", host.message
    return folder / "classes.tif", host


@pytest.fixture(scope="session")
def undisturbed(workshop, scene, model):
    """(path, digest, seconds, seconds to the first finished part) of a pixel job that nobody disturbed."""
    output, host = _done(workshop / "undisturbed", lambda path: nightly_models.pixel_job(scene, model, path))
    first = next(one["t"] for one in host.events if "Predicting" in str(one.get("text")))
    return output, digest(output), host.seconds, first - host.started


@pytest.fixture(scope="session")
def numbered(workshop):
    """A scene of 100 numbered tiles for :mod:`nightly_function`, alone in its folder."""
    return nightly_models.write_numbered_scene(workshop / "numbered" / "scene.tif", 10)


@pytest.fixture(scope="session")
def small_digest(workshop, numbered, model):
    """The digest of the undisturbed output of the network on the scene of 100 tiles."""
    return digest(_done(workshop / "small", lambda path: nightly_models.pixel_job(numbered, model, path))[0])


@pytest.fixture(scope="session")
def function(workshop):
    """(path, hash) of the package of ``nightly_function.py``."""
    return nightly_models.write_function_package(workshop / "function" / "faulty.dlpk")


@pytest.fixture(scope="session")
def calm(workshop, numbered, function):
    """(path, digest, seconds) of the output of the packaged function that does not misbehave."""
    nightly_models.set_fault(numbered)
    output, host = _done(workshop / "calm", lambda path: nightly_models.function_job(numbered, function, path))
    return output, digest(output), host.seconds


@pytest.fixture
def own_places(tmp_path, monkeypatch):
    """Caches and consents of this test alone, for jobs that run task by task in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def folder(workshop, request):
    """The folder of the tests of a module."""
    made = workshop / request.module.__name__.rpartition(".")[2]
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def cog(folder, request):
    """A Cloud-Optimised GeoTIFF with the sides that the module names."""
    return write_cog(folder / "scene.tif", picture(request.module.SIDE))


@pytest.fixture(scope="module")
def server(cog):
    """A server of that file."""
    made = RangeServer(cog.read_bytes())
    yield made
    made.close()


def pytest_configure(config):
    # Rasters and chips without a place are among what is tested.
    config.addinivalue_line("filterwarnings", "ignore::rasterio.errors.NotGeoreferencedWarning")


def pytest_sessionfinish(session):
    if not _figures:
        return
    REPORT.mkdir(parents=True, exist_ok=True)
    head = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S"), "machine": platform.platform(), "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)), "scale": SCALE,
    }  # fmt: skip
    text = json.dumps({**head, "figures": _figures}, indent=1, ensure_ascii=False, default=str)
    (REPORT / "figures.json").write_text(text, encoding="utf-8")
    (REPORT / "figures.txt").write_text("\n".join(_table()) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter):
    if _figures:
        terminalreporter.section("figures (also in build/nightly)")
        for line in _table():
            terminalreporter.write_line(line)


def _table() -> list[str]:
    rows = [(one["name"], str(one["value"]), str(one["target"]), "" if one["ok"] else "MISSED") for one in _figures]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
