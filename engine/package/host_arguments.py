"""Arguments that every model has, because not its network but the host of the network carries them out.

They say how a raster is cut into tiles and how answers are joined. Scripts give them in ARGUMENTS like the model's own;
an argument of the same name that a package's own function declares is the package's business.
"""

from __future__ import annotations

from typing import FrozenSet, Tuple

from .argument_texts import TEXTS
from .parameters import BOOL, CHOICE, FLAG, FLOAT, TEXT, ModelParameter

_OBJECTS, _PIXELS, _CHIPS = "detectobjects", "classifypixels", "classifyobjects"
_TILED = frozenset((_OBJECTS, _PIXELS, "detectchange"))
_RASTER = frozenset((_PIXELS, "detectchange"))
_ALL = _TILED | {_CHIPS}


def _choice(name: str, *choices: str) -> ModelParameter:
    return ModelParameter(name, CHOICE, choices[0], None, None, choices, *TEXTS[name])


def _flag(name: str, default: str = "False") -> ModelParameter:
    return ModelParameter(name, BOOL, default, None, None, FLAG, *TEXTS[name])


def _number(name: str, most: float) -> ModelParameter:
    return ModelParameter(name, FLOAT, "0", 0, most, (), *TEXTS[name])


_TABLE: Tuple[Tuple[ModelParameter, FrozenSet[str]], ...] = (
    (_flag("test_time_augmentation"), _ALL),
    (_choice("merge_policy", "mean", "max", "min"), _ALL),
    (ModelParameter("tta_scales", TEXT, "1", None, None, (), *TEXTS["tta_scales"]), frozenset((_OBJECTS,))),
    (_flag("exclude_pad_detections", "True"), frozenset((_OBJECTS,))),
    (_flag("blend"), _RASTER),
    (_flag("skip_constant"), _TILED),
    (_choice("failed_tiles", "stop", "nodata"), _TILED),
    (_number("simplify", 1e6), _TILED),
    (_flag("regularize"), frozenset((_OBJECTS,))),
    (_number("memory_budget", 1e9), _TILED),
)


def host_parameters(tool: str = "") -> Tuple[ModelParameter, ...]:
    """Return the arguments of the host that mean something to a tool (name of its algorithm); empty: all."""
    return tuple(one for one, tools in _TABLE if not tool or tool in tools)
