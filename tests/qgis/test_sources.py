"""Every kind of layer becomes something the engine opens, with what the user set on it."""

from __future__ import annotations

import math
import sqlite3
import struct
import threading
from urllib.parse import quote

import numpy as np
import pytest
from conftest_values import argb, write_raster
from osgeo import gdal, ogr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsField,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsRasterRange,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerJoinInfo,
)
from qgis.PyQt.QtCore import QVariant


@pytest.fixture
def squares(tmp_path):
    """A GeoPackage with two layers; ``squares`` has four features with field kind 1, 1, 2, 2."""
    path = tmp_path / "squares.gpkg"
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    from osgeo import osr

    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32633)
    for name in ("first", "squares"):
        layer = source.CreateLayer(name, reference, ogr.wkbPolygon)
        layer.CreateField(ogr.FieldDefn("kind", ogr.OFTInteger))
        for number in range(4):
            feature = ogr.Feature(layer.GetLayerDefn())
            feature["kind"] = 1 + number // 2
            x = 500000 + 10 * number
            feature.SetGeometry(
                ogr.CreateGeometryFromWkt(
                    f"POLYGON(({x} 4999990,{x + 8} 4999990,{x + 8} 4999998,{x} 4999998,{x} 4999990))"
                )
            )
            layer.CreateFeature(feature)
    source = None
    return path


# --- rasters -------------------------------------------------------------------------------------------------------


def test_file_with_layer_settings(provider, image):
    from deep_raster.processing_provider.sources import raster_input

    layer = QgsRasterLayer(str(image), "scene")
    assert raster_input(layer).path == str(image)
    assert raster_input(layer).nodata is None and raster_input(layer).crs == ""
    layer.dataProvider().setUserNoDataValue(2, [QgsRasterRange(7, 7)])
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    found = raster_input(layer)
    assert found.crs == "EPSG:3857"
    assert found.nodata[1] == 7.0 and math.isnan(found.nodata[0]) and math.isnan(found.nodata[2])


def test_nodata_switched_off(provider, tmp_path):
    from deep_raster.processing_provider.sources import raster_input

    layer = QgsRasterLayer(str(write_raster(tmp_path / "n.tif", nodata=0)), "n")
    assert raster_input(layer).nodata is None
    layer.dataProvider().setUseSourceNoDataValue(1, False)
    found = raster_input(layer).nodata
    assert math.isnan(found[0]) and found[1:] == (0.0, 0.0)


def test_open_options_and_subdatasets(provider, image, tmp_path):
    from deep_raster.processing_provider.sources import raster_input

    layer = QgsRasterLayer(f"{image}|option:NUM_THREADS=2|option:GEOREF_SOURCES=INTERNAL", "o")
    assert raster_input(layer).path == str(image)
    assert raster_input(layer).open_options == ("NUM_THREADS=2", "GEOREF_SOURCES=INTERNAL")
    table = tmp_path / "t.gpkg"
    gdal.Translate(str(table), str(image), format="GPKG", creationOptions=["RASTER_TABLE=scene"])
    layer = QgsRasterLayer(f"GPKG:{table}:scene", "g")
    assert layer.isValid()
    found = raster_input(layer)
    with_gdal = gdal.Open(found.path)
    assert with_gdal is not None and with_gdal.RasterXSize == 40


def test_a_zipped_raster(provider, image, tmp_path):
    import zipfile

    from deep_raster.processing_provider.sources import raster_input

    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(image, "scene.tif")
    layer = QgsRasterLayer(f"/vsizip/{tmp_path}/z.zip/scene.tif", "z")
    assert gdal.Open(raster_input(layer).path).RasterXSize == 40


def test_a_broken_layer_is_refused(provider):
    from deep_raster.processing_provider.sources import raster_input

    with pytest.raises(QgsProcessingException, match="does not exist"):
        raster_input(QgsRasterLayer("/nowhere/x.tif", "x"))


