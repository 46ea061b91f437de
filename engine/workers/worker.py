"""A worker process: takes one task after the other from its pipe, carries it out, answers with a receipt.

It holds whatever makes the next task cheap (a loaded network, open rasters) and may crash at will: everything that
must survive is in files. It ends when the engine process ends, in native code too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO, Dict, Optional

from .. import PROTOCOL, __version__
from ..errors import DeepRasterError
from ..events import Event, to_dict
from . import frames
from .devices import CONFINE, Confinement
from .logs import told
from .sandbox import confine
from .task import TASKS, Task, TaskContext

# Seconds without a task after which open rasters are closed (on Windows an open file cannot be replaced), and after
# which networks are released too, so that other programs get the memory back.
REST_AFTER, FORGET_AFTER = 1.0, 60.0
_PR_SET_PDEATHSIG = 1
# How drivers and frameworks say that a GPU's context is gone. Whatever is asked of it afterwards fails as well.
_DEVICE_LOST = ("cuda error", "cuda_error_", "cuda failure", "device-side assert", "gpu is lost", "hip error")


def main() -> None:
    """Run the worker until its pipe closes."""
    _end_with_parent()
    _volunteer_for_the_oom_killer()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the engine's business
    incoming, outgoing = _take_over_pipes()
    if os.name == "nt":
        # On Windows a thread that reads a pipe while numpy is first imported can block both for ever.
        importlib.import_module("numpy")
    Worker(incoming, outgoing, *_confine()).serve()


class Worker:
    """The loop of one worker over its two pipes."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, protection: str = "", code_of: str = "") -> None:
        self._protection = protection
        self._code_of = code_of
        self._incoming = incoming
        self._outgoing = outgoing
        self._write_lock = threading.Lock()
        self._requests: queue.Queue[Dict[str, Any]] = queue.Queue()
        self._tasks: Dict[str, Task] = {}
        self._state: Dict[str, Any] = {}

    def serve(self) -> None:
        """Greet, then answer requests until the pipe closes."""
        hello = {"protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), "protection": self._protection}
        self._send({"hello": hello})
        threading.Thread(target=self._read_requests, daemon=True).start()
        while True:
            self._answer(self._next_request())

    def _next_request(self) -> Dict[str, Any]:
        """Return the next request; whoever waits long for it lets go of files first, then of everything."""
        with contextlib.suppress(queue.Empty):
            return self._requests.get(timeout=REST_AFTER)
        self._let_go()
        with contextlib.suppress(queue.Empty):
            return self._requests.get(timeout=FORGET_AFTER)
        self._state.clear()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return self._requests.get()

    def _let_go(self) -> None:
        for value in self._state.values():
            rest = getattr(value, "rest", None)
            if rest is not None:
                rest()

    def _read_requests(self) -> None:
        """Queue requests; end the process when the engine closes the pipe, also while a task runs."""
        while True:
            try:
                message = frames.read(self._incoming)
            except (frames.FrameError, OSError):
                message = None
            if message is None:
                os._exit(0)
            self._requests.put(message)

    def _answer(self, request: Dict[str, Any]) -> None:
        number = request["id"]
        context = TaskContext(
            scratch=Path(request["scratch"]),
            device=request["device"],
            threads=request["threads"],
            emit=lambda event: self._emit(number, event),
            code_of=self._code_of,
            state=self._state,
        )
        try:
            with told(context.emit):
                receipt = self._task(request["task"])(request["payload"], context)
            self._send({"id": number, "receipt": receipt})
        except Exception as error:
            # Whatever a library raises must reach the engine as an answer; the engine decides about another try.
            trace, lost = traceback.format_exc(), lost_device(error)
            if isinstance(error, DeepRasterError) and not lost:
                self._send({"id": number, "error": error.to_dict(), "traceback": trace})
            else:
                sentence = lost or f"{type(error).__name__}: {error}"
                self._send({"id": number, "crash": sentence, "traceback": trace, "device_lost": bool(lost)})

    def _task(self, name: str) -> Task:
        if name not in self._tasks:
            module, _, function = TASKS[name].partition(":")
            imported = importlib.import_module(f"..{module}", package=__package__)
            self._tasks[name] = getattr(imported, function)
        return self._tasks[name]

    def _emit(self, number: int, event: Event) -> None:
        self._send({"id": number, **to_dict(event)})

    def _send(self, message: Dict[str, Any]) -> None:
        with self._write_lock:
            frames.write(self._outgoing, message)


def lost_device(error: Optional[BaseException]) -> str:
    """Return what an error, or one that led to it, says about a GPU whose context is lost; empty for all others."""
    while error is not None:
        text = str(error).strip().partition("\n")[0]
        if any(sign in text.lower() for sign in _DEVICE_LOST) and "out of memory" not in text.lower():
            return text
        error = error.__cause__ or error.__context__
    return ""


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the protocol's descriptors and give every library others, so that no print can break a frame."""
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - stays open for the life of the process
    return incoming, outgoing


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when the engine ends (Linux); elsewhere the closed pipe does it."""
    if not sys.platform.startswith("linux"):
        return
    parent: Optional[str] = os.environ.get("DEEP_RASTER_ENGINE_PID")
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != int(parent):
        os._exit(0)  # the engine died before the request above was in force


def _confine() -> tuple[str, str]:
    """Give up what this worker is not to reach, if its slot says so.

    Returns:
        What is in force, as a sentence, and the digest of the package that the worker serves; both empty without
        confinement.
    """
    text = os.environ.pop(CONFINE, "")
    if not text:
        return "", ""
    limits = Confinement.from_json(text)
    return confine(limits.readable, limits.writable, limits.tcp_ports).sentence, limits.owner


def _volunteer_for_the_oom_killer() -> None:
    """When memory runs out the kernel shall take a worker, whose task can be done again, and not QGIS."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")


if __name__ == "__main__":
    main()
