"""How pixel networks that were trained here want their images cut; needs no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

from ..package.parameters import declared_parameters
from .arguments import Arguments
from .base import TilePlan

if TYPE_CHECKING:
    from ..package.emd import ModelDefinition

DEFAULT_SIDE = 256
MOST_HALO = 96  # pixels; wider than this, tiles would have to be so large that being exact does not pay
PIXEL_TASKS = ("segmentation", "regression")


def task_of(definition: ModelDefinition) -> str:
    """Return what a network that was trained here does."""
    return str(definition.configuration_members.get("Task", "")).lower()


def chosen(definition: ModelDefinition, given: Arguments, name: str) -> Optional[int]:
    """Return an argument that somebody chose; None if it is absent or has the declared default."""
    defaults = {one.name: one.default for one in declared_parameters(definition)}
    value = given.integer(name, -1, -1)
    default = Arguments(defaults).integer(name, -1, -1)
    return None if value in (-1, default) else value


def is_fixed(definition: ModelDefinition, given: Arguments) -> bool:
    """Whether tiles must have the planned size: a size that somebody chose is kept, for memory or for comparison."""
    return not definition.supports_variable_tile_size or chosen(definition, given, "tile_size") is not None


def pixel_plan(
    definition: ModelDefinition,
    given: Arguments,
    multiple: int,
    batch: int,
    measure: Callable[[int], Optional[int]],
) -> TilePlan:
    """Return how a pixel network wants its images cut.

    Args:
        definition: of the network.
        given: model arguments.
        multiple: stride of the network.
        batch: images per call.
        measure: returns the halo that makes tiling exact, None if it is more than the given limit in pixels.
    """
    side = given.integer("tile_size", 0) or max(definition.image_width, definition.image_height) or DEFAULT_SIDE
    side = -(-side // multiple) * multiple
    padding, exact = chosen(definition, given, "padding"), False
    if padding is None:
        measured = measure(max(side // 4, MOST_HALO))
        padding, exact = (side // 4, False) if measured is None else (measured, True)
    return TilePlan(
        side, side, halo=padding, fixed=is_fixed(definition, given), multiple=multiple, batch=batch, exact=exact
    )


def excluded_channels(definition: ModelDefinition, given: Arguments) -> list[int]:
    """Return the channels that must not win: the background, where it is not to be predicted."""
    without_background = not given.flag("predict_background", True)
    return [place for place, one in enumerate(definition.classes) if one.value == 0 and without_background]
