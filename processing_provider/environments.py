"""The engine's Python environment as the toolbox asks for it: cheap questions often, the full check once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Dict, Tuple

from ..engine.environment import VARIABLE, Environment, find_environment
from ..engine.setup.locations import finished_environments
from . import settings
from .text import tr

_lock = threading.Lock()
_found: Dict[Tuple[str, str, str], Environment] = {}


def find() -> Environment:
    """Return the environment of the engine; the check runs its interpreter, so not in the thread of the window.

    Raises:
        EnvironmentFault: there is none, or the one chosen will not do.
    """
    key = (os.environ.get(VARIABLE, ""), settings.python(), settings.location())
    with _lock:
        known = _found.get(key)
        if known is None or not Path(known.python).exists():
            known = _found[key] = find_environment(setting=settings.python(), location=settings.location())
        return known


def forget() -> None:
    """Check again next time (an environment was made, or another one was chosen)."""
    with _lock:
        _found.clear()


def state() -> Tuple[bool, str]:
    """Return whether an environment seems to be there, without running anything, and otherwise what to do."""
    named = os.environ.get(VARIABLE, "") or settings.python()
    if named:
        if Path(named).exists():
            return True, ""
        return False, tr("The Python interpreter {} chosen for the engine does not exist. {}").format(
            named, next_step()
        )
    if any(True for _ in finished_environments(settings.location())):
        return True, ""
    return False, tr("The engine has no Python environment yet. {}").format(next_step())


def next_step() -> str:
    """Return how to get an environment."""
    return tr(
        "Run “Set up environment” (deepraster:setupenvironment), or choose an existing interpreter in "
        "Settings ▸ Options ▸ Deep Raster."
    )
