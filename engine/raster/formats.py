"""Vector formats beside GeoPackage: a finished GeoPackage is rewritten in the format that a file's ending names."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import numpy.typing as npt
import pyogrio.raw as ogr
import shapely

from ..errors import OutputError
from .output import GEOJSON, authority
from .publishing import part_path

Array = npt.NDArray[Any]
# Features that are read and written at a time.
_BATCH = 20_000
_SHAPEFILE_LIMIT = 2**31 - 1
# GeoJSON is text that is written here, because OGR reads the whole file to append to it.
_DRIVERS = {".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}
# What belongs to a Shapefile, the file that gives it its name last.
_SHAPEFILE_PARTS = (".dbf", ".shx", ".prj", ".cpg", ".shp")


def rewrite(source: Path, layer: str, target: Path, crs: str, count: int) -> List[Tuple[Path, Path]]:
    """Write a layer of a GeoPackage in the format of ``target``, under part names.

    Shapefile and GeoJSON take it batch by batch; FlatGeobuf, whose index stands at its front, in one go.

    Args:
        source: GeoPackage whose features have the ids 1 to ``count``.
        layer: name of its layer.
        target: path whose ending names the format.
        crs: WKT, or empty.
        count: number of features.

    Returns:
        Part files and the names they are to get, in the order in which to rename them.

    Raises:
        OutputError: the format cannot hold it.
    """
    ending, part = target.suffix.lower(), part_path(target)
    if ending in GEOJSON:
        _write_text(source, layer, part, authority(crs), count)
        return [(part, target)]
    driver = _DRIVERS[ending]
    batch = _BATCH if ending == ".shp" else max(1, count)
    for begin, (meta, geometries, data, masks) in _batches(source, layer, count, batch):
        with warnings.catch_warnings():
            # Names longer than ten characters are cut, as everyone who chooses a Shapefile knows.
            warnings.simplefilter("ignore")
            ogr.write(
                str(part), geometry=geometries, field_data=data, fields=list(meta["fields"]), field_mask=masks,
                layer=part.stem if ending == ".shp" else target.stem, driver=driver, crs=crs or None,
                geometry_type=meta["geometry_type"], append=begin > 0, promote_to_multi=False,
                layer_options={"ENCODING": "UTF-8", "DBF_DATE_LAST_UPDATE": "2000-01-01"} if ending == ".shp" else {},
            )  # fmt: skip
    if ending == ".fgb":
        return [(part, target)]
    found = [(part.with_suffix(one), target.with_suffix(one)) for one in _SHAPEFILE_PARTS]
    found = [one for one in found if one[0].exists()]
    for one, _ in found:
        if one.stat().st_size > _SHAPEFILE_LIMIT:
            raise OutputError(
                "The objects do not fit into a Shapefile, which ends at 2 GB.",
                stage="writing",
                file=str(target),
                hint="Choose a GeoPackage (.gpkg) as output.",
            )
    return found


def leftovers(target: Path) -> List[Path]:
    """Return the part files that writing ``target`` may leave."""
    part = part_path(target)
    return [part, *(part.with_suffix(one) for one in _SHAPEFILE_PARTS)]


def count_features(path: Path) -> int:
    """Return how many features can be read from a written file."""
    if path.suffix.lower() in GEOJSON:
        with path.open(encoding="utf-8") as file:
            found = sum(line.startswith('{"type":"Feature"') for line in file)
            file.seek(max(0, path.stat().st_size - 4))
            return found if file.read().strip() == "]}" else -1
    return len(ogr.read(str(path), columns=(), read_geometry=False, return_fids=True)[1])


def _batches(source: Path, layer: str, count: int, size: int) -> Iterator[Tuple[int, Tuple[Any, Array, Any, Any]]]:
    """Yield (first, (meta, geometries, columns, masks)) of the features by their ids; one empty batch if none."""
    for begin in range(0, max(1, count), size):
        meta, _, geometries, data = ogr.read(str(source), layer=layer, where=f"fid > {begin} AND fid <= {begin + size}")
        masks = [np.array([one is None or one != one for one in values], bool) for values in data]
        columns = []
        for values, missing, kind in zip(data, masks, meta["dtypes"]):
            whole = kind.startswith("int") and values.dtype.kind == "f"
            columns.append(np.where(missing, 0, values).astype(np.int64) if whole else values)
        yield begin, (meta, geometries, columns, masks)


def _write_text(source: Path, layer: str, part: Path, authority: Any, count: int) -> None:
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{authority[0]}::{authority[1]}"}}
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"type":"FeatureCollection","name":{json.dumps(layer)},"crs":{json.dumps(crs)},"features":[\n')
        for begin, (meta, geometries, data, masks) in _batches(source, layer, count, _BATCH):
            names = list(meta["fields"])
            texts = shapely.to_geojson(shapely.from_wkb(geometries))
            for position, text in enumerate(texts):
                values = {
                    name: None if missing[position] else _plain(column[position])
                    for name, column, missing in zip(names, data, masks)
                }
                comma = "," if begin + position + 1 < count else ""
                said = json.dumps(values, ensure_ascii=False)
                file.write(f'{{"type":"Feature","properties":{said},"geometry":{text}}}{comma}\n')
        file.write("]}\n")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
