"""The network of a job in a worker: opened, allowed, loaded once and kept between tasks and jobs."""

from __future__ import annotations

import contextlib
import importlib
import json
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Type, Union

from ..errors import JobError
from ..jobs import RunOptions
from ..models.base import Detector, ObjectClassifier, PixelClassifier
from ..package.opening import ModelPackage
from ..package.reading import ClassInfo
from ..package.trust import open_for_run
from ..workers.task import TaskContext
from .settings import HostSettings, split_arguments

Model = Union[Detector, PixelClassifier, ObjectClassifier]
_KINDS: dict[str, Tuple[Type[Any], str]] = {
    "detectobjects": (Detector, "finds objects"),
    "classifypixels": (PixelClassifier, "classifies pixels"),
    "detectchange": (PixelClassifier, "classifies pixels"),
    "classifyobjects": (ObjectClassifier, "classifies objects"),
}


@dataclass(frozen=True)
class Loaded:
    """A network ready for use.

    Attributes:
        package: where it comes from.
        settings: how the host handles tiles around it.
        model: the network.
    """

    package: ModelPackage
    settings: HostSettings
    model: Any

    @property
    def bands(self) -> Tuple[Union[int, str], ...]:
        """Bands that the network wants: 0-based numbers or names; empty for all."""
        return tuple(getattr(self.model, "bands", None) or self.package.definition.extract_bands)

    @property
    def classes(self) -> Tuple[ClassInfo, ...]:
        """Classes of the network, by its own account or by its definition."""
        return tuple(getattr(self.model, "classes", None) or self.package.definition.classes)

    def pass_on_messages(self, context: TaskContext) -> None:
        """Send what the network, or a package's own function, has said since the last time to the job's log."""
        for event in getattr(self.model, "take_messages", list)():
            context.emit(event)


def load(
    job_name: str, path: str, options: RunOptions, context: TaskContext, package: Optional[ModelPackage] = None
) -> Loaded:
    """Return the network of a job; this worker loads it once and keeps the last one.

    Args:
        job_name: name of the job, which decides what kind of network it needs.
        path: of the package.
        options: arguments and trust.
        context: of the task.
        package: if it is open already.

    Raises:
        JobError: the network is of another kind than the job needs.
        DeepRasterError: whatever opening, allowing and loading raise.
    """
    key = "inference.model"
    wanted = json.dumps([path, context.device, context.threads, sorted(options.arguments.items()), options.trust])
    kept = context.state.get(key)
    package = package or open_for_run(path, trust=options.trust, digest=context.code_of)
    if kept is not None and kept[0] == (package.digest, wanted):
        found: Loaded = kept[1]
        return found
    check_tool(job_name, package)
    settings, arguments = split_arguments(options.arguments, package)
    context.state.pop(key, None)  # the old network's memory is needed for the new one
    loaded = Loaded(package, settings, _load(package, arguments, options, context))
    kind, does = _KINDS[job_name]
    if not isinstance(loaded.model, kind):
        raise JobError(
            f"The model “{package.name}” cannot be used here, because it is not one that {does}.",
            stage="loading the model",
            file=path,
        )
    loaded.pass_on_messages(context)
    context.state[key] = ((package.digest, wanted), loaded)
    return loaded


def prepare(job: Any, context: TaskContext) -> Dict[str, Any]:
    """Import what predicting will need, while another worker plans; what is wrong with the package is the plan's news.

    The network itself is not loaded: there may be memory for fewer workers than there are.
    """
    with contextlib.suppress(Exception):
        importlib.import_module(".predict", __package__)
        from ..models.loader import adapter_name

        package = open_for_run(job.model, trust=job.options.trust, digest=context.code_of)
        if not package.has_code:
            module = adapter_name(package.definition).partition(":")[0]
            importlib.import_module(f"..models.{module}", __package__)
    return {}


def _load(package: ModelPackage, arguments: dict[str, str], options: RunOptions, context: TaskContext) -> Model:
    from ..models.loader import load_model  # imports of frameworks begin here

    return load_model(package, device=context.device, threads=context.threads, arguments=arguments)


def check_tool(job_name: str, package: ModelPackage) -> None:
    """Refuse a package whose definition names other jobs than this one.

    Raises:
        JobError: so it is.
    """
    tools = package.definition.tools
    if tools and job_name not in tools:
        raise JobError(
            f"The model “{package.name}” is of the type {package.definition.model_type}, which this tool cannot use.",
            stage="reading the definition",
            file=str(package.path),
            hint=f"Use it with {' or '.join(tools)}.",
        )
