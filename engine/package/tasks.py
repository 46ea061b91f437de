"""Tasks of packages: what must not happen in the engine process, because it needs a framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from ..workers.task import TaskContext


def describe_network(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Return ``members`` of a definition proposed for the ONNX file ``path``."""
    from ..models.onnx_describe import describe_onnx  # needs the ONNX package

    return {"members": describe_onnx(Path(payload["path"]))}
