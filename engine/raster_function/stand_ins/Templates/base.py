"""What both template base classes share: the definition, the weights' path, batch and tile sizes."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Tuple

import prf_utils


class TemplateBase:
    """Reads the definition, lets the child load its weights (``load_model(path)``) and answers the host."""

    json_info: Dict[str, Any]
    padding: int

    def initialize(self, model: str, model_as_file: bool) -> None:
        """Read the definition (a path, or JSON text) and load the weights it names."""
        if model_as_file:
            with open(model, encoding="utf-8-sig") as file:
                self.json_info = json.load(file)
        else:
            self.json_info = json.loads(model)
        path = self.json_info["ModelFile"]
        if model_as_file and not os.path.isabs(path):
            path = os.path.abspath(os.path.join(os.path.dirname(model), path))
        self.load_model(path)  # type: ignore[attr-defined]

    def _tile(self, scalars: Dict[str, str]) -> Tuple[int, int]:
        """Keep batch and rectangle sizes; return the inner height and width of a super tile."""
        self.scalars = scalars
        self.batch_size = int(self.json_info.get("BatchSize", scalars.get("batch_size", 1)))
        rectangle = prf_utils.calculate_rectangle_size_from_batch_size(self.batch_size)
        self.rectangle_height, self.rectangle_width = rectangle
        height, width = int(self.json_info["ImageHeight"]), int(self.json_info["ImageWidth"])
        ty, tx = prf_utils.get_tile_size(height, width, self.padding, *rectangle)
        return ty, tx
