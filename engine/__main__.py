"""The engine process: takes jobs from its standard input, has workers do them, tells events on its standard output.

Each message is one line of JSON. Requests: ``{"request": "run", "id": 1, "job": {...}}``,
``{"request": "cancel", "id": 1}``. Events carry the ``id`` of their job. The engine ends when its input closes, or
after ``--idle`` seconds without a job. ``run FILE`` carries out the job of a JSON file and ends, for use from a shell.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Optional, TextIO

from . import PROTOCOL, __version__, events, jobs
from .errors import JobCancelled
from .job_session import JobSession, failure_of, run_job
from .scratch import sweep
from .workers.pool import WorkerPool, worker_command


class Engine:
    """Runs jobs one after the other in the main thread; a second thread listens meanwhile."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._requests: queue.Queue[Dict[str, Any]] = queue.Queue()
        self._cancelled: set[Any] = set()
        self._session: Optional[JobSession] = None
        self.pool = WorkerPool(worker_command())

    def tell(self, event: events.Event, number: Any = None) -> None:
        """Write one event line; a closed pipe means that nobody is left to work for."""
        extra = {} if number is None else {"id": number}
        try:
            with self._lock:
                self._output.write(events.to_line(event, **extra) + "\n")
                self._output.flush()
        except OSError:
            self.end(1)

    def greet(self) -> None:
        """Tell who answers."""
        self.tell(events.Hello(PROTOCOL, __version__, platform.python_version(), os.getpid()))

    def listen(self, stream: TextIO) -> None:
        """Queue requests and note cancels until the stream ends; then end everything."""
        for line in stream:
            try:
                request = json.loads(line)
            except ValueError:
                continue
            if not isinstance(request, dict):
                continue
            if request.get("request") == "cancel":
                self._cancelled.add(request.get("id"))
            elif request.get("request") == "run":
                self._requests.put(request)
        self.end(0)

    def serve(self, idle: float) -> None:
        """Run queued jobs until the input closes, or nothing was asked for ``idle`` seconds (0: for ever)."""
        while True:
            try:
                request = self._requests.get(timeout=idle or None)
            except queue.Empty:
                self.end(0)
            else:
                self.run(request.get("job"), request.get("id"))

    def run(self, members: Any, number: Any) -> bool:
        """Run one job and tell how it ended; True if it gave a result."""
        ending = self._outcome(members, number)
        self.tell(ending, number)
        return isinstance(ending, events.Result)

    def _outcome(self, members: Any, number: Any) -> events.Event:
        """Run one job and return how it ended; by then its scratch folder is gone, for whoever hears may end us."""
        try:
            self._session = JobSession(
                emit=lambda event: self.tell(event, number),
                is_cancelled=lambda: number in self._cancelled,
                pool=self.pool,
            )
            return events.Result(run_job(jobs.from_dict(members if isinstance(members, dict) else {}), self._session))
        except JobCancelled as error:
            return events.Cancelled(resumable=bool(error.hint))
        except Exception as error:
            # Also a fault of ours: the engine must live on and say so, with the traceback in the log.
            return failure_of(error)
        finally:
            self._close_session()

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def end(self, code: int) -> None:
        """End the workers and this process at once, whatever the main thread is doing."""
        self.pool.close()
        self._close_session()
        os._exit(code)


def _take_over_output() -> TextIO:
    """Keep standard output for events and send every other print to standard error."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    return output


def main(arguments: Optional[list[str]] = None) -> None:
    """Start the engine."""
    parser = argparse.ArgumentParser(prog="deep_raster engine", description=__doc__)
    parser.add_argument("--idle", type=float, default=0.0, help="end after so many seconds without a job (0: never)")
    parser.add_argument("command", nargs="?", choices=["run"], help="run the job of a JSON file and end")
    parser.add_argument("file", nargs="?", help="the JSON file")
    asked = parser.parse_args(arguments)
    # The terminal sends Ctrl-C to the whole group; the engine obeys its parent instead, which asks it to cancel.
    signal.signal(signal.SIGINT, signal.SIG_IGN if asked.command is None else signal.default_int_handler)
    # Beside the work: what killed engines left may be large, and nobody shall wait for its removal.
    threading.Thread(target=sweep, daemon=True).start()
    engine = Engine(_take_over_output())
    if asked.command == "run":
        _run_file(engine, asked.file)
        return
    engine.greet()
    threading.Thread(target=engine.listen, args=(sys.stdin,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: engine.end(143))
    engine.serve(asked.idle)


def _run_file(engine: Engine, file: Optional[str]) -> None:
    if not file:
        sys.exit("run needs the path of a JSON file with a job")
    started = time.monotonic()
    try:
        done = engine.run(json.loads(Path(file).read_text(encoding="utf-8")), None)
    except KeyboardInterrupt:
        engine.end(130)
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)
    engine.end(0 if done else 1)


if __name__ == "__main__":
    # Strip the word that chose this entry point when started through launch.py.
    main([one for one in sys.argv[1:] if one != "engine"])
