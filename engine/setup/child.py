"""The environment variables of the engine's processes, and how to start and end such a process.

QGIS, its launchers, conda and AppImages set variables that break another Python or its GDAL. A child gets a cleaned
copy; QGIS's own environment is never written to.
"""

from __future__ import annotations

import os
import signal
import subprocess  # nosec B404 - starting the engine's own interpreter is what this module is for
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

WINDOWS = sys.platform == "win32"

_REMOVED = (
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
    "PROJ_LIB",
    "PROJ_DATA",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "GDAL_PYTHON_DRIVER_PATH",
    "QGIS_PREFIX_PATH",
    "QGIS_PLUGINPATH",
    "LD_PRELOAD",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",  # would turn torch.load into code execution
    "TF_USE_LEGACY_KERAS",
)
_REMOVED_PREFIXES = ("PYTHON", "CONDA_", "_CONDA_", "DYLD_", "QT_", "PIP_REQ_TRACKER")
_PIP_REMOVED = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV", "PIP_LOG")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_FIXED = {
    "PYTHONIOENCODING": "utf-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "GDAL_VRT_ENABLE_PYTHON": "NO",  # Python inside a VRT is code from a data file
}
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def engine_environment(
    base: Optional[Mapping[str, str]] = None, *, python: str = "", threads: int = 0
) -> Dict[str, str]:
    """Return the environment variables for a process of the engine.

    Args:
        base: what to start from; None means this process's own environment, which stays untouched.
        python: the interpreter to be started; one of conda gets the PATH that its libraries need.
        threads: native threads the process may use (thread-count variables are set); 0 leaves them as they are.
    """
    source = dict(os.environ if base is None else base)
    roots = _qgis_roots(source)
    kept = {
        name: value
        for name, value in source.items()
        if name.upper() not in _REMOVED and not name.upper().startswith(_REMOVED_PREFIXES)
    }
    for name in (*_CERTIFICATES, "LD_LIBRARY_PATH", "PATH"):
        if name not in kept:
            continue
        value = _without_qgis(name, kept[name], roots)
        if value:
            kept[name] = value
        else:
            del kept[name]
    kept.update(_FIXED)
    if threads > 0:
        kept.update({name: str(threads) for name in THREAD_VARIABLES})
    if python:
        _activate_conda(kept, Path(python))
    return kept


def pip_environment(base: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """Return the environment for pip: indexes, proxies and certificates stay, other places to install to go."""
    kept = {name: value for name, value in engine_environment(base).items() if name.upper() not in _PIP_REMOVED}
    kept["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return kept


def _qgis_roots(source: Mapping[str, str]) -> List[Path]:
    """Return the folders of a bundled QGIS; a QGIS of the Linux distribution shares /usr and is none."""
    found = [source[name] for name in ("OSGEO4W_ROOT", "APPDIR") if source.get(name)]
    prefix = source.get("QGIS_PREFIX_PATH", "")
    if WINDOWS and prefix:
        found.append(str(Path(prefix).parent.parent))  # <root>/apps/qgis
    bundle = next((str(one) for one in Path(sys.prefix).parents if one.suffix == ".app"), "")
    if sys.platform == "darwin" and bundle:
        found.append(bundle)
    return [Path(one) for one in found if len(Path(one).parts) > 1]


def _without_qgis(name: str, value: str, roots: Sequence[Path]) -> str:
    """Return a path list without the entries inside QGIS; of LD_LIBRARY_PATH only the GPU driver's folder stays."""
    entries = [one for one in value.split(os.pathsep) if one]
    kept = [one for one in entries if not any(root == Path(one) or root in Path(one).parents for root in roots)]
    if name == "LD_LIBRARY_PATH":
        kept = [one for one in kept if (Path(one) / "libcuda.so.1").exists()]
    return os.pathsep.join(kept)


def _activate_conda(variables: Dict[str, str], python: Path) -> None:
    prefix = python.parent if WINDOWS else python.parent.parent
    if not (prefix / "conda-meta").is_dir():
        return
    variables["CONDA_PREFIX"] = str(prefix)
    folders = [prefix, prefix / "Library" / "bin", prefix / "Scripts"] if WINDOWS else [prefix / "bin"]
    variables["PATH"] = os.pathsep.join([*map(str, folders), variables.get("PATH", "")])


def hidden_start(own_group: bool = True) -> Dict[str, Any]:
    """Return keyword arguments of :class:`subprocess.Popen`: no console window on Windows, a group of its own."""
    if sys.platform == "win32":
        startup = subprocess.STARTUPINFO()
        startup.dwFlags |= subprocess.STARTF_USESHOWWINDOW
        return {"creationflags": subprocess.CREATE_NO_WINDOW, "startupinfo": startup}
    return {"start_new_session": own_group}


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """End a process started with :func:`hidden_start` and everything it has started."""
    if sys.platform == "win32":
        taskkill = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "taskkill.exe"
        subprocess.run(  # nosec B603 - a fixed program and a number
            [str(taskkill), "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False, timeout=30
        )
    else:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # the group outlives its leader while a member lives
        except ProcessLookupError:
            process.poll()
    if process.poll() is None:
        process.kill()
    process.wait(timeout=30)


def run_python(python: str, code: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a few lines in another interpreter, isolated from its working directory and from user packages.

    Raises:
        OSError: the interpreter cannot be started.
        subprocess.TimeoutExpired: it did not end in time.
    """
    return subprocess.run(  # nosec B603 - a list without a shell; the interpreter is the one that the user chose
        [python, "-I", "-c", code, *arguments],
        env=engine_environment(python=python),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
        **hidden_start(),
    )
