"""Scenes in which there is something to see, the same in every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin


def picture(side: int, bands: int = 3, seed: int = 5) -> np.ndarray:
    """Return 8-bit pixels with large shapes and noise, none of them 0."""
    chance = np.random.default_rng(seed)
    rough = chance.integers(0, 255, (bands, side // 50 + 1, side // 50 + 1))
    pixels = rough.repeat(50, 1).repeat(50, 2)[:, :side, :side] // 2 + chance.integers(1, 120, (bands, side, side))
    return pixels.astype(np.uint8)


def write_picture(path: Path, pixels: np.ndarray, blocks: int = 256, **options) -> Path:
    """Write pixels as compressed GeoTIFF of square blocks, with cells of half a metre."""
    profile = {"driver": "GTiff", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= {"dtype": pixels.dtype, "crs": "EPSG:32633", "transform": from_origin(4e5, 5e6, 0.5, 0.5)}
    profile |= {"compress": "deflate", **options}
    if profile["driver"] == "COG":
        profile |= {"blocksize": blocks}
    else:
        profile |= {"tiled": True, "blockxsize": blocks, "blockysize": blocks}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


def write_cog(path: Path, pixels: np.ndarray) -> Path:
    """Write a Cloud-Optimised GeoTIFF with blocks of 128 pixels and overviews."""
    return write_picture(path, pixels, 128, driver="COG")


def write_scene(path: Path, side: int) -> str:
    """Write a square scene whose upper left corner, 200 rows of 300 columns, holds no data."""
    pixels = picture(side)
    pixels[:, :200, :300] = 0
    return str(write_picture(path, pixels, nodata=0, zlevel=1))
