"""The local pool: hands tasks to worker processes, notices deaths and hangs, does lost tasks again.

No pool library is used because one kill costs concurrent.futures and loky all tasks in flight, and others leave
orphans. The loop runs in the engine's main thread, which alone may start workers (see :mod:`.process`).
"""

from __future__ import annotations

import collections
import contextlib
import queue
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Sequence

from .. import PROTOCOL, __version__, events
from ..errors import WorkerError, from_dict
from ..session import Quarantined
from .devices import Slot
from .frames import FrameError
from .memory import RECYCLE_AT, resident_memory, total_memory
from .process import Arrival, WorkerProcess

OnReceipt = Callable[[int, Dict[str, Any], Dict[str, Any]], None]
OnEvent = Callable[[events.Event], None]

# A task may take the first worker that long: importing a framework and loading a network from a slow disk.
FIRST_LEASE = 600.0
# Afterwards a task may take ten times the median, but never less than this.
SHORTEST_LEASE = 60.0
# A task that runs alone (training, assembling) may stay silent for this long; each event starts it anew.
LONE_LEASE = 3600.0
MAX_DEATHS = 3
# Somebody else's kills are no proof against a task; those that it meets while nothing else runs are.
MAX_KILLS_ALONE = 2
# Kills of workers that had not even greeted weigh as much as one of them that ended by itself.
_BAD_LUCK = 5
_POLL = 0.1
# The loop comes round ten times a second; after a longer pause it was not running (a suspended machine).
_PAUSE = 5.0
# Seconds that a cancel, or an error, waits for killed workers: under load those take long to be cleared away, and
# nobody needs them for it.
_FAREWELL = 0.5
# Seconds that a new worker waits for the memory of a GPU that the one before it held.
_VACATED = 5.0
# Messages that wait for the engine; then workers wait, so that a flood of them cannot fill its memory.
_WAITING = 256


@dataclass
class _Pending:
    """A task on its way: how often it has taken a worker with it, how often one was taken from it, and why."""

    index: int
    payload: Dict[str, Any]
    deaths: int = 0
    kills: int = 0
    kills_alone: int = 0
    reason: str = ""

    @property
    def suspect(self) -> bool:
        """Whether it has lost two workers, and is to run by itself: with all the memory, and to clear its name."""
        return self.deaths + self.kills >= MAX_DEATHS - 1

    @property
    def condemned(self) -> bool:
        """Whether it is given up."""
        return self.deaths >= MAX_DEATHS or self.kills_alone >= MAX_KILLS_ALONE

    def lose(self, reason: str, killed: bool) -> None:
        """Note the loss of a worker; ``killed`` by somebody else."""
        self.reason = reason
        if killed:
            self.kills_alone += self.suspect
            self.kills += 1
        else:
            self.deaths += 1


@dataclass
class _Run:
    """The state of one call of :meth:`WorkerPool.each`."""

    task: str
    scratch: Path
    source: Iterator[Dict[str, Any]]
    on_receipt: OnReceipt
    on_event: OnEvent
    lease: Optional[float]
    only: Optional[Slot] = None
    counter: int = 0
    exhausted: bool = False
    again: Deque[_Pending] = field(default_factory=collections.deque)
    running: Dict[int, _Pending] = field(default_factory=dict)
    started: Dict[int, float] = field(default_factory=dict)
    durations: Deque[float] = field(default_factory=lambda: collections.deque(maxlen=100))
    quarantined: List[Quarantined] = field(default_factory=list)
    devices_lost: int = 0

    def next(self) -> Optional[_Pending]:
        """Return the next task to hand out.

        Lost ones come last: whatever took their worker away (memory running out, somebody's kill) may still be going
        on, and three deaths in a row would condemn a task that is innocent. Those that lost two workers run alone.
        """
        if any(one.suspect for one in self.running.values()):
            return None
        if not self.exhausted:
            for payload in self.source:
                self.counter += 1
                return _Pending(self.counter - 1, payload)
            self.exhausted = True
        for pending in self.again:
            if not pending.suspect or not self.running:
                self.again.remove(pending)
                return pending
        return None

    def lease_seconds(self) -> float:
        """Return how long the next task may take."""
        if self.lease is not None:
            return self.lease
        if len(self.durations) < 3:
            return FIRST_LEASE
        return max(SHORTEST_LEASE, 10.0 * statistics.median(self.durations))