@pytest.fixture
def tiles(tmp_path):
    """A XYZ layer from files: zoom level 1, four tiles, each of one colour."""
    from qgis.PyQt.QtGui import QColor, QImage

    colours = {(0, 0): "#ff0000", (1, 0): "#00ff00", (0, 1): "#0000ff", (1, 1): "#804020"}
    for zoom in (0, 1):
        for (x, y), colour in colours.items():
            if zoom == 0 and (x, y) != (0, 0):
                continue
            folder = tmp_path / "tiles" / str(zoom) / str(x)
            folder.mkdir(parents=True, exist_ok=True)
            picture = QImage(256, 256, QImage.Format.Format_ARGB32)
            picture.fill(QColor(colour))
            picture.save(str(folder / f"{y}.png"))
    url = quote(f"file://{tmp_path}/tiles/") + "%7Bz%7D/%7Bx%7D/%7By%7D.png"
    layer = QgsRasterLayer(f"type=xyz&url={url}&zmin=1&zmax=1", "web", "wms")
    assert layer.isValid()
    return layer


def copy_in_thread(work):
    """Run a copy as Processing does: outside the main thread, while that spins its event loop."""
    from qgis.PyQt.QtWidgets import QApplication

    faults = []

    def go():
        try:
            work(QgsProcessingFeedback())
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    while thread.is_alive():
        QApplication.processEvents()
    if faults:
        raise faults[0]


def test_xyz_tiles_are_copied_block_by_block(provider, tiles, tmp_path, monkeypatch):
    from deep_raster.processing_provider import copies
    from deep_raster.processing_provider.sources import raster_input

    monkeypatch.setattr(copies, "BLOCK", 32)  # several blocks, ragged at the edges
    assert raster_input(tiles) is None
    half = 20037508.342789244
    target = tmp_path / "web.tif"
    copy = copies.RasterCopy(tiles, QgsRectangle(-half / 2, -half / 2, half / 2, half / 2), half / 50, str(target))
    copy_in_thread(copy)
    found = gdal.Open(str(target))
    pixels = found.ReadAsArray()
    assert pixels.shape == (3, 50, 50)
    assert tuple(pixels[:, 3, 3]) == (255, 0, 0)
    assert tuple(pixels[:, 3, 46]) == (0, 255, 0)
    assert tuple(pixels[:, 46, 3]) == (0, 0, 255)
    assert tuple(pixels[:, 46, 46]) == (0x80, 0x40, 0x20)
    assert np.allclose(found.GetGeoTransform(), (-half / 2, half / 50, 0, half / 2, 0, -half / 50))
    assert found.GetSpatialRef().GetAuthorityCode(None) == "3857"
    assert found.GetRasterBand(1).GetMaskFlags() == gdal.GMF_PER_DATASET
    assert (found.GetRasterBand(1).GetMaskBand().ReadAsArray() == 255).all()


def test_web_layers_need_extent_and_cell_size(provider, tiles, tmp_path):
    from deep_raster.processing_provider.copies import RasterCopy

    for extent, cell in ((None, 1000.0), (QgsRectangle(0, 0, 1e6, 1e6), 0.0)):
        with pytest.raises(QgsProcessingException, match=r"extent.*cell size"):
            RasterCopy(tiles, extent, cell, str(tmp_path / "w.tif"))


def test_a_web_layer_as_input_of_a_tool(provider, fake_engine, tiles, model, tmp_path):
    import processing

    QgsProject.instance().addMapLayer(tiles, False)
    processing.run(
        "deepraster:detectobjects",
        {"INPUT": tiles.id(), "MODEL": str(model), "EXTENT": "0,100000,0,50000 [EPSG:3857]", "CELL_SIZE": 1000,
         "OUTPUT": str(tmp_path / "o.gpkg")},
    )  # fmt: skip
    (job,) = fake_engine.jobs
    assert job["inputs"][0]["name"] == "web" and job["inputs"][0]["crs"] == "EPSG:3857"
    assert job["inputs"][0]["path"].endswith(".tif")
    QgsProject.instance().removeMapLayer(tiles.id())


