"""The session of a running job in the engine process, and the way from a job to its runner."""

from __future__ import annotations

import dataclasses
import importlib
import os
import traceback
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from . import events
from .caches import package_cache, weights_cache
from .errors import DeepRasterError, JobCancelled, WorkerError
from .jobs import Job, RasterInput, VectorInput
from .scratch import new_scratch, remove_scratch
from .session import RUNNERS, Placement, Quarantined
from .workers.devices import Confinement, Slot, slots
from .workers.pool import LONE_LEASE, OnReceipt, WorkerPool

# What the log of a job may hold, in characters; a library that prints without end must not fill memory or disk.
MAX_LOG = 10_000_000


class JobSession:
    """Implements :class:`.session.Session` on the local pool or a cluster."""

    def __init__(
        self, emit: Callable[[events.Event], None], is_cancelled: Callable[[], bool], pool: WorkerPool
    ) -> None:
        self._emit = emit
        self._is_cancelled = is_cancelled
        self._pool = pool
        self._told = 0.0
        self._logged = 0
        self._paths: Tuple[str, ...] = ()
        self.scratch = new_scratch()

    def emit(self, event: events.Event) -> None:
        """Pass an event on; progress never falls, and a log that is full takes no more."""
        if isinstance(event, events.Progress):
            self._told = max(self._told, min(1.0, event.fraction))
            event = events.Progress(self._told, event.text)
        elif isinstance(event, events.Log):
            before, self._logged = self._logged, self._logged + len(event.text)
            if before > MAX_LOG:
                return
            if self._logged > MAX_LOG:
                event = events.Log(events.WARNING, "The log is full; further lines are left out.")
        self._emit(event)

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the job is (0..1)."""
        self.emit(events.Progress(fraction, text))

    def log(self, text: str, level: str = events.INFO) -> None:
        """Add a line to the job's log."""
        self.emit(events.Log(level, text))

    def check_cancelled(self) -> None:
        """Raise :class:`JobCancelled` if the job was asked to stop."""
        if self._is_cancelled():
            raise JobCancelled("The job was cancelled.")

    def call(
        self,
        task: str,
        payload: Dict[str, Any],
        placement: Optional[Placement] = None,
        span: Tuple[float, float] = (0.0, 1.0),
        beside: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """Run one task on one worker; see :meth:`.session.Session.call`."""
        placement = placement or Placement(processor="CPU")
        several = beside is not None and not placement.cluster
        place = self._slots(placement if several else dataclasses.replace(placement, workers=1, cluster=""))
        if several:
            self._pool.place(place)
        else:
            self._pool.place_at_least(place[0])
        receipts: Dict[int, Dict[str, Any]] = {}

        def pass_on(event: events.Event) -> None:
            if isinstance(event, events.Progress):
                event = events.Progress(span[0] + (span[1] - span[0]) * event.fraction, event.text)
            self.emit(event)

        lost = self._pool.each(
            task,
            [payload, *([beside] * (len(place) - 1) if beside is not None else [])],
            self.scratch,
            lambda index, _payload, receipt: receipts.update({index: receipt}),
            pass_on,
            self.check_cancelled,
            LONE_LEASE,
            None if several else place[0],
        )
        if 0 not in receipts:
            reason = next(one.reason for one in lost if one.index == 0)
            raise WorkerError(
                f"The step “{task}” ended its worker three times; {reason}",
                stage=task,
                hint="If the system took back memory, use smaller tiles, a smaller batch or fewer workers.",
            )
        return receipts[0]

    def each(
        self,
        task: str,
        payloads: Iterable[Dict[str, Any]],
        on_receipt: OnReceipt,
        placement: Optional[Placement] = None,
    ) -> List[Quarantined]:
        """Run the task for every payload on all workers; see :meth:`.session.Session.each`."""
        placement = placement or Placement(processor="CPU")
        if placement.cluster:
            return self._each_on_cluster(task, payloads, on_receipt, placement)
        self._pool.place(self._slots(placement))
        return self._pool.each(task, payloads, self.scratch, on_receipt, self.emit, self.check_cancelled)

    def _slots(self, placement: Placement) -> List[Slot]:
        """Return the slots of a placement, confined if they are to run a package's own code."""
        limits = self._confinement(placement)
        return [dataclasses.replace(one, family=placement.family, confinement=limits) for one in slots(placement)]

    def _confinement(self, placement: Placement) -> Optional[Confinement]:
        if not placement.code_of:
            return None
        local = [path for path in self._paths if "://" not in path and not path.startswith("/vsi")]
        # A raster is read together with what lies beside it (overviews, masks, the parts of a mosaic).
        folders = [_reach_of(path) for path in local]
        # A rule holds for a folder that exists; the first import of all makes this one.
        weights_cache().mkdir(parents=True, exist_ok=True, mode=0o700)
        remote = len(local) < len(self._paths)
        return Confinement(
            owner=placement.code_of,
            readable=tuple(dict.fromkeys([*folders, str(package_cache())])),
            writable=(str(self.scratch), str(weights_cache()), *placement.writable),
            tcp_ports=(80, 443) if remote else (),
        )

    def _each_on_cluster(
        self, task: str, payloads: Iterable[Dict[str, Any]], on_receipt: OnReceipt, placement: Placement
    ) -> List[Quarantined]:
        from .workers.cluster import ClusterPool  # needs dask.distributed, which few environments have

        if placement.cluster.startswith("tcp://"):
            self.log("The cluster is reached without encryption; use tls:// on a shared network.", events.WARNING)
        pool = ClusterPool(placement, self._confinement(placement))
        try:
            pool.check(self.scratch, self._paths)
            return pool.each(task, payloads, self.scratch, on_receipt, self.emit, self.check_cancelled)
        finally:
            pool.close()

    def note_inputs(self, job: Job) -> None:
        """Keep the paths of the job's inputs, which the nodes of a cluster must be able to see."""
        self._paths = tuple(_input_paths(job))

    def close(self) -> None:
        """Remove what the job left behind for itself."""
        remove_scratch(self.scratch)


def run_job(job: Job, session: JobSession) -> Dict[str, Any]:
    """Find the runner of the job's type and run it."""
    module, _, function = RUNNERS[type(job).__name__].partition(":")
    runner = getattr(importlib.import_module(f".{module}", package=__package__), function)
    session.note_inputs(job)
    values: Dict[str, Any] = runner(job, session)
    return values


def _reach_of(path: str) -> str:
    """Return what of the file system an input needs: its folder, but of an archive the file alone."""
    if os.path.isdir(path) or path.lower().endswith((".dlpk", ".zip")):
        return path
    return os.path.dirname(os.path.abspath(path))


def _input_paths(value: Any) -> List[str]:
    """Return the paths of all rasters, vector layers and packages in a job."""
    if isinstance(value, (RasterInput, VectorInput)):
        return [value.path]
    if isinstance(value, tuple):
        return [path for one in value for path in _input_paths(one)]
    if not dataclasses.is_dataclass(value):
        return []
    found: List[str] = []
    for one in dataclasses.fields(value):
        part = getattr(value, one.name)
        found += [part] if one.name == "model" and os.path.exists(part) else _input_paths(part)
    return found


def failure_of(error: BaseException) -> events.Failure:
    """Return the event for an error; one that nobody raised on purpose is named as a fault of the program."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(error, DeepRasterError):
        return events.Failure(**error.to_dict(), traceback=trace)
    return events.Failure(
        kind="DeepRasterError",
        message=f"The engine met an unexpected fault: {type(error).__name__}: {error}.",
        hint="Please report it with the log of this run.",
        traceback=trace,
    )
