"""The runner of ``trainmodel``."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict

from ..errors import JobError
from ..jobs import TrainModel
from ..session import Placement, Session
from ..workers.devices import core_count


def run(job: TrainModel, session: Session) -> Dict[str, Any]:
    """Train in one worker that has all cores, or one GPU, and return the named outputs."""
    if not job.inputs:
        raise JobError("INPUT names no folder of training chips.", stage="checking the training")
    placement = Placement(processor=job.processor, gpu_id=job.gpu_id, threads=core_count())
    return session.call("train_model", dataclasses.asdict(job), placement)