def test_a_database_like_raster_keeps_its_pixels(provider, image, tmp_path):
    """Any provider with a size of its own is read on its own grid (here GDAL's provider stands for it)."""
    from deep_raster.processing_provider.copies import RasterCopy

    layer = QgsRasterLayer(str(write_raster(tmp_path / "n.tif", nodata=0)), "n")
    layer.dataProvider().setUseSourceNoDataValue(1, True)
    target = tmp_path / "copy.tif"
    copy_in_thread(RasterCopy(layer, QgsRectangle(500011, 4999971, 500050.5, 4999990.5), 0.0, str(target)))
    found, source = gdal.Open(str(target)), gdal.Open(layer.source())
    assert found.GetGeoTransform() == (500010.0, 2.0, 0.0, 4999992.0, 0.0, -2.0)
    assert (found.RasterXSize, found.RasterYSize) == (21, 11)
    assert (found.ReadAsArray() == source.ReadAsArray(5, 4, 21, 11)).all()
    assert found.GetRasterBand(2).GetNoDataValue() == 0


def test_extent_off_the_layer(provider, image, tmp_path):
    from deep_raster.processing_provider.copies import RasterCopy

    layer = QgsRasterLayer(str(image), "i")
    with pytest.raises(QgsProcessingException, match="does not touch"):
        RasterCopy(layer, QgsRectangle(0, 0, 10, 10), 0.0, str(tmp_path / "x.tif"))


def test_argb_order_is_what_the_copy_assumes():
    assert argb(1, 2, 3, 4) == bytes([3, 2, 1, 4]) == struct.pack("<I", 0x04010203)


# --- vectors -------------------------------------------------------------------------------------------------------


def picked(value):
    from deep_raster.processing_provider.sources import PickedVector

    return PickedVector(value, QgsProcessingContext())


def test_ogr_layer_goes_by_path_layer_subset_and_selection(provider, squares):
    from deep_raster.processing_provider.sources import vector_input

    layer = QgsVectorLayer(f"{squares}|layername=squares", "s", "ogr")
    layer.setSubsetString('"kind" = 2')
    found = vector_input(picked(layer))
    assert (found.path, found.layer, found.where, found.fids, found.crs) == (
        str(squares), "squares", '"kind" = 2', None, "",
    )  # fmt: skip
    layer.selectByIds([4, 3])
    definition = QgsProcessingFeatureSourceDefinition(QgsProperty.fromValue(layer), True)
    assert vector_input(picked(definition)).fids == (3, 4)
    rows = sqlite3.connect(squares).execute("select fid, kind from squares where kind = 2").fetchall()
    assert rows == [(3, 2), (4, 2)], "ids of QGIS are those of the file"


def test_shapefile_and_reassigned_crs(provider, tmp_path):
    from deep_raster.processing_provider.sources import vector_input

    source = ogr.GetDriverByName("ESRI Shapefile").CreateDataSource(str(tmp_path / "p.shp"))
    source.CreateLayer("p", None, ogr.wkbPolygon)
    source = None
    layer = QgsVectorLayer(str(tmp_path / "p.shp"), "p", "ogr")
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    found = vector_input(picked(layer))
    assert (found.path, found.layer, found.crs) == (str(tmp_path / "p.shp"), "", "EPSG:32633")


def memory_layer():
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633&field=kind:integer&field=name:string(20)", "m", "memory")
    for number in range(3):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([number, f"n{number}"])
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(number, 0, number + 1, 1)))
        layer.dataProvider().addFeature(feature)
    return layer


