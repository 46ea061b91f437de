"""The runner of ``detectobjects``."""

from __future__ import annotations

from typing import Any, Dict

from ..jobs import DetectObjects
from ..session import Session
from .run import run_tiled


def run(job: DetectObjects, session: Session) -> Dict[str, Any]:
    """Run the job and return its named outputs."""
    return run_tiled(job, session, "assemble_objects")
