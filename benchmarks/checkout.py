"""Import this first: it makes the checkout importable as ``deep_raster`` whatever its folder is called."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if "deep_raster" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("deep_raster_launch", ROOT / "engine" / "launch.py")
    _launch = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_launch)
    _launch.register()
