"""The runner of ``nonmaximumsuppression``."""

from __future__ import annotations

from typing import Any, Dict

from .. import jobs
from ..session import Session
from .run import check_outputs


def run(job: jobs.SuppressNonMaximum, session: Session) -> Dict[str, Any]:
    """Run the job in one worker and return its named outputs."""
    check_outputs(job)
    return session.call("suppress_features", jobs.to_dict(job))
