"""What a person may set for the host of a network, beside the arguments that the network's package declares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict, Mapping, Tuple

from ..errors import JobError
from ..package.declared import package_parameters, runs_function
from ..package.dlpk import ModelPackage
from ..package.parameters import ModelParameter, resolve_arguments

_CHOICES = {"merge_policy": ("mean", "max", "min"), "failed_tiles": ("stop", "nodata")}


@dataclass(frozen=True)
class HostSettings:
    """How tiles are handled around the network.

    Attributes:
        test_time_augmentation: whether turned copies are predicted too.
        merge_policy: how their answers are joined: mean, max or min.
        blend: whether overlapping tiles of pixel networks are blended by cosine weights instead of cut.
        skip_constant: whether tiles of one single colour are left out.
        failed_tiles: "stop" ends the job resumable when tiles fail for good, "nodata" goes on without them.
        simplify: tolerance in pixels for the outlines of masks and class polygons (0: none).
        regularize: whether outlines of masks are made right-angled, as buildings are.
    """

    test_time_augmentation: bool = False
    merge_policy: str = "mean"
    blend: bool = False
    skip_constant: bool = False
    failed_tiles: str = "stop"
    simplify: float = 0.0
    regularize: bool = False


def split_arguments(given: Mapping[str, str], package: ModelPackage) -> Tuple[HostSettings, Dict[str, str]]:
    """Return the host's settings and the resolved arguments of the package's network.

    A package that runs a function of its own keeps what its text declares, and the running function checks the values,
    because it alone knows all of its arguments; otherwise the host does the test-time augmentation.

    Raises:
        JobError: an argument is unknown to both, or its value is not allowed.
    """
    parameters = package_parameters(package)
    own = {one.name for one in parameters} if package.has_code else set()
    host = {one.name: one for one in fields(HostSettings) if one.name not in own}
    values = {name: _value(name, host[name].default, text) for name, text in given.items() if name in host}
    if package.has_code and runs_function(package.definition):
        return HostSettings(**values), {name: text for name, text in given.items() if name not in host}
    declared = tuple(one for one in parameters if one.name not in host)
    return HostSettings(**values), resolve_arguments(declared, _rest(given, host, declared))


def _rest(given: Mapping[str, str], host: Mapping[str, Any], declared: Tuple[ModelParameter, ...]) -> Dict[str, str]:
    rest = {name: text for name, text in given.items() if name not in host}
    known = {one.name for one in declared}
    unknown = sorted(set(rest) - known)
    if unknown:
        raise JobError(
            f"The model has no argument called {', '.join(unknown)}.",
            stage="reading the model arguments",
            hint=f"It knows {', '.join([*sorted(known), *host])}.",
        )
    return rest


def _value(name: str, default: Any, text: str) -> Any:
    text = str(text).strip()
    if not text:
        return default
    if isinstance(default, bool):
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() in known:
            return known[text.lower()]
        raise _refused(name, text, "True or False")
    if isinstance(default, float):
        try:
            number = float(text)
        except ValueError as error:
            raise _refused(name, text, "a number") from error
        if not 0 <= number < 1e6:
            raise _refused(name, text, "a number of 0 or more")
        return number
    if text.lower() not in _CHOICES[name]:
        raise _refused(name, text, f"one of {', '.join(_CHOICES[name])}")
    return text.lower()


def _refused(name: str, text: str, expected: str) -> JobError:
    return JobError(
        f"The model argument {name} is “{text}”; expected is {expected}.", stage="reading the model arguments"
    )
