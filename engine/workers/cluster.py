"""The pool of a job on a Dask cluster: the same tasks, carried out by the cluster's nodes.

The engine process is the Dask client. Only names and JSON cross (see :mod:`.node`); results stay in the job's scratch
folder, which engine and nodes share (DEEP_RASTER_SCRATCH), so a node that dies takes no finished tile with it.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Tuple

from .. import __version__, events
from ..errors import JobError, MissingFrameworkError, WorkerError, from_dict
from ..session import Placement, Quarantined
from . import node
from .devices import Confinement
from .frames import FrameError
from .pool import MAX_DEATHS, OnEvent, OnReceipt

_CONNECT_TIMEOUT = 20.0
_POLL = 0.2
# One task waits at each node while another runs, so that no node is idle for a round trip.
_AHEAD = 2


class ClusterPool:
    """Implements what :class:`.pool.WorkerPool` does for ``each`` on a Dask cluster; close it after the job."""

    def __init__(self, placement: Placement, confinement: Optional[Confinement] = None) -> None:
        self._placement = placement
        self._confinement = confinement.to_json() if confinement else ""
        self._client = _connect(placement.cluster)
        self._something_finished = threading.Event()

    def check(self, scratch: Path, paths: Sequence[str]) -> None:
        """Refuse, before the first task, a cluster that cannot do the job.

        Args:
            scratch: the job's folder, which every node must see.
            paths: files and folders the job reads; those that are URLs are left to GDAL.

        Raises:
            JobError: no node, a node of another version, or a node that does not see a file; each node is named.
        """
        probe = scratch / "probe"
        probe.touch()
        local = [path for path in paths if "://" not in path and not path.startswith("/vsi")]
        try:
            self._client.run_on_scheduler(node.facts, str(scratch), [])
            answers: Dict[str, Dict[str, Any]] = self._client.run(node.facts, str(probe), local)
        except Exception as error:
            # Whatever the far side raises while it unpacks the function's name arrives as its own type.
            raise JobError(
                f"The cluster {self._placement.cluster} cannot run Deep Raster's tasks: {error}.",
                stage="checking the cluster",
                hint="Start the scheduler and every worker with --preload deep_raster.engine.workers.node and with the "
                "folder that holds deep_raster in PYTHONPATH.",
            ) from error
        if not answers:
            raise JobError(f"The cluster {self._placement.cluster} has no workers.", stage="checking the cluster")
        for address, facts in answers.items():
            name = f"{facts['host']} ({address})"
            if facts["version"] != __version__:
                raise JobError(
                    f"The node {name} has Deep Raster {facts['version']}, this engine {__version__}.",
                    stage="checking the cluster",
                    hint="Install the same version on every node.",
                )
            if str(probe) in facts["missing"]:
                raise JobError(
                    f"The node {name} does not see the job's scratch folder.",
                    stage="checking the cluster",
                    file=str(scratch),
                    hint="Set DEEP_RASTER_SCRATCH to a folder that this machine and all nodes share.",
                )
            if facts["missing"]:
                raise JobError(
                    f"The node {name} does not see the input.",
                    stage="checking the cluster",
                    file=facts["missing"][0],
                    hint="Put it where all nodes reach it under the same path, or give a URL.",
                )

    def each(
        self,
        task: str,
        payloads: Iterable[Dict[str, Any]],
        scratch: Path,
        on_receipt: OnReceipt,
        on_event: OnEvent,
        check: Callable[[], None],
    ) -> List[Quarantined]:
        """Run ``task`` for every payload on the nodes; see :meth:`.pool.WorkerPool.each`."""
        source = enumerate(payloads)
        again: Deque[Tuple[int, Dict[str, Any], int]] = collections.deque()
        running: Dict[Any, Tuple[int, Dict[str, Any], int]] = {}
        quarantined: List[Quarantined] = []
        exhausted = False
        try:
            while True:
                check()
                while len(running) < _AHEAD * max(1, len(self._client.scheduler_info(n_workers=-1)["workers"])):
                    pending = again.popleft() if again else next(((i, one, 0) for i, one in source), None)
                    if pending is None:
                        exhausted = True
                        break
                    running[self._submit(task, pending[1], scratch)] = pending
                if exhausted and not running and not again:
                    return quarantined
                for future in self._finished(running):
                    index, payload, deaths = running.pop(future)
                    answer = self._answer(future)
                    for members in answer.get("events", []):
                        event = events.from_dict(members)
                        if event is not None:
                            on_event(event)
                    if "receipt" in answer:
                        try:
                            on_receipt(index, payload, answer["receipt"])
                            continue
                        except FrameError as error:
                            answer = {"death": str(error)}
                    if "error" in answer:
                        raise from_dict(answer["error"])
                    elif "lost" in answer or deaths + 1 >= MAX_DEATHS:
                        reason = str(answer.get("lost", answer.get("death")))
                        quarantined.append(Quarantined(index, payload, reason))
                    else:
                        on_event(events.Log(events.WARNING, f"A node was lost: {answer['death']}"))
                        again.append((index, payload, deaths + 1))
        finally:
            if running:
                self._client.cancel(list(running))

    def close(self) -> None:
        """Leave the cluster; it goes on without us."""
        with contextlib.suppress(OSError):
            self._client.close(timeout=5)

    def _submit(self, task: str, payload: Dict[str, Any], scratch: Path) -> Any:
        gpu = self._placement.processor == "GPU"
        request = {
            "task": task,
            "payload": payload,
            "scratch": str(scratch),
            "gpu": gpu,
            "threads": self._placement.threads or 1,
            "family": self._placement.family,
            "confinement": self._confinement,
        }
        resources = {"GPU": 1} if gpu else None
        future = self._client.submit(node.run_task, request, pure=False, resources=resources)
        future.add_done_callback(lambda _: self._something_finished.set())
        return future

    def _finished(self, running: Dict[Any, Any]) -> List[Any]:
        """Wait a moment for futures to finish and return those that have."""
        if running:
            self._something_finished.wait(_POLL)
            self._something_finished.clear()
        return [future for future in running if future.done()]

    def _answer(self, future: Any) -> Dict[str, Any]:
        """Return the node's answer; a node that is lost for good has none, only the cause."""
        try:
            answer: Dict[str, Any] = future.result(timeout=_CONNECT_TIMEOUT)
            return answer
        except Exception as error:
            # Dask passes on whatever happened (KilledWorker, a lost connection, an import error on the node).
            return {"death": f"{type(error).__name__}: {error}"}


def _connect(address: str) -> Any:
    """Return a Dask client of the scheduler at ``address``."""
    try:
        from distributed import Client
        from distributed.security import Security
    except ImportError as error:
        raise MissingFrameworkError(
            "The environment lacks dask.distributed, which CLUSTER needs.",
            stage="connecting to the cluster",
            hint="Add it with deepraster:setupenvironment FRAMEWORKS=cluster (or pip install distributed).",
        ) from error
    if not address.startswith(("tls://", "tcp://")):
        raise JobError(
            f"CLUSTER must be the scheduler's address, tls://host:port or tcp://host:port, found “{address}”.",
            stage="connecting to the cluster",
        )
    try:
        # Certificates come from Dask's own configuration (distributed.comm.tls), as for every other Dask client.
        security: Optional[Any] = Security(require_encryption=True) if address.startswith("tls://") else None
        return Client(address, security=security, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        raise WorkerError(
            f"The cluster at {address} does not answer: {error}.",
            stage="connecting to the cluster",
            hint="Check that the scheduler runs there and, for tls://, that Dask's TLS certificates are configured.",
        ) from error
