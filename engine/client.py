"""Have jobs done by an engine process: start it or reuse a warm one, pass events on, cancel, never leave one behind.

This is what QGIS's side uses; standard library alone. The engine runs in its own interpreter with its own
environment, so nothing it does (a crash in CUDA, another numpy, memory running out) can reach the caller's process.
"""

from __future__ import annotations

import collections
import contextlib
import json
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, Deque, Dict, List, Optional

from . import PROTOCOL, events, jobs
from .environment import Environment, engine_environment, find_environment
from .errors import EnvironmentFault, JobCancelled, WorkerError, from_dict

OnEvent = Callable[[events.Event], None]
IsCancelled = Callable[[], bool]

DEFAULT_IDLE = 300.0
# A cold start from a slow disk behind a virus scanner; a warm one takes 0.1 s.
_GREETING_TIMEOUT = 60.0
_POLL = 0.1
# An engine that was asked to cancel ends its busy workers at once; one that has not answered by then is ended itself.
_CANCEL_TIMEOUT = 1.0
# Seconds in which an engine whose input closes ends its workers and tidies up, before the system ends it.
_FAREWELL = 0.7
_STDERR_LINES = 60


class Engine:
    """One engine process. Not to be used by two threads at a time.

    Args:
        environment: whose interpreter runs it.
        idle: seconds without a job after which it ends by itself.
        is_cancelled: asked while it starts.

    Raises:
        EnvironmentFault: it does not start.
        JobCancelled: ``is_cancelled`` became true before it had started.
    """

    def __init__(
        self, environment: Environment, idle: float = DEFAULT_IDLE, is_cancelled: IsCancelled = lambda: False
    ) -> None:
        self.python = environment.python
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        self._errors: Deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._number = 0
        self._at_work = False
        launcher = Path(__file__).resolve().parent / "launch.py"
        command = [environment.python, "-I", "-B", "-u", str(launcher), "engine", "--idle", f"{idle:g}"]
        try:
            self._process = subprocess.Popen(  # nosec B603 - a list, no shell, the environment's own interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=engine_environment(),
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a Ctrl-C in the terminal reaches QGIS, which then cancels in order
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise EnvironmentFault(
                f"The engine could not be started: {error}.",
                stage="starting the engine",
                file=environment.python,
                hint="Run “Set up environment” (deepraster:setupenvironment) again.",
            ) from error
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise EnvironmentFault("The engine was started without pipes.", stage="starting the engine")
        self._requests: IO[str] = self._process.stdin
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._greet(self._first_line(is_cancelled))
        except BaseException:
            self.kill(patience=0.0)
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def is_reusable(self) -> bool:
        """Whether the process runs and has ended its last job, so that it can take another one."""
        return self.is_alive and not self._at_work

    def run(self, job: jobs.Job, on_event: OnEvent, is_cancelled: IsCancelled) -> Dict[str, Any]:
        """Have one job done and return its named outputs.

        Raises:
            JobCancelled: ``is_cancelled`` became true.
            DeepRasterError: what the engine reports.
            WorkerError: the engine process itself died.
        """
        self._number += 1
        self._at_work = True
        self._request({"request": "run", "id": self._number, "job": jobs.to_dict(job)})
        cancelled_at: Optional[float] = None
        while True:
            if cancelled_at is None and is_cancelled():
                cancelled_at = time.monotonic()
                self._request({"request": "cancel", "id": self._number})
            if cancelled_at is not None and time.monotonic() - cancelled_at > _CANCEL_TIMEOUT:
                self.kill()
                raise JobCancelled("The job was cancelled; the engine did not answer in time and was ended.")
            try:
                line = self._lines.get(timeout=_POLL)
            except queue.Empty:
                continue
            if line is None:
                raise self._death()
            event = self._event(line)
            self._at_work = not isinstance(event, (events.Result, events.Cancelled, events.Failure))
            if isinstance(event, events.Result):
                return event.values
            if isinstance(event, events.Cancelled):
                raise JobCancelled("The job was cancelled.")
            if isinstance(event, events.Failure):
                if event.traceback:
                    on_event(events.Log(events.DEBUG, event.traceback))
                raise from_dict(events.to_dict(event))
            if event is not None:
                on_event(event)

    def kill(self, patience: float = _FAREWELL) -> None:
        """End the process; its workers end with it. Closing the pipe lets it end them itself, for some seconds."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_FAREWELL)

    def _request(self, message: Dict[str, Any]) -> None:
        try:
            self._requests.write(json.dumps(message, ensure_ascii=False) + "\n")
            self._requests.flush()
        except OSError as error:
            raise self._death() from error

    def _event(self, line: str) -> Optional[events.Event]:
        """Return the event of a line that belongs to the present job."""
        try:
            members = json.loads(line)
        except ValueError:
            return None
        if not isinstance(members, dict) or members.get("id") != self._number:
            return None
        return events.from_dict(members)

    def _first_line(self, is_cancelled: IsCancelled) -> Optional[str]:
        """Wait for the first line of output and return it; None if the process ends without any."""
        end = time.monotonic() + _GREETING_TIMEOUT
        while time.monotonic() < end:
            if is_cancelled():
                raise JobCancelled("The job was cancelled.")
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=_POLL)
        raise EnvironmentFault(
            f"The engine did not answer within {_GREETING_TIMEOUT:g} seconds.",
            stage="starting the engine",
            file=self.python,
            hint="Check that no virus scanner holds the file back, then try again.",
        )

    def _greet(self, line: Optional[str]) -> None:
        """Check the greeting, so that both sides can refuse to misunderstand each other."""
        try:
            hello = json.loads(line) if line is not None else None
        except ValueError:
            hello = None
        if not isinstance(hello, dict) or hello.get("event") != "hello":
            raise EnvironmentFault(
                "The engine did not start." + self._tail(),
                stage="starting the engine",
                file=self.python,
                hint="Run “Set up environment” (deepraster:setupenvironment) again.",
            )
        if hello.get("protocol") != PROTOCOL:
            raise EnvironmentFault(
                f"The engine speaks protocol {hello.get('protocol')}, this plugin {PROTOCOL}.",
                stage="starting the engine",
                hint="Restart QGIS so that both come from the same plugin.",
            )

    def _death(self) -> WorkerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        code = self._process.returncode
        return WorkerError(
            f"The engine process ended unexpectedly (exit code {code})." + self._tail(),
            hint="Start the job again; it goes on where it stopped if its output says so.",
        )

    def _tail(self) -> str:
        for reader in self._readers:  # what it wrote last may still be on its way
            reader.join(timeout=1)
        return " Its last words: " + "\n".join(self._errors) if self._errors else ""

    def _read_lines(self, stream: IO[str]) -> None:
        with contextlib.suppress(OSError, ValueError), stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self, stream: IO[str]) -> None:
        """Keep the last lines; an undrained pipe would block the engine."""
        with contextlib.suppress(OSError, ValueError), stream:
            for line in stream:
                self._errors.append(line.rstrip())


_lock = threading.Lock()
_resting: List[Engine] = []
_busy: List[Engine] = []


def run_job(
    job: jobs.Job,
    *,
    on_event: OnEvent,
    is_cancelled: IsCancelled,
    environment: Optional[Environment] = None,
    keep_warm: bool = False,
    idle: float = DEFAULT_IDLE,
) -> Dict[str, Any]:
    """Have a job done by a warm engine or a new one and return its named outputs.

    Args:
        job: what to do.
        on_event: called in this thread with progress, log lines and metrics.
        is_cancelled: asked ten times a second, also while the engine starts.
        environment: the interpreter to use; None to find it.
        keep_warm: leave the engine and its loaded networks running for the next job (the desktop).
        idle: seconds after which a warm engine ends by itself.

    Raises:
        DeepRasterError: see :meth:`Engine.run`; EnvironmentFault if there is no usable environment.
    """
    environment = environment or find_environment()
    if is_cancelled():
        raise JobCancelled("The job was cancelled.")
    engine = _take(environment, idle, is_cancelled)
    try:
        return engine.run(job, on_event, is_cancelled)
    finally:
        # One whose job was left in the middle (the caller's own code raised) would go on with it unseen.
        _give_back(engine, keep=keep_warm and engine.is_reusable)


def shutdown_engines() -> None:
    """End all engines, resting or busy (QGIS unloads the plugin or ends)."""
    with _lock:
        engines = _resting + _busy
        _resting.clear()
    for engine in engines:
        engine.kill()


def _take(environment: Environment, idle: float, is_cancelled: IsCancelled) -> Engine:
    """Return a resting engine of this interpreter, or start one."""
    with _lock:
        for engine in list(_resting):
            if not engine.is_alive:
                _resting.remove(engine)
            elif engine.python == environment.python:
                _resting.remove(engine)
                _busy.append(engine)
                return engine
    engine = Engine(environment, idle, is_cancelled)
    with _lock:
        _busy.append(engine)
    return engine


def _give_back(engine: Engine, keep: bool) -> None:
    with _lock:
        if engine in _busy:
            _busy.remove(engine)
        if keep:
            _resting.append(engine)
            return
    engine.kill()
