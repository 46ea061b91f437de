"""The networks that are trained here: built from a configuration alone, the same for training and for loading.

A configuration is the object ``ModelConfiguration`` of a model definition: ``Task`` and ``Architecture`` choose the
builder, ``Backbone`` the trunk, and the other members are the options of the architecture (:mod:`.options`). Building
never downloads anything; weights come from a state dictionary that must fit strictly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from ...errors import ModelError

if TYPE_CHECKING:
    import torch

# Task of the configuration -> module beside this one that has ``build``
BUILDERS = {
    "detection": "detection",
    "instance": "detection",
    "segmentation": "segmentation",
    "regression": "segmentation",
    "classification": "classification",
}


def build(configuration: Mapping[str, Any], bands: int, classes: int, image_size: Sequence[int]) -> torch.nn.Module:
    """Build the network of a configuration with random weights.

    Args:
        configuration: members of ``ModelConfiguration``.
        bands: input channels.
        classes: entries of the definition's ``Classes`` (no background among them).
        image_size: (height, width) of the images it is usually given, in pixels.

    Raises:
        ModelError: task, architecture, backbone or an option is unknown.
    """
    task = str(configuration.get("Task", "")).lower()
    if task not in BUILDERS:
        raise ModelError(
            f"The model definition asks for the task '{configuration.get('Task')}', which is not known.",
            stage="building the network",
            hint=f"Known are: {', '.join(BUILDERS)}.",
        )
    module = importlib.import_module(f"{__package__}.{BUILDERS[task]}")
    network: torch.nn.Module = module.build(configuration, bands, classes, image_size)
    return network
