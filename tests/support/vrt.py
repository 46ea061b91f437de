"""Virtual rasters, as GDAL's XML."""

from __future__ import annotations

from pathlib import Path


def write_vrt(path: Path, size: tuple[int, int], *bands: str, place: str = "") -> Path:
    """Write a virtual raster of (columns, rows); ``place`` holds its reference system and transform."""
    columns, rows = size
    path.write_text(f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}">{place}{"".join(bands)}</VRTDataset>')
    return path


def source(name: str, band: int = 1, part: str = "") -> str:
    """Return the source of a band: a band of a file beside the virtual raster, or ``part`` of it."""
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>{part}</SimpleSource>"
    )


def band(content: str, number: int = 1, kind: str = "Byte", nodata=None) -> str:
    """Return a band with its sources."""
    hidden = "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"
    return f'<VRTRasterBand dataType="{kind}" band="{number}">{hidden}{content}</VRTRasterBand>'


def computed_band(content: str, name: str, code: str) -> str:
    """Return a band that asks GDAL to run the function ``name`` of Python code."""
    return (
        f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand"><PixelFunctionType>{name}'
        "</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[\n{code}\n]]></PixelFunctionCode>{content}</VRTRasterBand>"
    )
