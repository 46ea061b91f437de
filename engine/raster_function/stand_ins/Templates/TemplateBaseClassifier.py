"""Base class of pixel classifiers: super tile to chips, the child's ``inference``, and back."""

from __future__ import annotations

from typing import Any, Dict

import prf_utils

from Templates.base import TemplateBase


class TemplateBaseClassifier(TemplateBase):
    """The child has ``load_model(path)`` and ``inference(batch, **scalars) -> (n, bands, rows, columns)``."""

    def getConfiguration(self, **scalars: str) -> Dict[str, Any]:
        """Take the arguments and tell the host which tiles to deliver."""
        self.model_padding = int(self.json_info.get("ModelPadding", 0))
        self.padding = self.model_padding if "ModelPadding" in self.json_info else int(scalars["padding"])
        ty, tx = self._tile(scalars)
        bands = tuple(self.json_info["ExtractBands"])
        return {"extractBands": bands, "padding": self.padding, "tx": tx, "ty": ty, "fixedTileSize": 1}

    def updatePixels(self, tlc: Any, shape: Any, props: Any, **pixelBlocks: Any) -> Any:
        """Return the classes of a super tile's inner part (bands, rows, columns)."""
        batch, down, across = prf_utils.tile_to_batch(
            pixelBlocks["raster_pixels"],
            int(self.json_info["ImageHeight"]),
            int(self.json_info["ImageWidth"]),
            self.padding,
            fixed_tile_size=True,
            batch_height=self.rectangle_height,
            batch_width=self.rectangle_width,
        )
        found = self.inference(batch, **self.scalars)  # type: ignore[attr-defined]
        if self.model_padding == 0 and self.padding:
            # A network with a padding of its own has consumed the border already.
            found = found[:, :, self.padding : -self.padding, self.padding : -self.padding]
        return prf_utils.batch_to_tile(found, down, across)
