"""What an environment holds, and whether that is enough: parts, versions, and the floors that close known holes."""

from __future__ import annotations

import json
import subprocess  # nosec B404 - for the type of a time-out
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from ..errors import EnvironmentFault
from .child import run_python
from .interpreters import OLDEST

FRAMEWORKS = ("onnx", "pytorch", "tensorflow", "cluster")
ALL = ("onnx", "pytorch", "tensorflow")
HINT = (
    "Run the tool “Set up environment” of Deep Raster, or on the command line: "
    "qgis_process run deepraster:setupenvironment -- FRAMEWORKS={}"
)

# framework ("" for what every environment needs) -> the packages that make it, by name of distribution and of import
PARTS: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "": (
        ("numpy", "numpy"),
        ("rasterio", "rasterio"),
        ("pyogrio", "pyogrio"),
        ("shapely", "shapely"),
        ("defusedxml", "defusedxml"),
        ("pillow", "PIL"),
        ("safetensors", "safetensors"),
        ("isal", "isal"),
    ),
    "onnx": (("onnx", "onnx"), ("onnxruntime", "onnxruntime")),
    "pytorch": (
        ("torch", "torch"),
        ("torchvision", "torchvision"),
        ("segmentation-models-pytorch", "segmentation_models_pytorch"),
        ("timm", "timm"),
    ),
    "tensorflow": (
        ("tensorflow", "tensorflow"),
        ("keras", "keras"),
        ("tf_keras", "tf_keras"),
        ("h5py", "h5py"),
    ),
    "cluster": (("distributed", "distributed"),),
}

