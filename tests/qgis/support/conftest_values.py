"""Small rasters and definitions that several tests use."""

from __future__ import annotations

import struct
from pathlib import Path

from osgeo import gdal, osr


def write_raster(
    path: Path, width=40, height=30, bands=3, epsg=32633, origin=(500000.0, 5000000.0), cell=2.0, nodata=None
):
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands, gdal.GDT_Byte)
    dataset.SetGeoTransform((origin[0], cell, 0, origin[1], 0, -cell))
    if epsg:
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(epsg)
        dataset.SetProjection(reference.ExportToWkt())
    for band in range(1, bands + 1):
        pattern = bytes((x * 3 + band * 40) % 256 for x in range(width + 256 * 5))
        for y in range(height):
            start = (y * 5) % 768 // 3  # a multiple of 5 in the value is one of 5/3 columns
            dataset.GetRasterBand(band).WriteRaster(0, y, width, 1, pattern[start : start + width])
        if nodata is not None:
            dataset.GetRasterBand(band).SetNoDataValue(nodata)
    dataset.FlushCache()
    return path


DEFINITION = {
    "Framework": "PyTorch",
    "ModelConfiguration": {"Name": "DeepRaster", "Task": "detection", "Architecture": "retinanet"},
    "ModelFile": "tree.pth",
    "ModelType": "ObjectDetection",
    "ImageWidth": 256,
    "ImageHeight": 256,
    "ExtractBands": [0, 1, 2],
    "Classes": [
        {"Value": 1, "Name": "tree", "Color": [0, 200, 0]},
        {"Value": 2, "Name": "house", "Color": [200, 0, 0]},
    ],
}


def argb(red, green, blue, alpha=255):
    """One pixel as QImage keeps it."""
    return struct.pack("<I", alpha << 24 | red << 16 | green << 8 | blue)


def write_package(path: Path, definition: dict, files: dict | None = None) -> Path:
    """Write a package with weights that nothing can load."""
    import json
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}.emd", json.dumps(definition))
        archive.writestr(definition["ModelFile"], bytes(1000))
        for name, text in (files or {}).items():
            archive.writestr(name, text)
    return path
