"""The help of an algorithm, made from its own declaration, so that dialog, command line and pages agree."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, List

from qgis.core import QgsProcessingParameterDefinition

from .text import tr

if TYPE_CHECKING:
    from .base import DeepRasterAlgorithm


def short_help(algorithm: DeepRasterAlgorithm) -> str:
    """Return the HTML for the right side of the dialog and for ``qgis_process help``."""
    usual: List[str] = []
    rare: List[str] = []
    for parameter in algorithm.parameterDefinitions():
        hidden = parameter.flags() & QgsProcessingParameterDefinition.Flag.FlagHidden
        if hidden or not parameter.help():
            continue
        line = f"<b>{escape(parameter.description())}</b> ({parameter.name()}): {escape(parameter.help())}"
        rarely = parameter.flags() & QgsProcessingParameterDefinition.Flag.FlagAdvanced
        (rare if rarely else usual).append(line)
    parts = [f"<p>{escape(algorithm.summary())}</p>"]
    parts += [f"<p>{line}</p>" for line in usual]
    if rare:
        parts.append(f"<h3>{escape(tr('Advanced'))}</h3>")
        parts += [f"<p>{line}</p>" for line in rare]
    return "\n".join(parts)
