"""The tasks before any network is loaded: unpack the package, decide what it may run, import its weights in a cage."""

from __future__ import annotations

from typing import Any, Dict, List

from .. import jobs
from ..caches import weights_cache
from ..events import INFO, Log
from ..package.formats import PT2, TORCH, TORCH_OLD, detect, exported_with_pickles
from ..package.opening import ModelPackage
from ..package.trust import needs_of, open_for_run, require
from ..workers.task import TaskContext


def open_model(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Unpack the package of a job and check its trust.

    This worker may read the remembered consents and write the cache; the confined ones, which run what the package
    brings, may not.

    Args:
        payload: ``job`` (JSON object).
        context: of the task.

    Returns:
        ``code_of``: digest of the package if it runs code of its own, else empty; ``family``: see
        :class:`~.session.Placement`; ``weights``: names of files that only a worker without rights should parse.

    Raises:
        TrustError: the package needs code of its own and nobody has allowed it.
    """
    job: Any = jobs.from_dict(payload["job"])
    package = open_for_run(job.model, trust=job.options.trust)
    needs = needs_of(package, job.options.arguments)
    require(package, needs, trust=job.options.trust)
    if needs or package.code_allowed:
        # Its own code opens its weights itself, in a confined worker.
        return {"code_of": package.digest, "digest": package.digest, "family": "", "weights": []}
    family = "tensorflow" if package.definition.framework in ("TensorFlow", "Keras") else ""
    return {"code_of": "", "digest": package.digest, "family": family, "weights": _pickles(package)}


def import_weights(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Convert the pickled weights of a package into the safe form that every other worker loads.

    Runs in a confined worker: whatever a hostile file makes the parser do stays there.
    """
    from ..models.exported_archive import read_archive
    from ..models.weights import load_weights

    package = open_for_run(payload["model"], trust=payload["trust"], digest=context.code_of)
    for name in payload["weights"]:
        path = package.file(name)
        if detect(path).kind == PT2:
            read_archive(path)
        else:
            load_weights(path)
        context.emit(Log(INFO, f"The weights {name} were imported and are kept as safetensors."))
    return {}


def _pickles(package: ModelPackage) -> List[str]:
    """Return the weights that are a pickle inside and have not been imported yet."""
    name = package.definition.model_file
    if not name:
        return []
    path = package.file(name)
    if not path.is_file():
        return []
    kind = detect(path).kind
    if kind not in (TORCH, TORCH_OLD) and not (kind == PT2 and exported_with_pickles(path)):
        return []
    known = {package.file(one.name): one.sha256 for one in package.files}
    return [] if (weights_cache() / f"{known.get(path, '')}.safetensors").is_file() else [name]
