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
# Seconds that its exit code, and what it wrote last, may take to arrive. The thread that reads its pipe waits for them,
# as the engine's main thread must be able to answer a cancel.
_LAST_WORDS = 2.0
# Seconds until a killed process is gone, unless the system is stuck; it is waited for so that no zombie stays.
_TAKEN_AWAY = 60.0


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
        self._drain = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._drain.start()
        # Last, because it needs all of the above as soon as a worker dies, which may be now.
        threading.Thread(target=self._read, args=(self._process.stdout, arrivals), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def was_killed(self) -> bool:
        """Whether somebody else ended the process: the system short of memory, or a person."""
        outside = self._process.returncode in (-signal.SIGTERM, -getattr(signal, "SIGKILL", signal.SIGTERM))
        return outside and not self.hung and not self._fault

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

    def kill(self) -> None:
        """Tell the system to end the worker and whatever it started, at once; :meth:`ended` tells when it has."""
        with contextlib.suppress(OSError):
            if os.name != "posix":
                self._process.kill()
            elif self._is_number_ours():
                os.killpg(self._process.pid, signal.SIGKILL)

    def _is_number_ours(self) -> bool:
        """Return whether the process id still stands for the worker, or for a group of what it left behind.

        The system gives a number out again only after the worker was waited for and its group is empty; then a process
        of that number is somebody else's.
        """
        if self._process.returncode is None:
            return True
        try:
            os.kill(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def ended(self, within: float = 0.0) -> bool:
        """Return whether the system has taken the process away, after at most so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=within)
        return self._process.returncode is not None

    def cause_of_death(self) -> str:
        """Return a sentence about how the worker ended, with the last lines it wrote."""
        if self.hung:
            return "gave no sign of life in time and was ended"
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
                if not self.ended(0.5):
                    self._fault = str(error)
                message = None
            except OSError:
                message = None
            if message is None:
                self.kill()
                self.ended(_LAST_WORDS)
                self._drain.join(timeout=_LAST_WORDS)
                arrivals.put((self, None))
                self.ended(_TAKEN_AWAY)
                return
            arrivals.put((self, message))

    def _read_errors(self, stream: BinaryIO) -> None:
        """Keep the last lines of stderr; an undrained pipe would block the worker."""
        for line in iter(lambda: stream.readline(4096), b""):
            self._lines.append(line.decode("utf-8", "replace").rstrip())
