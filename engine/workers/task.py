"""The contract between the engine process and a worker: a named task, a JSON payload in, a JSON receipt out.

A task is a module-level function ``run(payload, context)`` found by name in :data:`TASKS`; it runs in a worker
process. Pixels never cross the pipe: a task reads rasters itself and writes its result below ``context.scratch``
(part file, fsync, rename), and its receipt names the file. The same task runs unchanged on a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict

from ..events import Event

# name -> "module of the engine:function"; modules are imported when the task first runs, so that a worker loads only
# the framework it needs.
TASKS: Dict[str, str] = {
    "plan_export": "chips.plan:plan_export",
    "export_chips": "chips.cut:export_chips",
    "name_chips": "chips.naming:name_chips",
    "finish_export": "chips.finish:finish_export",
    "publish_export": "chips.publish:publish_export",
    "train_model": "training.tasks:train_model",
    "open_model": "inference.opening:open_model",
    "import_weights": "inference.opening:import_weights",
    "plan_inference": "inference.planning:plan_inference",
    "predict_tiles": "inference.predict:predict_tiles",
    "assemble_objects": "inference.assemble_objects:assemble_objects",
    "assemble_pixels": "inference.assemble_pixels:assemble_pixels",
    "plan_objects": "inference.objects:plan_objects",
    "classify_chips": "inference.objects:classify_chips",
    "assemble_classified": "inference.objects:assemble_classified",
    "suppress_features": "inference.suppression:suppress_features",
    "describe_network": "package.tasks:describe_network",
    "compute_accuracy": "evaluation.tasks:compute_accuracy",
}


@dataclass
class TaskContext:
    """What a task may use.

    Attributes:
        scratch: folder of the job for its part results (exists; on a cluster, shared).
        device: "cpu" or "cuda:0" (a worker sees one GPU only).
        threads: native threads this worker may use.
        emit: sends an event (progress, log, metric) to the engine process at once.
        code_of: digest of the package that this confined worker serves; empty in all others.
        state: what this worker keeps between tasks of any job, such as a loaded network under a key of content hash.
            When no task has come for a moment, values that have a method ``rest`` are asked to let go of files; after
            a minute all of it is forgotten.
    """

    scratch: Path
    device: str
    threads: int
    emit: Callable[[Event], None]
    code_of: str = ""
    state: Dict[str, Any] = field(default_factory=dict)


Task = Callable[[Dict[str, Any], TaskContext], Dict[str, Any]]
