"""Writing features: streamed in transactions, complete or not at all, equal bytes for equal content."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from pyogrio import raw as ogr

from ..errors import OutputError
from .formats import count_features, leftovers, rewrite
from .output import check_ending, output_errors
from .publishing import Publication, discard, hand_over, part_path, to_disk

Array = npt.NDArray[Any]
BATCH = 10_000
# Time stamps would make each run's bytes differ; what made a file stands in its metadata instead.
_STAMP = "2000-01-01T00:00:00.000Z"
_SIDE_FILES = ("-wal", "-shm", "-journal")
_TYPES = {"text": object, "integer": np.int64, "real": np.float64}


@dataclass(frozen=True)
class Field:
    """A column: its name and kind, "text", "integer" or "real"."""

    name: str
    kind: str


class FeatureWriter:
    """Writes a file with one layer; use as a context manager and call :meth:`finish` at the end.

    Everything goes to a GeoPackage first, which :mod:`.formats` rewrites if another format is asked for. Features get
    their ids in the order in which they are added. Without :meth:`finish`, or when something fails, nothing appears
    under the target's name.

    Args:
        target: path whose ending names the format (.gpkg, .fgb, .shp, .geojson); the layer is called like the file.
        fields: columns in order; names must differ whatever their case.
        geometry_type: "Polygon", "MultiPolygon", "Point", ... or "Unknown".
        crs: WKT, or empty.
        metadata: text members that the layer carries.
    """

    def __init__(
        self,
        target: Path,
        fields: Sequence[Field],
        geometry_type: str,
        crs: str,
        metadata: Optional[Mapping[str, str]] = None,
    ) -> None:
        self._target, self._fields, self._type = Path(target), tuple(fields), geometry_type
        self._crs, self._metadata = crs, dict(metadata or {})
        self._part = part_path(self._target.with_suffix(".gpkg"))
        self._geometries: List[Array] = []
        self._columns: Dict[str, List[Array]] = {one.name: [] for one in fields}
        self._waiting, self._written, self._made = 0, 0, False
        self._handed: Set[Path] = set()

    def __enter__(self) -> FeatureWriter:
        check_ending(self._target, self._crs)
        with output_errors(self._target):
            self._target.parent.mkdir(parents=True, exist_ok=True)
        self._discard()
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _STAMP, "OGR_SQLITE_SYNCHRONOUS": "OFF"})
        return self

    @property
    def count(self) -> int:
        """Features added so far."""
        return self._written + self._waiting

    def add(self, geometries: Array, columns: Mapping[str, Array]) -> None:
        """Add features: shapely geometries, and one array for every field (None or NaN: no value).

        Raises:
            OutputError: the disk is full.
        """
        if not len(geometries):
            return
        self._geometries.append(np.asarray(geometries, dtype=object))
        for one in self._fields:
            self._columns[one.name].append(np.asarray(columns[one.name]))
        self._waiting += len(geometries)
        while self._waiting >= BATCH:
            self._flush(BATCH)

    def _flush(self, count: int) -> None:
        geometries = np.concatenate(self._geometries) if self._geometries else np.empty(0, dtype=object)
        columns = {
            one.name: np.concatenate(self._columns[one.name]) if self._columns[one.name] else np.empty(0)
            for one in self._fields
        }
        self._write(geometries[:count], {name: values[:count] for name, values in columns.items()})
        self._geometries = [geometries[count:]]
        self._columns = {name: [values[count:]] for name, values in columns.items()}
        self._written += min(count, len(geometries))
        self._waiting = len(geometries[count:])

    def _write(self, geometries: Array, columns: Dict[str, Array]) -> None:
        data, masks = [], []
        for one in self._fields:
            values, missing = _column(columns[one.name], one.kind)
            data.append(values)
            masks.append(missing)
        with output_errors(self._target), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ogr.write(
                str(self._part),
                geometry=shapely.to_wkb(geometries, flavor="iso"),
                field_data=data,
                fields=[one.name for one in self._fields],
                field_mask=masks,
                layer=self._target.stem,
                driver="GPKG",
                geometry_type=self._type,
                crs=self._crs or None,
                append=self._made,
                promote_to_multi=False,
                # The GDAL of older QGIS releases warns of every newer version.
                dataset_options={} if self._made else {"VERSION": "1.2"},
                layer_options={} if self._made else {"SPATIAL_INDEX": "YES"},
                layer_metadata=None if self._made else (self._metadata or None),
            )
        self._made = True

    def finish(self, outputs: Optional[Publication] = None) -> int:
        """Write the rest, verify, and give the file its name; return the number of features.

        Args:
            outputs: gives the file its name later, together with others; None to do it here.

        Raises:
            OutputError: it cannot be written or verified.
        """
        if self._waiting or not self._made:
            self._flush(self._waiting)
        with output_errors(self._target):
            self._check()
            files = [(self._part, self._target)]
            if self._target.suffix.lower() != ".gpkg":
                files = rewrite(self._part, self._target.stem, self._target, self._crs, self._written)
                self._compare(count_features(files[-1][0]))
            for part, _ in files:
                to_disk(part)
            self._handed = {part for part, _ in files}
            obsolete = [self._target.with_name(self._target.name + end) for end in _SIDE_FILES]
            hand_over(files, obsolete, outputs)
        return self._written

    def _check(self) -> None:
        connection = sqlite3.connect(self._part, isolation_level=None)
        try:
            table = self._target.stem.replace('"', '""')
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", (_STAMP,))
            connection.execute("UPDATE gpkg_contents SET last_change = ?", (_STAMP,))
            whole = connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            # SQL has no parameter for names; this one is quoted.
            count = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608  # nosec B608
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        self._compare(count if whole else -1)

    def _compare(self, count: int) -> None:
        if count != self._written:
            found = f"{count:,} of {self._written:,} features" if count >= 0 else "a damaged file"
            raise OutputError(
                f"“{self._target}” was written, but reading it again gives {found}.",
                stage="verifying the output",
                file=str(self._target),
                hint="Check the disk, then start the same job again.",
            )

    def _discard(self) -> None:
        discard(*({*leftovers(self._target), self._part} - self._handed))
        discard(*(self._part.with_name(self._part.name + end) for end in _SIDE_FILES))

    def __exit__(self, *_: object) -> None:
        self._discard()


def _column(values: Array, kind: str) -> Any:
    """Return (values of the kind's type, True where there is none)."""
    if kind == "text":
        missing = np.array([one is None or one != one for one in values], dtype=bool)
        return np.array([None if gone else str(one) for one, gone in zip(values, missing)], dtype=object), missing
    if values.dtype.kind in "iub":
        return values.astype(_TYPES[kind]), np.zeros(len(values), bool)
    numbers = np.array([np.nan if one is None else one for one in values], dtype=np.float64)
    missing = np.isnan(numbers)
    return np.where(missing, 0, numbers).astype(_TYPES[kind]), missing
