"""The plugin's settings: typed, in one place, under one prefix."""

from __future__ import annotations

import os

from qgis.core import QgsSettings

from .compat import is_null

PREFIX = "deep_raster"
CACHE_VARIABLE = "DEEP_RASTER_CACHE"


def _read(name: str, default: str) -> str:
    value = QgsSettings().value(f"{PREFIX}/{name}", default)
    return default if is_null(value) else str(value)


def _write(name: str, value: str) -> None:
    settings = QgsSettings()
    if value:
        settings.setValue(f"{PREFIX}/{name}", value)
    else:
        settings.remove(f"{PREFIX}/{name}")


def python() -> str:
    """Return the interpreter that the user has chosen for the engine, or empty: find one."""
    return _read("python", "")


def set_python(path: str) -> None:
    """Choose the engine's interpreter; empty to find one."""
    _write("python", path)


def location() -> str:
    """Return the folder that environments are made in, or empty: the platform's place for user data."""
    return _read("location", "")


def set_location(path: str) -> None:
    """Choose where environments are made; empty for the platform's place."""
    _write("location", path)


def idle_minutes() -> int:
    """Return how many minutes an engine stays ready after a job in the desktop (0: it ends at once)."""
    try:
        return max(0, int(_read("idle_minutes", "5")))
    except ValueError:
        return 5


def set_idle_minutes(minutes: int) -> None:
    """Set how long an engine stays ready."""
    QgsSettings().setValue(f"{PREFIX}/idle_minutes", int(minutes))


def cache_folder() -> str:
    """Return the folder that the user has chosen for what can be made again (unpacked packages), or empty."""
    return _read("cache_folder", "")


def set_cache_folder(path: str) -> None:
    """Choose the folder of caches from now on; empty for the usual one."""
    _write("cache_folder", path)
    apply_cache_folder()


def apply_cache_folder() -> None:
    """Tell the readers of packages here and in the engine about the chosen folder, through a variable of our own."""
    global _applied
    chosen = cache_folder()
    if chosen and (_applied or CACHE_VARIABLE not in os.environ):  # what was set from outside comes first
        os.environ[CACHE_VARIABLE] = _applied = chosen
    elif not chosen and _applied:
        os.environ.pop(CACHE_VARIABLE, None)
        _applied = ""


_applied = ""