def copied(source, path):
    from deep_raster.processing_provider.copies import VectorCopy

    copy_in_thread(VectorCopy(source, "x", str(path)))
    data = ogr.Open(str(path))  # OGR's layer dies with its data source
    return [(one["kind"], one.GetGeometryRef().GetEnvelope()) for one in data.GetLayer("features")]


def source_of(layer):
    return QgsProcessingFeatureSource(layer, QgsProcessingContext())


def test_memory_layer_is_copied(provider, tmp_path):
    from deep_raster.processing_provider.sources import vector_input

    layer = memory_layer()
    assert vector_input(picked(layer)) is None
    assert copied(source_of(layer), tmp_path / "m.gpkg") == [
        (0, (0.0, 1.0, 0.0, 1.0)), (1, (1.0, 2.0, 0.0, 1.0)), (2, (2.0, 3.0, 0.0, 1.0)),
    ]  # fmt: skip


def test_unsaved_edits_are_seen(provider, squares, tmp_path):
    from deep_raster.processing_provider.sources import vector_input

    layer = QgsVectorLayer(f"{squares}|layername=squares", "s", "ogr")
    layer.startEditing()
    assert vector_input(picked(layer)) is not None, "nothing is changed yet"
    layer.changeAttributeValue(1, layer.fields().lookupField("kind"), 9)
    layer.deleteFeature(4)
    assert vector_input(picked(layer)) is None
    assert [kind for kind, _ in copied(source_of(layer), tmp_path / "e.gpkg")] == [9, 1, 2]
    layer.rollBack()


def test_computed_and_joined_fields_are_seen(provider, squares):
    from deep_raster.processing_provider.sources import vector_input

    layer = QgsVectorLayer(f"{squares}|layername=squares", "s", "ogr")
    layer.addExpressionField('"kind" * 2', QgsField("double", QVariant.Int))
    assert vector_input(picked(layer)) is None
    other, join = memory_layer(), QgsVectorLayerJoinInfo()
    QgsProject.instance().addMapLayer(other, False)
    layer = QgsVectorLayer(f"{squares}|layername=squares", "s", "ogr")
    join.setJoinLayer(other)
    join.setJoinFieldName("kind")
    join.setTargetFieldName("kind")
    layer.addJoin(join)
    layer.updateFields()
    assert vector_input(picked(layer)) is None
    QgsProject.instance().removeMapLayer(other.id())


def test_virtual_layer_is_copied(provider, squares):
    from deep_raster.processing_provider.sources import vector_input

    layer = QgsVectorLayer(
        f"?layer=ogr:{quote(f'{squares}|layername=squares')}:s&query=select * from s where kind=1", "v", "virtual"
    )
    assert layer.isValid() and vector_input(picked(layer)) is None


def test_a_limit_needs_a_copy(provider, squares):
    from deep_raster.processing_provider.sources import vector_input

    layer = QgsVectorLayer(f"{squares}|layername=squares", "s", "ogr")
    definition = QgsProcessingFeatureSourceDefinition(QgsProperty.fromValue(layer), False, 2)
    assert vector_input(picked(definition)) is None


def test_selection_of_a_memory_layer_reaches_the_job(provider, fake_engine, image, model, tmp_path):
    import processing
    from telling import Feedback

    layer = memory_layer()
    layer.selectByIds([2])
    QgsProject.instance().addMapLayer(layer, False)
    written = []

    class Keeping(Feedback):
        def setProgressText(self, text):
            job = fake_engine.jobs[-1]
            source = ogr.Open(job["features"]["path"])
            if source is not None and not written:
                written.extend(one["kind"] for one in source.GetLayer("features"))

    processing.run(
        "deepraster:classifyobjects",
        {"INPUT": str(image), "FEATURES": QgsProcessingFeatureSourceDefinition(layer.id(), True),
         "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg")}, feedback=Keeping(),
    )  # fmt: skip
    QgsProject.instance().removeMapLayer(layer.id())
    assert written == [1]
