"""Base class of object detectors: super tile to chips, the child's ``inference``, and back."""

from __future__ import annotations

from typing import Any, Dict

import prf_utils

from Templates.base import TemplateBase


class TemplateBaseDetector(TemplateBase):
    """The child has ``load_model(path)`` and ``inference(batch, **scalars) -> (boxes, scores, classes)`` per chip."""

    def getConfiguration(self, **scalars: str) -> Dict[str, Any]:
        """Take the arguments and tell the host which tiles to deliver."""
        self.padding = int(scalars["padding"])
        self.score_threshold = float(scalars["score_threshold"])
        ty, tx = self._tile(scalars)
        bands = tuple(self.json_info["ExtractBands"])
        return {"extractBands": bands, "padding": self.padding, "tx": tx, "ty": ty, "fixedTileSize": 0}

    def vectorize(self, **pixelBlocks: Any) -> Any:
        """Return corner lists, scores and classes of a super tile."""
        height, width = int(self.json_info["ImageHeight"]), int(self.json_info["ImageWidth"])
        batch, _, across = prf_utils.tile_to_batch(
            pixelBlocks["raster_pixels"], height, width, self.padding, fixed_tile_size=False
        )
        boxes, scores, classes = self.inference(batch, **self.scalars)  # type: ignore[attr-defined]
        return prf_utils.batch_detection_results_to_tile_results(
            boxes, scores, classes, height, width, self.padding, across
        )
