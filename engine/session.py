"""What the runner of a job sees: telling, asking for work to be done by workers, and stopping when asked to.

A *runner* is a module-level function ``run(job, session)`` found by the type of the job in :data:`RUNNERS`. It runs in
the engine process, which does no native work: opening rasters, arrays, networks and files of results are the business
of tasks (:mod:`.workers.task`), so that nothing can block or crash the process that must answer a cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Protocol, Tuple

from . import events

# type name of the job -> "module of the engine:function"
RUNNERS: Dict[str, str] = {
    "ExportTrainingData": "chips.runner:run",
    "TrainModel": "training.runner:run",
    "DetectObjects": "inference.detect:run",
    "ClassifyPixels": "inference.classify_pixels:run",
    "ClassifyObjects": "inference.classify_objects:run",
    "DetectChange": "inference.detect_change:run",
    "SuppressNonMaximum": "inference.suppress:run",
    "CreatePackage": "package.runner:create_package",
    "PackageInfo": "package.runner:package_info",
    "ComputeAccuracy": "evaluation.runner:run",
}


@dataclass(frozen=True)
class Placement:
    """Where tasks run.

    Attributes:
        processor: AUTO, CPU or GPU.
        gpu_id: GPU indices; empty for all.
        workers: number of worker processes; 0 for one per GPU or per core.
        cluster: address of a Dask scheduler; empty for this machine.
        threads: native threads per worker; 0 for one on the CPU. Results may depend on it, so only tasks that run
            alone (training) ask for more.
        code_of: digest of the package whose own code the task runs, or whose weights it imports; its workers are
            confined and serve no other package. Empty for everything else.
        family: framework whose libraries do not bear those of another in one process ("tensorflow"); its workers load
            no other. Empty for everything else.
        writable: folders that confined workers may write beside the job's scratch folder.
    """

    processor: str = "AUTO"
    gpu_id: Tuple[int, ...] = ()
    workers: int = 0
    cluster: str = ""
    threads: int = 0
    code_of: str = ""
    family: str = ""
    writable: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Quarantined:
    """A task that killed or blocked every worker that tried it, or that failed for good."""

    index: int
    payload: Dict[str, Any]
    reason: str


class Session(Protocol):
    """The runner's view of the engine."""

    scratch: Path

    def emit(self, event: events.Event) -> None:
        """Send an event to whoever asked for the job."""

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the job is (0..1)."""

    def log(self, text: str, level: str = events.INFO) -> None:
        """Add a line to the job's log."""

    def check_cancelled(self) -> None:
        """Raise :class:`~.errors.JobCancelled` if the job was asked to stop."""

    def call(
        self,
        task: str,
        payload: Dict[str, Any],
        placement: Optional[Placement] = None,
        span: Tuple[float, float] = (0.0, 1.0),
        beside: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """Run one task on one worker and return its receipt.

        The task's events are passed on; its progress 0..1 becomes the part ``span`` of the job's. A worker that dies
        is replaced and the task started again (three times at most), so a task must be able to start over.
        ``beside`` is a payload of the same task for each of the placement's other workers on this machine meanwhile, so
        that they are ready for what comes next; its receipts are not returned.

        Raises:
            DeepRasterError: what the task raised, or WorkerError if its worker died.
        """

    def each(
        self,
        task: str,
        payloads: Iterable[Dict[str, Any]],
        on_receipt: Callable[[int, Dict[str, Any], Dict[str, Any]], None],
        placement: Optional[Placement] = None,
    ) -> List[Quarantined]:
        """Run the task for every payload on all workers; call ``on_receipt(index, payload, receipt)`` as they come.

        Payloads are taken from the iterable as workers become free, so it may be long. A dead or hung worker is
        replaced and its task done again; tasks that never succeed come back in the returned list. An error that the
        task raises on purpose (:class:`~.errors.DeepRasterError`) ends the job at once.
        """