# The same framework under another name, as its makers publish it for some machines.
ALIASES = {
    "tensorflow": ("tensorflow-cpu", "tensorflow-intel", "tensorflow-macos"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml"),
}


@dataclass(frozen=True)
class Floor:
    """The oldest version of a package that may be used, and why."""

    package: str
    version: str
    reason: str


FLOORS = (
    Floor("torch", "2.10", "CVE-2026-24747 and CVE-2025-32434: a file of weights can run code"),
    Floor(
        "keras", "3.13.2", "CVE-2026-1462, CVE-2026-1669 and CVE-2025-9905: a model file can read files and run code"
    ),
    Floor("onnx", "1.21", "CVE-2026-34446, CVE-2026-34447 and CVE-2026-27489: a model can read any file"),
    Floor("distributed", "2021.10", "CVE-2021-42343: workers accept code from the network"),
    Floor("numpy", "1.26", "older ones lack the array interface of the raster libraries"),
    Floor("rasterio", "1.3.9", "older ones do not read with numpy 2"),
    Floor("shapely", "2.0", "older ones have no arrays of geometries"),
)

_PROBE = """
import importlib, importlib.metadata, json, sys
asked = json.loads(sys.argv[1])
versions, broken = {}, {}
for name in asked["packages"]:
    try:
        versions[name] = importlib.metadata.version(name) or ""
    except importlib.metadata.PackageNotFoundError:
        pass
for name in asked["imports"]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        broken[name] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps({"python": list(sys.version_info[:3]), "prefix": sys.prefix, "versions": versions, "broken": broken}))
"""


@dataclass(frozen=True)
class Environment:
    """A Python environment that can run the engine.

    Attributes:
        python: path of its interpreter.
        root: its folder.
        frameworks: those of :data:`FRAMEWORKS` that are complete.
        versions: version by name of distribution, with Python itself as ``python``.
    """

    python: str
    root: Path
    frameworks: Tuple[str, ...]
    versions: Dict[str, str] = field(default_factory=dict)


def normalise_frameworks(frameworks: Sequence[str]) -> Tuple[str, ...]:
    """Return framework names in a fixed order, ``all`` spelled out.

    Raises:
        EnvironmentFault: a name is unknown.
    """
    asked = {one.strip().lower() for one in frameworks if one.strip()}
    if "all" in asked:
        asked = (asked - {"all"}) | set(ALL)
    unknown = sorted(asked - set(FRAMEWORKS))
    if unknown:
        raise EnvironmentFault(
            f"No framework is called “{', '.join(unknown)}”.", hint=f"Known are {', '.join(FRAMEWORKS)} and all."
        )
    return tuple(one for one in FRAMEWORKS if one in asked)


def check_environment(python: str, frameworks: Sequence[str] = (), *, imports: bool = False) -> Environment:
    """Run the interpreter and return what its environment holds.

    Args:
        python: the interpreter, of a venv, conda or any other installation.
        frameworks: those that must be complete.
        imports: import every part as well, which takes seconds and finds what version numbers cannot tell.

    Raises:
        EnvironmentFault: it does not run, a part is missing or broken, or a package is older than its floor.
    """
    wanted = normalise_frameworks(frameworks)
    path, prefix, versions, broken = _ask(python, wanted, imports)
    hint = HINT.format(",".join(wanted) or "pytorch")
    oldest = f"{OLDEST[0]}.{OLDEST[1]}"
    if _numbers(versions["python"]) < OLDEST:
        raise EnvironmentFault(f"“{path}” is Python {versions['python']}; the engine needs {oldest}.", hint=hint)
    for floor in FLOORS:
        found = versions.get(floor.package, "")
        if found and _numbers(found) < _numbers(floor.version):
            raise EnvironmentFault(
                f"The environment of “{path}” holds {floor.package} {found}, but {floor.version} or newer is needed "
                f"({floor.reason}).",
                hint=f"Upgrade {floor.package} there, or: {hint}",
            )
    for framework in ("", *wanted):
        missing = [name for name, _module in PARTS[framework] if name not in versions]
        if missing:
            what = f"the parts for {framework}" if framework else "parts of the engine"
            raise EnvironmentFault(f"The environment of “{path}” lacks {what}: {', '.join(missing)}.", hint=hint)
    if broken:
        told = "; ".join(f"{name} ({reason})" for name, reason in sorted(broken.items()))
        raise EnvironmentFault(f"The environment of “{path}” is broken, these do not import: {told}.", hint=hint)
    complete = tuple(one for one in FRAMEWORKS if all(name in versions for name, _module in PARTS[one]))
    return Environment(path, Path(prefix), complete, versions)


def _ask(python: str, wanted: Sequence[str], imports: bool) -> Tuple[str, str, Dict[str, str], Dict[str, str]]:
    """Return path, prefix, versions by our names, and reasons of what does not import."""
    packages = [name for parts in PARTS.values() for name, _module in parts]
    packages += [floor.package for floor in FLOORS] + [other for names in ALIASES.values() for other in names]
    modules: List[str] = []
    if imports:
        modules = [module for framework in ("", *wanted) for _name, module in PARTS[framework]]
    question = json.dumps({"packages": sorted(set(packages)), "imports": modules})
    try:
        answer = run_python(python, _PROBE, question, timeout=600.0 if imports else 60.0)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(
            f"The Python interpreter “{python}” of the engine does not start: {error}.", hint=HINT.format("pytorch")
        ) from error
    try:
        found = json.loads(answer.stdout.strip().splitlines()[-1])
        versions = dict(found["versions"])
        versions["python"] = ".".join(map(str, found["python"]))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        tail = " ".join((answer.stderr or answer.stdout).strip().splitlines()[-1:])
        raise EnvironmentFault(
            f"“{python}” did not answer as a Python interpreter (exit code {answer.returncode}). {tail}".strip(),
            hint=HINT.format("pytorch"),
        ) from error
    for name, others in ALIASES.items():
        alias = next((versions[one] for one in others if one in versions), "")
        if alias:
            versions.setdefault(name, alias)
    return python, found["prefix"], versions, found["broken"]


def _numbers(version: str) -> Tuple[int, ...]:
    """Return the leading numbers of a version: ``2.13.0+cpu`` is (2, 13, 0), without trailing zeros."""
    numbers: List[int] = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:  # 2.10rc1
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
