"""Entry point of a worker for the nightly tests: the product's, which kills itself at a step of its way.

NIGHTLY_ENGINE names the ``step`` and how often it happens (``times``) in a whole job; marks lie in NIGHTLY_RUN. With
``clock`` it lives on, and its clock can be set.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401 - registers the package
from deep_raster.engine.workers import frames, worker

settings = json.loads(os.environ["NIGHTLY_ENGINE"])
marks = Path(os.environ["NIGHTLY_RUN"])


def die() -> None:
    """End as by kill -9, if that has not happened often enough."""
    for number in range(settings["times"]):
        try:
            with (marks / f"death-{number}").open("x") as mark:
                mark.write(str(time.monotonic()))
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name: str) -> None:
    """Die before a function does its work."""
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        die()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def after(owner, name: str, only=lambda result, args: True) -> None:
    """Die after a function has done its work."""
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        if only(result, args):
            die()
        return result

    setattr(owner, name, wrapped)


def half_written(path, data) -> None:
    """Leave half a part behind, as a power cut between two writes would."""
    part = path.with_name(path.name + ".part")
    if path.suffix == ".part":
        part.write_bytes(data[: len(data) // 2])
        die()
    original_write(path, data)


def arm(step: str) -> None:
    """Prepare the death at a step."""
    global original_write
    if step == "start":
        die()
    elif step == "greeting":
        before(worker.Worker, "serve")
    elif step == "receipt":
        after(frames, "write", lambda _, args: "receipt" in args[1] and "counts" in args[1]["receipt"])
    else:
        from deep_raster.engine.inference import loading, parts, predict, reading

        if step == "weights":
            before(loading, "_load")
        elif step == "read":
            before(reading.RasterSource, "read")
        elif step == "infer":
            before(predict.Work, "ask")
        elif step == "part":
            original_write, parts.write_whole = parts.write_whole, half_written
        elif step == "renamed":
            after(predict, "write_part")
        else:
            raise ValueError(step)


if "clock" in settings:
    import nightly_clock

    nightly_clock.let_it_be_set()
else:
    arm(settings["step"])

if __name__ == "__main__":
    worker.main()
