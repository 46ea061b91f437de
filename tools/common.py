"""What the tools share: the checkout's root, the package under its real name, and lines for a person to follow."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that QGIS's bindings belong to, whatever python3 is first on the PATH
PACKAGE = "deep_raster"

runpy.run_path(str(ROOT / "engine" / "launch.py"), run_name="launch")["register"]()


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


class Told:
    """Prints a progress line when its text is new, with the seconds since the start."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begin = time.monotonic()
        self._last = ""

    def __call__(self, fraction: float, text: str) -> None:
        """Tell that ``fraction`` (0..1) of the work is done, and what is being done."""
        if text != self._last:
            self._last = text
            print(f"[{self._what} {fraction:4.0%} {time.monotonic() - self._begin:4.0f} s] {text}", flush=True)


def fail(text: str) -> None:
    """Print an error and end with exit code 1."""
    print(f"Error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)
