"""Raster attribute tables: class names and colours of a class raster, from GDAL's side file or Esri's ``.vat.dbf``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from xml.etree.ElementTree import Element, ParseError  # nosec B405 - types; defusedxml parses

import rasterio
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from pyogrio.errors import DataLayerError, DataSourceError

from ..errors import VectorError
from ..jobs import RasterInput, VectorInput
from ..raster.gdal import prepare_gdal
from ..raster.vector import layer_facts, read_attributes
from .classes import LabelClass

_VALUE, _NAME = ("value",), ("classname", "class_name", "class", "name", "category", "label")
_COLOUR = ("red", "green", "blue")
_MAX_XML = 32 * 2**20


def read_classes(raster: RasterInput) -> List[LabelClass]:
    """Return the classes that a raster's attribute table names, sorted by value; empty if it has none."""
    path = Path(raster.path)
    rows = _from_side_file(path.with_name(path.name + ".aux.xml"))
    for table in (path.with_name(path.name + ".vat.dbf"), path.with_suffix(".vat.dbf")):
        if not rows:
            rows = _from_dbf(table)
    colours = _colour_table(raster)
    classes: Dict[int, LabelClass] = {}
    for row in rows:
        found = _class(row)
        if found is not None and found.value > 0:
            colour = found.color or colours.get(found.value)
            classes.setdefault(found.value, LabelClass(found.value, found.name, colour))
    return [classes[value] for value in sorted(classes)]


def _class(row: Mapping[str, Any]) -> Optional[LabelClass]:
    lower = {key.lower(): value for key, value in row.items()}
    text = next((lower[one] for one in _VALUE if one in lower), None)
    try:
        value = int(float(str(text)))
    except ValueError:
        return None
    name = str(next((lower[one] for one in _NAME if lower.get(one)), value))
    try:
        red, green, blue = (int(float(str(lower[one]))) for one in _COLOUR)
    except (KeyError, ValueError):
        return LabelClass(value, name)
    return LabelClass(value, name, (red, green, blue))


def _from_side_file(path: Path) -> Sequence[Dict[str, Any]]:
    """Return the rows of the attribute table, or the category names, in a PAM file."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_XML:
            return ()
        root: Element = ElementTree.parse(path, forbid_dtd=True).getroot()
    except (OSError, ParseError, DefusedXmlException, ValueError):
        return ()
    band = root.find("PAMRasterBand")
    table = band.find("GDALRasterAttributeTable") if band is not None else None
    if table is not None:
        fields = [one.findtext("Name") or "" for one in table.findall("FieldDefn")]
        return [dict(zip(fields, (cell.text or "" for cell in row.findall("F")))) for row in table.findall("Row")]
    names = band.findall("CategoryNames/Category") if band is not None else []
    return [{"value": number, "name": one.text} for number, one in enumerate(names) if one.text]


def _from_dbf(path: Path) -> Sequence[Dict[str, Any]]:
    if not path.is_file():
        return ()
    table = VectorInput(str(path))
    try:
        columns = layer_facts(table).fields
        read = read_attributes(table, columns)
    except (VectorError, DataSourceError, DataLayerError):
        return ()
    return [dict(zip(read, row)) for row in zip(*read.values())]


def _colour_table(raster: RasterInput) -> Dict[int, Tuple[int, int, int]]:
    """Return the colours of the raster's palette, if it has one."""
    prepare_gdal()
    try:
        with rasterio.open(raster.path) as dataset:
            palette = dataset.colormap(1)
    except (ValueError, rasterio.errors.RasterioError):
        return {}
    return {int(value): (int(one[0]), int(one[1]), int(one[2])) for value, one in palette.items()}
