"""Entry point of an engine for the nightly tests: the product's, with short leases and the faulty worker of the tests.

NIGHTLY_ENGINE holds JSON: ``lease`` (seconds, for the shortest lease and for that of a task which runs alone) and
``step`` (see ``nightly_worker.py``), ``clock`` (to follow that of ``nightly_clock.py``) or ``worker`` (a whole
command).
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401 - registers the package
from deep_raster.engine.workers import pool

settings = json.loads(os.environ.get("NIGHTLY_ENGINE", "{}"))
if "lease" in settings:
    pool.SHORTEST_LEASE = settings["lease"]
    pool.FIRST_LEASE = settings.get("first", 20.0)
if "clock" in settings:
    import nightly_clock

    nightly_clock.let_it_be_set()
if "step" in settings or "clock" in settings:
    command = [sys.executable, "-B", "-u", str(Path(__file__).with_name("nightly_worker.py")), "launch.py worker"]
    pool.worker_command = lambda: command
if "worker" in settings:
    pool.worker_command = lambda: settings["worker"]

if __name__ == "__main__":
    sys.argv = ["launch.py", *sys.argv[sys.argv.index("engine") :]]
    runpy.run_module("deep_raster.engine.__main__", run_name="__main__", alter_sys=False)
