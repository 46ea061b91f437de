"""Copies of input features with further columns, for the jobs that annotate or thin out a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import numpy.typing as npt
import shapely

from ..raster.features import BATCH, FeatureWriter, Field
from ..raster.vector import Features

Array = npt.NDArray[Any]
_KINDS = {"i": "integer", "u": "integer", "b": "integer", "f": "real"}


def write_copies(
    target: Path, features: Features, extra: Mapping[str, Tuple[str, Array]], metadata: Mapping[str, str]
) -> int:
    """Write features with their own columns and the extra ones; return their number.

    Args:
        target: GeoPackage to write.
        features: what to copy, in order.
        extra: name -> (kind of the column, values); replaces a column of the same name.
        metadata: text members that the layer carries.

    Raises:
        OutputError: the file cannot be written.
    """
    replaced = {one.lower() for one in extra} | {"fid", "geom"}
    columns: Dict[str, Array] = {}
    fields: List[Field] = []
    for name, values in features.fields.items():
        if name.lower() in replaced or name.lower() in {one.lower() for one in columns}:
            continue
        kind = _KINDS.get(values.dtype.kind, "text")
        columns[name] = values if kind != "text" else _texts(values)
        fields.append(Field(name, kind))
    for name, (kind, values) in extra.items():
        columns[name] = values
        fields.append(Field(name, kind))
    with FeatureWriter(target, fields, _geometry_type(features.geometries), features.crs, metadata) as writer:
        for start in range(0, len(features), BATCH):
            part = slice(start, start + BATCH)
            writer.add(features.geometries[part], {name: values[part] for name, values in columns.items()})
        return writer.finish()


def _texts(values: Array) -> Array:
    """Return texts; dates in ISO form, missing values as None."""
    if values.dtype.kind == "M":
        gone = np.isnat(values)
        return np.array([None if lost else str(one) for one, lost in zip(values, gone)], dtype=object)
    return np.array([None if one is None or one != one else str(one) for one in values] or [], dtype=object)


def _geometry_type(geometries: Array) -> str:
    names = {0: "Point", 1: "LineString", 3: "Polygon", 4: "MultiPoint", 5: "MultiLineString", 6: "MultiPolygon"}
    kinds = set(np.unique(shapely.get_type_id(geometries)).tolist()) if len(geometries) else {3}
    return names.get(kinds.pop(), "Unknown") if len(kinds) == 1 else "Unknown"