class WorkerPool:
    """Worker processes that stay from job to job while the slots asked for are the same."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._arrivals: queue.Queue[Arrival] = queue.Queue(_WAITING)
        self._workers: List[WorkerProcess] = []
        self._stillborn = 0
        self._number = 0
        self.memory_limit = total_memory()

    def place(self, slots: Sequence[Slot]) -> None:
        """Make the pool have exactly one worker per slot; workers already in such a slot are kept."""
        wanted = collections.Counter(slots)
        leaving = []
        for worker in self._workers:
            if wanted[worker.slot] > 0:
                wanted[worker.slot] -= 1
            else:
                leaving.append(worker)
        self._end(leaving, _VACATED if any(one.slot.device != "cpu" for one in leaving) else 0.0)
        for slot in wanted.elements():
            self._start(slot)

    def place_at_least(self, slot: Slot) -> None:
        """Make the pool have a worker in ``slot``; all others are kept, so that their networks stay loaded."""
        if all(worker.slot != slot for worker in self._workers):
            self._start(slot)

    def each(
        self,
        task: str,
        payloads: Iterable[Dict[str, Any]],
        scratch: Path,
        on_receipt: OnReceipt,
        on_event: OnEvent,
        check: Callable[[], None],
        lease: Optional[float] = None,
        only: Optional[Slot] = None,
    ) -> List[Quarantined]:
        """Run ``task`` for every payload; return those that never succeeded.

        Args:
            task: name in :data:`.task.TASKS`.
            payloads: taken one by one as workers become free.
            scratch: the job's folder for part results.
            on_receipt: called with (index, payload, receipt) in the order of arrival.
            on_event: called with each event of a task.
            check: raises to stop; called at least ten times a second.
            lease: seconds of silence after which a worker counts as hung; None to derive it from the tasks' times.
            only: use workers in this slot alone; None for all.

        Raises:
            DeepRasterError: what a task raised on purpose, or what ``check`` or ``on_receipt`` raised.
            WorkerError: workers cannot be started.
        """
        run = _Run(task, scratch, iter(payloads), on_receipt, on_event, lease, only)
        before = time.monotonic()
        try:
            while True:
                check()
                self._hand_out(run)
                if not run.running and run.exhausted and not run.again:
                    return run.quarantined
                self._collect(run)
                before = self._forgive_pause(before)
                self._end_hung_workers(run)
        except BaseException:
            self._end([one for one in self._workers if one.task is not None], _FAREWELL)
            raise

    def close(self) -> None:
        """End all workers, without waiting for any."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _end(self, workers: Sequence[WorkerProcess], within: float = 0.0) -> None:
        """End workers of the pool, all at once, and wait until they are gone, for so many seconds at most."""
        for worker in workers:
            self._workers.remove(worker)
            worker.kill()
        end = time.monotonic() + within
        for worker in workers:
            worker.ended(max(0.0, end - time.monotonic()))

    def _start(self, slot: Slot) -> None:
        try:
            self._workers.append(WorkerProcess(slot, self._command, self._arrivals))
        except OSError as error:
            raise WorkerError(
                f"A worker process could not be started: {error}.",
                stage="starting workers",
                file=self._command[0],
                hint="Check the engine's environment with “Set up environment”.",
            ) from error

    def _hand_out(self, run: _Run) -> None:
        for worker in list(self._workers):
            if worker.task is not None or not worker.greeted or run.only not in (None, worker.slot):
                continue
            pending = run.next()
            if pending is None:
                return
            self._number += 1
            run.running[self._number] = pending
            run.started[self._number] = time.monotonic()
            if not worker.send(self._number, run.task, pending.payload, run.scratch, run.lease_seconds()):
                # The worker died between two tasks: that is not this task's doing.
                del run.running[self._number]
                run.again.appendleft(pending)

    def _collect(self, run: _Run) -> None:
        """Wait a moment for messages and handle those that have come."""
        with contextlib.suppress(queue.Empty):
            self._handle(run, *self._arrivals.get(timeout=_POLL))
            while True:
                self._handle(run, *self._arrivals.get_nowait())

    def _handle(self, run: _Run, worker: WorkerProcess, message: Optional[Dict[str, Any]]) -> None:
        if worker not in self._workers:
            return  # the last words of a worker that was ended on purpose
        if message is None:
            self._bury(run, worker)
        elif "hello" in message:
            self._greet(worker, message["hello"], run.on_event)
        elif message.get("id") == worker.task and worker.task in run.running:
            self._take_answer(run, worker, message)

    def _greet(self, worker: WorkerProcess, hello: Dict[str, Any], on_event: OnEvent) -> None:
        if hello.get("protocol") != PROTOCOL or hello.get("version") != __version__:
            raise WorkerError(
                f"A worker speaks version {hello.get('version')} (protocol {hello.get('protocol')}), "
                f"the engine {__version__} (protocol {PROTOCOL}).",
                stage="starting workers",
                hint="Restart QGIS so that both come from the same plugin.",
            )
        self._stillborn = 0
        # All workers of one job are confined alike, so the first one speaks for the others.
        first = not any(one.greeted and one.slot == worker.slot for one in self._workers)
        worker.greeted = True
        if first and hello.get("protection"):
            on_event(events.Log(events.INFO, str(hello["protection"])))

    def _take_answer(self, run: _Run, worker: WorkerProcess, message: Dict[str, Any]) -> None:
        number = message["id"]
        if "event" in message:
            event = events.from_dict(message)
            if event is not None:
                run.on_event(event)
            worker.deadline = max(worker.deadline, time.monotonic() + run.lease_seconds())
            return
        pending = run.running.pop(number)
        run.durations.append(time.monotonic() - run.started.pop(number))
        worker.task, worker.deadline = None, float("inf")
        if "receipt" in message:
            try:
                run.on_receipt(pending.index, pending.payload, message["receipt"])
            except FrameError as error:
                self._replace(worker)
                self._lose(run, pending, f"the worker sent what is no answer to its task ({error})")
                return
            worker.finished += 1
            run.devices_lost = 0
            self._recycle(worker, run)
        elif "error" in message:
            run.on_event(events.Log(events.DEBUG, str(message.get("traceback", ""))))
            raise from_dict(message["error"])
        else:
            # What a library raised may have left the worker's state (a CUDA context, say) unusable: take a fresh one.
            run.on_event(events.Log(events.DEBUG, str(message.get("traceback", ""))))
            self._replace(worker)
            self._lose(run, pending, message["crash"])
            run.devices_lost += bool(message.get("device_lost"))
            if run.devices_lost >= MAX_DEATHS * len(self._workers):
                raise WorkerError(
                    f"The GPU fails again and again: {message['crash']}",
                    stage=run.task,
                    hint="Restart the machine or the GPU's driver, or set PROCESSOR to CPU. What is finished is kept, "
                    "and the same job goes on from there.",
                )

    def _replace(self, worker: WorkerProcess) -> None:
        self._end([worker], _VACATED if worker.slot.device != "cpu" else 0.0)
        self._start(worker.slot)

    def _recycle(self, worker: WorkerProcess, run: _Run) -> None:
        """Replace a worker that has grown too large: libraries leak, and the system would kill it in the middle."""
        limit = self.memory_limit / max(1, len(self._workers))
        if worker.finished > 1 and limit and resident_memory(worker.pid) > RECYCLE_AT * limit:
            run.on_event(events.Log(events.DEBUG, "A worker held much memory and was replaced between two tasks."))
            self._replace(worker)

    def _bury(self, run: _Run, worker: WorkerProcess) -> None:
        """Replace a dead worker and do its task again."""
        self._workers.remove(worker)
        cause = worker.cause_of_death()
        if not worker.greeted:
            # One that gives up by itself will do so again; one that was killed from outside may have had bad luck.
            self._stillborn += 1 if worker.was_killed else _BAD_LUCK * (len(self._workers) + 1)
            if self._stillborn >= MAX_DEATHS * _BAD_LUCK * (len(self._workers) + 1):
                raise WorkerError(
                    f"The workers do not start; the last one {cause}",
                    stage="starting workers",
                    hint="Check the engine's environment with “Set up environment”.",
                )
        self._start(worker.slot)
        if worker.task in run.running:
            run.started.pop(worker.task)
            pending = run.running.pop(worker.task)
            run.on_event(events.Log(events.WARNING, f"A worker {cause.splitlines()[0]} and was replaced."))
            self._lose(run, pending, f"the worker {cause}", worker.was_killed)

    def _lose(self, run: _Run, pending: _Pending, reason: str, killed: bool = False) -> None:
        pending.lose(reason, killed)
        if pending.condemned:
            run.quarantined.append(Quarantined(pending.index, pending.payload, reason))
        else:
            run.again.append(pending)

    def _forgive_pause(self, before: float) -> float:
        """Give all workers the time back during which the machine slept, or this process was stopped."""
        now = time.monotonic()
        if now - before > _PAUSE:
            for worker in self._workers:
                worker.deadline += now - before
        return now

    def _end_hung_workers(self, run: _Run) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.task is not None and now > worker.deadline:
                # Its reader thread will report the death, and the task is done again like any other lost one.
                worker.hung = True
                worker.deadline = float("inf")
                worker.kill()


def worker_command() -> List[str]:
    """Return the command that starts a worker with this process's interpreter."""
    launcher = Path(__file__).resolve().parent.parent / "launch.py"
    return [sys.executable, "-I", "-B", "-u", str(launcher), "worker"]
