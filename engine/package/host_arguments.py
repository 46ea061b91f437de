"""Arguments that every model has, because not its network but the host of the network carries them out.

They say how a raster is cut into tiles and how answers are joined. Scripts give them in ARGUMENTS like the model's own;
an argument of the same name that a package's own function declares is the package's business.
"""

from __future__ import annotations

from typing import FrozenSet, Tuple

from .parameters import BOOL, CHOICE, FLAG, FLOAT, TEXT, ModelParameter

_OBJECTS, _PIXELS, _CHIPS = "detectobjects", "classifypixels", "classifyobjects"
_TILED = frozenset((_OBJECTS, _PIXELS, "detectchange"))
_RASTER = frozenset((_PIXELS, "detectchange"))
_ALL = _TILED | {_CHIPS}


def _choice(name: str, choices: Tuple[str, ...], label: str, description: str) -> ModelParameter:
    return ModelParameter(name, CHOICE, choices[0], None, None, choices, label, description)


def _flag(name: str, label: str, description: str) -> ModelParameter:
    return ModelParameter(name, BOOL, "False", None, None, FLAG, label, description)


_TABLE: Tuple[Tuple[ModelParameter, FrozenSet[str]], ...] = (
    (_flag("test_time_augmentation", "Test-time augmentation", "Predict turned images too, join the answers."), _ALL),
    (_choice("merge_policy", ("mean", "max", "min"), "Joining of turned images", "Mean, best or worst score."), _ALL),
    (
        ModelParameter(
            "tta_scales", TEXT, "1", None, None, (), "Scales of augmentation",
            "Sizes at which copies are predicted, such as 0.8,1,1.25; with test-time augmentation.",
        ),
        frozenset((_OBJECTS,)),
    ),
    (
        ModelParameter(
            "exclude_pad_detections", BOOL, "True", None, None, FLAG, "Leave out cut objects",
            "Objects that a tile cuts give way to the neighbour's or are joined; False reports each piece.",
        ),
        frozenset((_OBJECTS,)),
    ),
    (_flag("blend", "Blend tiles", "Tiles overlap and fade into one another, for networks of unknown reach."), _RASTER),
    (_flag("skip_constant", "Leave out tiles of one colour", "Water or empty margins without a nodata value."), _TILED),
    (
        _choice(
            "failed_tiles", ("stop", "nodata"), "Tiles that cannot be done",
            "stop ends the job, which can go on later; nodata leaves them empty.",
        ),
        _TILED,
    ),
    (
        ModelParameter(
            "simplify", FLOAT, "0", 0, 1e6, (), "Simplify outlines",
            "Tolerance in pixels for outlines of masks and class polygons.",
        ),
        _TILED,
    ),
    (
        _flag("regularize", "Right-angled outlines", "Make outlines of masks right-angled, as buildings are."),
        frozenset((_OBJECTS,)),
    ),
    (
        ModelParameter(
            "memory_budget", FLOAT, "0", 0, 1e9, (), "Memory budget",
            "Megabytes that the job may use; 0: half of what is free. It sets workers, batch and tiles.",
        ),
        _TILED,
    ),
)  # fmt: skip


def host_parameters(tool: str = "") -> Tuple[ModelParameter, ...]:
    """Return the arguments of the host that mean something to a tool (name of its algorithm); empty: all."""
    return tuple(one for one, tools in _TABLE if not tool or tool in tools)
