"""What every result of inference carries about its making."""

from __future__ import annotations

import json
from typing import Any, Dict

from .. import __version__
from ..raster.remote import shown
from ..raster.secrets import hide
from .planning import describe


def provenance(job: Dict[str, Any], digest: str = "") -> Dict[str, str]:
    """Return what a result carries about its making, without logins; the same for every run of the same job.

    Args:
        job: the job's members.
        digest: of the package; empty for a job without one.
    """
    told, _ = hide(describe(job, shown))
    return {
        "DEEP_RASTER_VERSION": __version__,
        **({"DEEP_RASTER_MODEL": digest} if digest else {}),
        "DEEP_RASTER_JOB": json.dumps(told, ensure_ascii=False, sort_keys=True),
    }
