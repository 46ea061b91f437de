"""One worker process as the engine sees it: started, spoken to, watched and ended."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Deque, Dict, Optional, Sequence, Tuple

from . import frames, messages
from .devices import Slot

# What a reader thread puts on the engine's queue: the worker and its message; None when the worker is gone.
Arrival = Tuple["WorkerProcess", Optional[Dict[str, Any]]]

_STDERR_LINES = 60
_NICENESS = 5


class WorkerProcess:
    """A started worker. Must be created by the engine's main thread.

    The kernel's "kill me when my parent ends" is tied to the *thread* that started the child, and only the main
    thread lives as long as the engine.
    """

    def __init__(self, slot: Slot, command: Sequence[str], arrivals: queue.Queue[Arrival]) -> None:
        self.slot = slot
        self.greeted = False
        self.hung = False
        self.finished = 0
        self._fault = ""
        self.task: Optional[int] = None
        self.deadline = float("inf")
        self._lines: Deque[str] = collections.deque(maxlen=_STDERR_LINES)
        environment = {**os.environ, **slot.environment(), "DEEP_RASTER_ENGINE_PID": str(os.getpid())}
        self._process = subprocess.Popen(  # nosec B603 - a list, no shell, our own interpreter
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # its own process group, so that children of libraries end with it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise OSError("the worker was started without pipes")
        self._incoming: BinaryIO = self._process.stdin  # type: ignore[assignment]
        threading.Thread(target=self._read, args=(self._process.stdout, arrivals), daemon=True).start()
        self._drain = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def was_killed(self) -> bool:
        """Whether somebody else ended the process: the system short of memory, or a person."""
        outside = self._process.returncode in (-signal.SIGTERM, -getattr(signal, "SIGKILL", signal.SIGTERM))
        return outside and not self.hung and not self._fault

    def reject(self, fault: str) -> None:
        """End the worker because it does not keep to the protocol; its reader reports the death."""
        self._fault = fault
        self.kill()

    def send(self, number: int, task: str, payload: Dict[str, Any], scratch: Path, lease: float) -> bool:
        """Hand out a task with ``lease`` seconds to answer; False if the worker is already gone."""
        message = {
            "id": number,
            "task": task,
            "payload": payload,
            "scratch": str(scratch),
            "device": self.slot.device,
            "threads": self.slot.threads,
        }
        body = frames.encode(message)
        try:
            self._incoming.write(body)
            self._incoming.flush()
        except OSError:
            return False
        self.task = number
        self.deadline = time.monotonic() + lease
        return True

    def kill(self, wait: bool = True) -> None:
        """End the worker and whatever it started, at once; ``wait`` until the system has taken it away."""
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        if wait:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)

    def cause_of_death(self) -> str:
        """Return a sentence about how the worker ended, with the last lines it wrote."""
        if self.hung:
            return "gave no sign of life in time and was ended"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        self._drain.join(timeout=1)
        code = self._process.returncode
        if self._fault:
            sentence = f"sent what is no message of this protocol and was ended ({self._fault})"
        elif code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            sentence = f"ended by signal {name}"
            if -code == signal.SIGKILL:
                sentence += " (often the system taking back memory)"
        else:
            sentence = f"ended with exit code {code}"
        tail = "\n".join(self._lines)
        return f"{sentence}; its last words:\n{tail}" if tail else sentence

    def _read(self, stream: BinaryIO, arrivals: queue.Queue[Arrival]) -> None:
        """Queue the worker's messages; whatever is not a frame of ours ends the worker."""
        while True:
            message: Optional[Dict[str, Any]] = None
            try:
                message = frames.read(stream)
                message = message and messages.check(message)
            except frames.FrameError as error:
                # A worker that was killed in the middle of a sentence has done nothing wrong.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=0.5)
                if self._process.returncode is None:
                    self._fault = str(error)
                message = None
            except OSError:
                message = None
            if message is None:
                self.kill()
                arrivals.put((self, None))
                return
            arrivals.put((self, message))

    def _read_errors(self, stream: BinaryIO) -> None:
        """Keep the last lines of stderr; an undrained pipe would block the worker."""
        for line in iter(lambda: stream.readline(4096), b""):
            self._lines.append(line.decode("utf-8", "replace").rstrip())
