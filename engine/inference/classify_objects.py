"""The runner of ``classifyobjects``."""

from __future__ import annotations

from typing import Any, Dict

from ..jobs import ClassifyObjects
from ..session import Session
from .run import run_in_parts


def run(job: ClassifyObjects, session: Session) -> Dict[str, Any]:
    """Run the job and return its named outputs."""
    return run_in_parts(job, session, "plan_objects", "classify_chips", "assemble_classified")
