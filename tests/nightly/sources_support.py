"""What the tests of sources share: limits shortened to seconds, and a look at the result."""

from __future__ import annotations

import numpy as np
import rasterio

# Limits of GDAL and of the product, shortened from minutes to seconds.
QUICK = {
    "GDAL_HTTP_TIMEOUT": "4", "GDAL_HTTP_CONNECTTIMEOUT": "2", "GDAL_HTTP_LOW_SPEED_TIME": "2",
    "GDAL_HTTP_MAX_RETRY": "2", "GDAL_HTTP_RETRY_DELAY": "0.1", "DEEP_RASTER_NETWORK_PATIENCE": "6",
}  # fmt: skip


def classes_of(path) -> np.ndarray:
    """Return the class raster, nodata as 0."""
    with rasterio.open(path) as file:
        return np.where(file.read_masks(1) > 0, file.read(1), 0)
