"""The rule of the house about imports, read from the source: engine <- processing_provider <- plugin."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("engine", "processing_provider", "plugin")

# Modules that QGIS's Python imports, and those that the engine process itself runs without its environment's packages.
STDLIB_ONLY = (
    "engine/__init__.py",
    "engine/__main__.py",
    "engine/errors.py",
    "engine/events.py",
    "engine/jobs.py",
    "engine/session.py",
    "engine/client.py",
    "engine/environment.py",
    "engine/launch.py",
    "engine/job_session.py",
    "engine/locks.py",
    "engine/scratch.py",
    "engine/raster/publishing.py",
    "engine/package/*.py",
    "engine/setup/*.py",
    "engine/workers/sandbox.py",
    "engine/*/runner*.py",
    "engine/*/*_runner.py",
)
# What QGIS's side may import of the engine when its modules load.
FOR_QGIS = ("errors", "events", "jobs", "client", "environment", "launch", "package", "setup", "workers.sandbox")
# Newest standard library that may be assumed there, by module name, on Python 3.9.
STDLIB = frozenset(sys.stdlib_module_names)
# Import name -> name in the requirement files, where they differ; parts that come with a listed package.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "google": "onnx",  # protobuf
    "affine": "rasterio",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "dask": "distributed",
    "tornado": "distributed",
}


def python_files(folder: str) -> list[Path]:
    return sorted(one for one in (ROOT / folder).rglob("*.py") if "__pycache__" not in one.parts)


def imports_of(path: Path, *, top_only: bool = False) -> list[tuple[int, str]]:
    """Return (line, absolute name) of the imports, relative ones resolved below the package deep_raster."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["deep_raster", *path.relative_to(ROOT).parent.parts]
    found = []
    nodes = ast.walk(tree) if not top_only else _loaded(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(node.lineno, one.name) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{prefix}.{one.name}") for one in node.names]
    return found


def _loaded(tree: ast.Module):
    """Yield the nodes that run when a module loads: not the bodies of functions, not blocks for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += list(ast.iter_child_nodes(node))


def wing_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "deep_raster" and len(parts) > 1 else ""


def stdlib_only_files() -> list[Path]:
    return sorted({one for pattern in STDLIB_ONLY for one in ROOT.glob(pattern)})


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_only_those_below_it(wing):
    above = WINGS[WINGS.index(wing) + 1 :]
    for path in python_files(wing):
        for line, name in imports_of(path):
            assert wing_of(name) not in above, f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_the_engine_never_imports_qgis():
    for path in python_files("engine"):
        for line, name in imports_of(path):
            top = name.split(".")[0]
            assert top not in ("qgis", "PyQt5", "PyQt6", "osgeo", "processing"), (
                f"{path.relative_to(ROOT)}:{line}: {name}"
            )


@pytest.mark.parametrize("wing", ["processing_provider", "plugin"])
def test_qgis_side_imports_no_deep_learning_and_only_the_light_part_of_the_engine(wing):
    for path in python_files(wing):
        for line, name in imports_of(path):
            where = f"{path.relative_to(ROOT)}:{line} imports {name}"
            top = name.split(".")[0]
            assert top in STDLIB | {"qgis", "osgeo", "processing", "deep_raster", "numpy", "sip"}, where
            if wing_of(name) == "engine":
                inner = name.split(".")[2:]
                light = (
                    not inner
                    or {inner[0], ".".join(inner[:2])} & set(FOR_QGIS)
                    or inner[0].startswith("__")
                    or inner[0] == "PROTOCOL"
                )
                assert light, where


@pytest.mark.parametrize("path", stdlib_only_files(), ids=lambda one: one.relative_to(ROOT).as_posix())
def test_modules_for_both_sides_use_the_standard_library_alone(path):
    for line, name in imports_of(path, top_only=True):
        top = name.split(".")[0]
        assert top in STDLIB or top == "deep_raster", f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_modules_for_both_sides_load_where_there_is_nothing_but_the_standard_library():
    """Without site-packages at all, in a process of its own: whatever they load in turn must be light as well."""
    names = [
        ".".join(("deep_raster", *one.relative_to(ROOT).with_suffix("").parts))
        for one in stdlib_only_files()
        if one.name not in ("__init__.py", "__main__.py", "guarded.py", "launch.py")
    ]
    code = (
        f"import runpy, importlib; runpy.run_path({str(ROOT / 'engine' / 'launch.py')!r}, run_name='l')['register']()\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    answer = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("wing", ["processing_provider", "plugin"])
def test_syntax_of_the_oldest_python_of_qgis(wing):
    for path in [*python_files(wing), *stdlib_only_files()]:
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 9))


def test_relative_imports_only():
    for wing in WINGS:
        for path in python_files(wing):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in names:
                    assert name.split(".")[0] != "deep_raster", f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"


def test_every_third_party_import_of_the_engine_is_a_requirement():
    listed = set()
    for one in (ROOT / "engine" / "requirements").glob("*.txt"):
        for line in one.read_text(encoding="utf-8").splitlines():
            name = re.match(r"[A-Za-z0-9._-]+", line.split("#")[0].strip())
            if name:
                listed.add(name.group(0).lower().replace("_", "-"))
    for path in python_files("engine"):
        for line, name in imports_of(path):
            top = name.split(".")[0]
            if top in STDLIB or top == "deep_raster":
                continue
            if "stand_ins" in path.parts:  # modules under the names that functions written for ArcGIS import
                continue
            distribution = DISTRIBUTIONS.get(top, top).lower().replace("_", "-")
            assert distribution in listed, f"{path.relative_to(ROOT)}:{line} imports {top}, which no requirement lists"


def test_the_rule_finds_an_offender(tmp_path, monkeypatch):
    """The walk itself: nested, relative and lazy imports are seen, type-checking blocks are told apart."""
    source = (
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "from ..processing_provider import provider\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def late():\n    import qgis.core\n"
    )
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "bad.py").write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    everything = {name for _line, name in imports_of(folder / "bad.py")}
    assert {"deep_raster.processing_provider.provider", "torch", "qgis.core"} <= everything
    loaded = {name for _line, name in imports_of(folder / "bad.py", top_only=True)}
    assert "torch" not in loaded
    assert "qgis.core" not in loaded
    assert "deep_raster.processing_provider.provider" in loaded
