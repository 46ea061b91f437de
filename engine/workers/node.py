"""What a cluster's node runs: one task in a worker process of its own, exactly as on one machine.

Dask calls :func:`run_task` by name with plain JSON, so the engine and the nodes need the same version of this package
but not the same Python to the patch level. The child process keeps loaded networks from task to task, and its leases,
replacements and confinement are those of the local pool. The folder that holds ``deep_raster`` must be on the path of
the scheduler and of every node (QGIS's plugin folder, or a copy of it)::

    export PYTHONPATH=~/.local/share/QGIS/QGIS3/profiles/default/python/plugins
    dask scheduler --preload deep_raster.engine.workers.node
    dask worker tls://scheduler:8786 --preload deep_raster.engine.workers.node --nworkers 1 --nthreads 1

and ``--resources GPU=1`` for a worker that has a card to itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

from .. import __version__
from ..errors import DeepRasterError
from ..events import Event, to_dict
from .devices import Confinement, Slot
from .pool import WorkerPool, worker_command

_pools: List[WorkerPool] = []


def facts(probe: str, paths: Sequence[str]) -> Dict[str, Any]:
    """Return what the engine compares before the first tile: versions, and which files this node cannot see."""
    return {
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "host": os.uname().nodename if hasattr(os, "uname") else "",
        "missing": [path for path in [probe, *paths] if not os.path.exists(path)],
    }


def run_task(request: Dict[str, Any]) -> Dict[str, Any]:
    """Run one task and return its receipt, the error it raised, or why it was lost; and the events it sent."""
    if not _pools:
        _pools.append(WorkerPool(worker_command()))
    device = "cuda:0" if request["gpu"] else "cpu"
    # A node with --resources GPU=1 was given its card by CUDA_VISIBLE_DEVICES; the child sees the same one.
    uuid = os.environ.get("CUDA_VISIBLE_DEVICES", "") if request["gpu"] else ""
    limits = Confinement.from_json(request["confinement"]) if request["confinement"] else None
    slot = Slot(device, uuid, request["threads"], request["family"], limits)
    _pools[0].place([slot])
    told: List[Event] = []
    receipts: List[Dict[str, Any]] = []
    answer: Dict[str, Any] = {}
    try:
        lost = _pools[0].each(
            request["task"],
            [request["payload"]],
            Path(request["scratch"]),
            lambda _index, _payload, receipt: receipts.append(receipt),
            told.append,
            lambda: None,
        )
        answer = {"lost": lost[0].reason} if lost else {"receipt": receipts[0]}
    except DeepRasterError as error:
        answer = {"error": error.to_dict()}
    return {**answer, "events": [to_dict(event) for event in told]}
