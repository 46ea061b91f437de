"""Where things are kept that can be made again: packages, weights, measurements. Standard library alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_root() -> Path:
    """Return the folder of all caches: ``DEEP_RASTER_CACHE``, or ours in the user's cache folder of the system."""
    named = os.environ.get("DEEP_RASTER_CACHE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "deep_raster"


def package_cache() -> Path:
    """Return the folder of unpacked packages, by content hash."""
    return cache_root() / "packages"


def weights_cache() -> Path:
    """Return the folder of weights converted into a safe form, by content hash."""
    return cache_root() / "weights"


def measured_cache() -> Path:
    """Return the folder of what was measured of networks, by content hash."""
    return cache_root() / "measured"
