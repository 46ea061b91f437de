"""Vector outputs in each format, read with OGR and with the json module; nothing half."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine.errors import OutputError
from deep_raster.engine.raster import formats
from deep_raster.engine.raster.features import FeatureWriter, Field
from rasterio.crs import CRS

UTM = CRS.from_epsg(32632).to_wkt()
FIELDS = [Field("Class", "text"), Field("Classvalue", "integer"), Field("Confidence", "real")]


def write(path, count=7, crs=UTM, finish=True):
    corners = np.arange(count) * 10.0 + 5e5
    shapes = shapely.box(corners, 5e6, corners + 4, 5e6 + 3)
    columns = {
        "Class": np.array([None if i == 2 else f"Bäume „{i}“" for i in range(count)], dtype=object),
        "Classvalue": np.array([np.nan if i == 3 else i for i in range(count)]),
        "Confidence": np.linspace(0, 1, count),
    }
    with FeatureWriter(path, FIELDS, "Polygon", crs, {"MADE": "by a test"}) as writer:
        writer.add(shapes, columns)
        if finish:
            assert writer.finish() == count
    return shapes


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "shp", "geojson", "json", "GPKG"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_each_format_holds_what_was_written(tmp_path, monkeypatch, ending, count):
    monkeypatch.setattr(formats, "_BATCH", 3)
    path = tmp_path / f"größe 木.{ending}"
    shapes = write(path, count)
    meta, fids, geometries, data = pyogrio.raw.read(path, return_fids=True)
    assert len(fids) == count
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".")) == []
    if count:
        assert CRS.from_user_input(meta["crs"]).to_epsg() == 32632
        assert list(meta["fields"]) == ["Class", "Classvalue", "Confidence"]
        order = np.argsort(data[2])
        assert shapely.equals(shapely.from_wkb(geometries)[order], shapes).all()
        values = [None if one is None or one != one else one for one in np.asarray(data[1], object)[order]]
        assert values == [None if i == 3 else i for i in range(count)]
        names = np.asarray(data[0], object)[order]
        assert [one or None for one in names] == [None if i == 2 else f"Bäume „{i}“" for i in range(count)]
    if ending.endswith("json"):
        assert len(json.loads(path.read_text(encoding="utf-8"))["features"]) == count


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "shp", "geojson"])
def test_equal_content_gives_equal_bytes_and_a_failure_keeps_the_old(tmp_path, ending):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"out.{ending}"
    write(path)
    first = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    write(path, 4, finish=False)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == first
    write(path)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == first


def test_what_a_format_cannot_hold_is_said_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="does not end like a vector file"):
        write(tmp_path / "out.dxf")
    with pytest.raises(OutputError, match="GeoJSON can only name"):
        write(tmp_path / "out.geojson", crs="")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(formats, "_SHAPEFILE_LIMIT", 300)
    with pytest.raises(OutputError, match="ends at 2 GB"):
        write(tmp_path / "out.shp")
    assert not list(tmp_path.iterdir())
