"""What a person may set for the host of a network, beside the arguments that the network's package declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from ..errors import JobError
from ..package.declared import package_parameters, runs_function
from ..package.dlpk import ModelPackage
from ..package.host_arguments import host_parameters
from ..package.parameters import BOOL, FLOAT, INT, ModelParameter, resolve_arguments

_SMALLEST, _LARGEST, _MOST_SCALES = 0.25, 4.0, 8


@dataclass(frozen=True)
class HostSettings:
    """How tiles are handled around the network; one member per argument of :mod:`..package.host_arguments`.

    Attributes:
        test_time_augmentation: whether turned copies are predicted too.
        merge_policy: how their answers are joined: mean, max or min.
        tta_scales: sizes at which copies for detectors are predicted, with test-time augmentation.
        exclude_pad_detections: whether objects that a tile cuts give way to whole ones, or each piece is reported.
        blend: whether overlapping tiles of pixel networks are blended by cosine weights instead of cut.
        skip_constant: whether tiles of one single colour are left out.
        failed_tiles: "stop" ends the job resumable when tiles fail for good, "nodata" goes on without them.
        simplify: tolerance in pixels for the outlines of masks and class polygons (0: none).
        regularize: whether outlines of masks are made right-angled, as buildings are.
        memory_budget: megabytes that the job may use (0: half of what is free).
    """

    test_time_augmentation: bool = False
    merge_policy: str = "mean"
    tta_scales: Tuple[float, ...] = (1.0,)
    exclude_pad_detections: bool = True
    blend: bool = False
    skip_constant: bool = False
    failed_tiles: str = "stop"
    simplify: float = 0.0
    regularize: bool = False
    memory_budget: float = 0.0


def split_arguments(given: Mapping[str, str], package: ModelPackage) -> Tuple[HostSettings, Dict[str, str]]:
    """Return the host's settings and the resolved arguments of the package's network.

    A package that runs a function of its own keeps what its text declares, and the running function checks the values,
    because it alone knows all of its arguments; otherwise the host does the test-time augmentation.

    Raises:
        JobError: an argument is unknown to both, or its value is not allowed.
    """
    parameters = package_parameters(package)
    own = {one.name for one in parameters} if package.has_code else set()
    host = tuple(one for one in host_parameters() if one.name not in own)
    names = {one.name for one in host}
    values = resolve_arguments(host, {name: text for name, text in given.items() if name in names})
    settings = HostSettings(**{one.name: _typed(one, values[one.name]) for one in host})
    rest = {name: text for name, text in given.items() if name not in names}
    if package.has_code and runs_function(package.definition):
        return settings, rest
    declared = tuple(one for one in parameters if one.name not in names)
    _check_known(rest, declared, host)
    return settings, resolve_arguments(declared, rest)


def _check_known(
    rest: Mapping[str, str], declared: Tuple[ModelParameter, ...], host: Tuple[ModelParameter, ...]
) -> None:
    known = {one.name for one in declared}
    unknown = sorted(set(rest) - known)
    if unknown:
        raise JobError(
            f"The model has no argument called {', '.join(unknown)}.",
            stage="reading the model arguments",
            hint=f"It knows {', '.join([*sorted(known), *(one.name for one in host)])}.",
        )


def _typed(parameter: ModelParameter, text: str) -> Any:
    """Return a checked text as the type that :class:`HostSettings` holds."""
    if parameter.kind == BOOL:
        return text == "True"
    if parameter.name == "tta_scales":
        return _scales(text)
    return {INT: int, FLOAT: float}.get(parameter.kind, str)(text)


def _scales(text: str) -> Tuple[float, ...]:
    """Return the scales of a text such as "0.8, 1, 1.25"."""
    try:
        scales = tuple(float(part) for part in text.strip("[]() ").replace(";", ",").split(",") if part.strip())
    except ValueError:
        scales = ()
    if not scales or len(scales) > _MOST_SCALES or not all(_SMALLEST <= one <= _LARGEST for one in scales):
        raise JobError(
            f"The model argument tta_scales is “{text}”; expected are up to {_MOST_SCALES} numbers from {_SMALLEST} to "
            f"{_LARGEST}, separated by commas.",
            stage="reading the model arguments",
        )
    return scales
