"""The runner of ``computeaccuracy``."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict

from ..jobs import ComputeAccuracy
from ..session import Session


def run(job: ComputeAccuracy, session: Session) -> Dict[str, Any]:
    """Compare the layers in a worker and return the named outputs."""
    return session.call("compute_accuracy", dataclasses.asdict(job))
