"""Start the engine or one of its workers by file path: ``python -I -B -u launch.py engine|worker``.

The package's folder may have any name (a checkout, an unpacked plugin), and an isolated interpreter has neither the
working directory nor PYTHONPATH, so the package is registered under its real name before anything of it is imported.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path


def register(name: str = "deep_raster") -> None:
    """Make the folder above this file importable as package ``name``, unless it already is."""
    if name in sys.modules:
        return
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(name, root / "__init__.py", submodule_search_locations=[str(root)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{root} does not hold the Deep Raster package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


ENTRY_POINTS = {"engine": "deep_raster.engine.__main__", "worker": "deep_raster.engine.workers.worker"}

if __name__ == "__main__":
    # The folder of this file comes first on the path of a script; its modules must be found by package name alone.
    sys.path[:] = [one for one in sys.path if Path(one or ".").resolve() != Path(__file__).resolve().parent]
    register()
    runpy.run_module(ENTRY_POINTS[sys.argv[1]], run_name="__main__", alter_sys=False)
