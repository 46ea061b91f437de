"""Stands for QGIS in the nightly tests: has one job done by the client and tells what happens, one JSON line each.

``python nightly_host.py job.json``; a line ``cancel`` on standard input cancels. Standard library alone, as in QGIS.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401 - registers the package
from deep_raster.engine import client, events, jobs
from deep_raster.engine.environment import Environment
from deep_raster.engine.errors import DeepRasterError, JobCancelled


def tell(**members) -> None:
    print(json.dumps({"t": time.monotonic(), **members}), flush=True)


def main() -> int:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    stop = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "cancel":
                stop.set()

    threading.Thread(target=listen, daemon=True).start()
    environment = Environment(python=asked.get("python") or sys.executable, root="", frameworks=(), versions={})
    try:
        values = client.run_job(
            jobs.from_dict(asked["job"]),
            on_event=lambda event: tell(**events.to_dict(event)),
            is_cancelled=stop.is_set,
            environment=environment,
        )
        tell(end="done", values=values)
        return 0
    except JobCancelled as error:
        tell(end="cancelled", message=str(error))
        return 2
    except DeepRasterError as error:
        tell(end="failed", **{**error.to_dict(), "message": str(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main())
