"""A real worker with tasks that misbehave on purpose; started instead of the product's own entry point."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import time
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import conftest  # noqa: F401 - registers the package
from deep_raster.engine.errors import RasterError
from deep_raster.engine.events import Log, Progress
from deep_raster.engine.workers import task, worker

faults = types.ModuleType("deep_raster.engine.faults")
pipes = []
take_over = worker._take_over_pipes
worker._take_over_pipes = lambda: pipes.extend(take_over()) or tuple(pipes)
worker.REST_AFTER, worker.FORGET_AFTER = 0.3, 0.6


def square(payload, context):
    """Write the square of a number into a file and name it: the shape of every real tile task."""
    time.sleep(payload.get("seconds", 0.0))
    path = context.scratch / f"{payload['n']}.txt"
    part = path.with_suffix(".part")
    part.write_text(str(payload["n"] ** 2))
    part.rename(path)
    context.emit(Progress(1.0, str(payload["n"])))
    return {"file": path.name, "pid": os.getpid()}


def _once(payload, context):
    """True the first time any worker sees this payload."""
    mark = context.scratch / f"seen-{payload['n']}"
    if mark.exists():
        return False
    mark.touch()
    return True


def fault(payload, context):
    """Misbehave as asked; with ``once``, only at the first try."""
    kind = payload.get("fault")
    if kind and (not payload.get("once") or _once(payload, context)):
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "abort":
            os.abort()
        if kind == "exit":
            os._exit(0)
        if kind == "hang":
            time.sleep(600)
        if kind == "hang_in_native_code":
            ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the interpreter lock, as a stuck native library would
        if kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "raise":
            raise ZeroDivisionError("a library's own mistake")
        if kind == "refuse":
            raise RasterError("The file is broken.", stage="reading", file="/data/a.tif", hint="Copy it again.")
        if kind == "junk":
            pipes[1].write(bytes.fromhex(payload["bytes"]))
            pipes[1].flush()
            time.sleep(600)
        if kind == "grow":
            context.state["grown"] = b"x" * payload["size"]
        if kind == "lose the device":
            raise RuntimeError("CUDA error: unspecified launch failure")
        if kind == "chatter":
            print("x" * 50_000_000)
            print("y" * 50_000_000, file=sys.stderr)
            context.emit(Log("info", "chattered"))
    return square(payload, context)


def threads(payload, context):
    """Tell what the worker was started with."""
    return {"threads": context.threads, "device": context.device, "omp": os.environ["OMP_NUM_THREADS"]}


def reach(payload, context):
    """Tell whether a file can be read, one in scratch written, and where temporary files go."""
    try:
        Path(payload["file"]).read_text()
        read = True
    except PermissionError:
        read = False
    (context.scratch / "made").write_text("x")
    return {"read": read, "temporary": tempfile.gettempdir(), "home": os.path.expanduser("~")}


class Resting:
    """A value of the state that notes in a file what happens to it."""

    def __init__(self, path):
        self.path = path

    def rest(self):
        self.path.write_text("rests")

    def __del__(self):
        self.path.write_text(self.path.read_text() + ", gone")


def keep(payload, context):
    """Keep a value in the worker's state."""
    context.state["kept"] = Resting(context.scratch / "kept")
    return {}


faults.reach, faults.keep = reach, keep
faults.square, faults.fault, faults.threads = square, fault, threads
sys.modules[faults.__name__] = faults
task.TASKS.update(square="faults:square", fault="faults:fault", threads="faults:threads", reach="faults:reach")
task.TASKS.update(keep="faults:keep")

if __name__ == "__main__":
    worker.main()
