"""The runner of ``classifypixels``."""

from __future__ import annotations

from typing import Any, Dict

from ..jobs import ClassifyPixels
from ..session import Session
from .run import run_tiled


def run(job: ClassifyPixels, session: Session) -> Dict[str, Any]:
    """Run the job and return its named outputs."""
    return run_tiled(job, session, "assemble_pixels")
