"""Make the checkout importable as ``deep_raster`` whatever its folder is called."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _register() -> None:
    spec = importlib.util.spec_from_file_location("deep_raster_launch", ROOT / "engine" / "launch.py")
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.register()


if "deep_raster" not in sys.modules:
    _register()

# With pytest's importlib mode test modules are no packages; what several folders share is found here.
sys.path.insert(0, str(ROOT / "tests" / "support"))

# One process runs the tests of all frameworks, which the product never does: PyTorch's compiler brings triton, which
# aborts the process if TensorFlow was imported before it (both carry an LLVM).
with contextlib.suppress(ImportError):
    import triton  # noqa: F401


def pytest_configure(config):
    # rasterio itself multiplies transforms by *, which the package affine means to give up.
    config.addinivalue_line("filterwarnings", "ignore:Use `@` matmul:PendingDeprecationWarning")
