"""Rasters and labels of every kind: their types, places and faults."""

from __future__ import annotations

import http.server
import json
import multiprocessing
import os
import re
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from chips_support import on_map, scene, write_raster, write_vector
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.errors import JobError, RasterError, VectorError
from deep_raster.engine.jobs import ExportTrainingData, RasterInput, VectorInput
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_geom

pytestmark = pytest.mark.filterwarnings("ignore")


def voc(raster, labels, folder, **parameters):
    size = {"tile_size_x": 64, "tile_size_y": 64}
    members = {"inputs": (raster,), "format": "PASCAL_VOC_rectangles", "labels": labels}
    return ExportTrainingData(output=str(folder), **{**members, **size, **parameters})


@pytest.mark.parametrize("sign", [1, -1])
def test_boxes_over_an_image_without_crs(export, tmp_path, sign):
    """Rows counted downwards, or as QGIS shows such an image: downwards to minus its height."""
    pixels = scene()
    raster = write_raster(tmp_path / "photo.png", pixels, crs=None, transform=Affine.identity(), driver="PNG")
    boxes = [shapely.box(70, sign * 80, 90, sign * 100), shapely.box(10, sign * 20, 30, sign * 45)]
    layer = write_vector(tmp_path / "b.gpkg", boxes, crs=None, classvalue=[1, 1])
    out = tmp_path / "o"
    export(
        ExportTrainingData((raster,), str(out), "PASCAL_VOC_rectangles", labels=layer, tile_size_x=64, tile_size_y=64)
    )
    data = open_chips(out)
    assert [data.boxes(one).boxes.tolist() for one in data.chips] == [[[10, 20, 30, 45]], [[6, 16, 26, 36]]]
    assert np.array_equal(data.image(data.chips[1])[0], pixels[:, 64:128, 64:128])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
def test_bit_depth_and_band_order_are_kept(export, tmp_path, dtype):
    raster = write_raster(tmp_path / "r.tif", scene(6, 64, 64, dtype))
    chosen = RasterInput(raster.path, bands=(6, 1, 3))
    export(ExportTrainingData((chosen,), str(tmp_path / "o"), "Export_Tiles", tile_size_x=64, tile_size_y=64))
    data = open_chips(tmp_path / "o")
    assert data.dtype == dtype
    assert np.array_equal(data.image(data.chips[0])[0], scene(6, 64, 64, dtype)[[5, 0, 2]])


def test_many_bands_and_nodata_statistics(export, tmp_path):
    pixels = scene(40, 70, 70, "int16")
    pixels[:, :20, :30] = -999
    raster = write_raster(tmp_path / "r.tif", pixels, nodata=-999)
    export(ExportTrainingData((raster,), str(tmp_path / "o"), "Export_Tiles", tile_size_x=70, tile_size_y=70))
    stats = json.loads((tmp_path / "o" / "esri_accumulated_stats.json").read_text())
    assert stats["NumBands"] == 40
    assert stats["BandStatsState"][17]["Num"] == 70 * 70 - 600
    assert stats["BandStatsState"][17]["Min"] == pixels[17][pixels[17] > 0].min()


def test_objects_beyond_the_raster_are_clipped_to_it(export, tmp_path):
    raster = write_raster(tmp_path / "r.tif", scene(1, 60, 60))
    shapes = np.array([shapely.box(50, 10, 90, 20), shapely.box(61, 30, 63, 33)])
    layer = write_vector(tmp_path / "l.gpkg", on_map(shapes), classvalue=[1, 1])
    export(
        ExportTrainingData(
            (raster,), str(tmp_path / "o"), "PASCAL_VOC_rectangles", labels=layer, tile_size_x=64, tile_size_y=64
        )
    )
    data = open_chips(tmp_path / "o")
    assert data.boxes(data.chips[0]).boxes.tolist() == [[50, 10, 60, 20]]


def test_one_pixel_and_strips(export, tmp_path):
    for height, width in ((1, 1), (1, 500), (500, 1)):
        raster = write_raster(tmp_path / "r.tif", scene(1, height, width))
        out = tmp_path / f"{height}x{width}"
        export(ExportTrainingData((raster,), str(out), "Export_Tiles", tile_size_x=16, tile_size_y=16, all_tiles=True))
        data = open_chips(out)
        assert len(data) == -(-max(height, width) // 16)
        assert sum(int(data.image(one)[0].sum()) for one in data.chips) == int(scene(1, height, width).sum())


def test_images_of_different_bands_are_refused(export, tmp_path):
    inputs = tuple(write_raster(tmp_path / f"{n}.tif", scene(n, 64, 64)) for n in (1, 3))
    with pytest.raises(RasterError, match="bands"):
        export(ExportTrainingData(inputs, str(tmp_path / "o"), "Export_Tiles", processing_mode="ITEMS_SEPARATELY"))


def test_several_images_without_georeference(labelled, export, tmp_path):
    bare = {"crs": None, "transform": Affine.identity(), "driver": "PNG"}
    inputs = tuple(write_raster(tmp_path / f"{n}.png", scene(3, 64, 64), **bare) for n in (1, 2))
    for mode, words in (("MOSAICKED", "cannot form a mosaic"), ("ITEMS_SEPARATELY", "would label each")):
        with pytest.raises(JobError, match=words):
            export(voc(inputs[0], labelled[1], tmp_path / "o", inputs=inputs, processing_mode=mode))
    separate = {"format": "Export_Tiles", "processing_mode": "ITEMS_SEPARATELY"}
    told, _ = export(voc(inputs[0], None, tmp_path / "o", inputs=inputs, **separate))
    assert told["CHIPS"] == 2


class _WithRange(http.server.BaseHTTPRequestHandler):
    """Serves one file whole or in parts, as servers of cloud-optimised rasters do."""

    data = b""
    sent: Any = None

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        self._answer(False)

    def do_GET(self):
        self._answer(True)

    def _answer(self, with_body):
        if self.path != "/r.tif":
            self.send_error(404)
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, len(self.data) - 1
        if part:
            first, last = int(part[1]), min(last, int(part[2] or last))
        self.send_response(206 if part else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if part:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.data)}")
        self.end_headers()
        if with_body:
            self.sent.value += last - first + 1
            self.wfile.write(self.data[first : last + 1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_remote_raster_is_read_in_parts(export, tmp_path):
    noise = np.random.default_rng(2).integers(0, 256, (3, 1024, 1024), "uint8")
    write_raster(tmp_path / "r.tif", noise, tiled=True, blockxsize=64, blockysize=64)
    layer = write_vector(tmp_path / "l.gpkg", on_map(np.array([shapely.box(650, 700, 660, 710)])), classvalue=[2])
    _WithRange.data, _WithRange.sent = (tmp_path / "r.tif").read_bytes(), multiprocessing.Value("q")
    server = http.server.HTTPServer(("127.0.0.1", 0), _WithRange)
    # In a process of its own: GDAL asks while this one waits, and may hold the lock that all its threads need.
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        export(voc(RasterInput(f"/vsicurl/http://127.0.0.1:{server.server_port}/r.tif"), layer, tmp_path / "o"))
    finally:
        process.terminate()
        process.join()
        server.server_close()
    data = open_chips(tmp_path / "o")
    assert np.array_equal(data.image(data.chips[0])[0], noise[:, 640:704, 640:704])
    assert 0 < _WithRange.sent.value < len(_WithRange.data) / 4


def test_four_hundred_bands(export, tmp_path):
    pixels = scene(400, 64, 128, "uint16")
    raster = write_raster(tmp_path / "r.tif", pixels)
    layer = write_vector(tmp_path / "l.gpkg", on_map(np.array([shapely.box(3, 4, 100, 9)])), classvalue=[2])
    export(voc(raster, layer, tmp_path / "o", format="Classified_Tiles"))
    data = open_chips(tmp_path / "o")
    assert [np.array_equal(data.image(c)[0], pixels[:, :, x : x + 64]) for c, x in zip(data.chips, (0, 64))] == [1, 1]
    assert [round(one.mean, 6) for one in data.statistics] == [round(one.mean(), 6) for one in pixels.astype(float)]
    assert data.members["ExtractBands"] == list(range(400))
    assert (tmp_path / "o" / "contact_sheet.png").is_file()


def west(shape):
    return shapely.affinity.translate(shape, -360)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3832"])
def test_across_the_antimeridian(export, tmp_path, crs):
    """Labels in longitudes from -180 to 180; the raster in longitudes beyond 180, or in a CRS of the Pacific."""
    boxes = [shapely.box(179.91, -10.03, 179.93, -10.01), shapely.box(180.01, -10.05, 180.03, -10.04)]
    layer = write_vector(tmp_path / "l.gpkg", [boxes[0], west(boxes[1])], "EPSG:4326", classvalue=[1, 2])
    place, expected = from_origin(179.9, -10, 0.001, 0.001), [[10, 10, 30, 30], [110, 40, 130, 50]]
    if crs == "EPSG:3832":
        (x, right), (y, bottom) = transform("EPSG:4326", crs, [179.9, 180.0], [-10, -10.064])
        place = from_origin(x, y, (right - x) / 100, (y - bottom) / 64)
    raster = write_raster(tmp_path / "r.tif", scene(1, 64, 192), crs=crs, transform=place)
    export(voc(raster, layer, tmp_path / "o"))
    data = open_chips(tmp_path / "o")
    assert len(data) == 3
    found = [data.boxes(one).boxes + np.array([64 * n, 0, 64 * n, 0]) for n, one in enumerate(data.chips)]
    assert np.allclose(found[0], expected[:1], atol=0.6)
    both = np.concatenate(found[1:])  # two chips share the object
    assert np.allclose([*both.min(axis=0)[:2], *both.max(axis=0)[2:]], expected[1], atol=1.2)
    assert [data.boxes(one).labels.tolist() for one in data.chips] == [[1], [2], [2]]


def test_a_class_raster_without_attribute_table(export, tmp_path):
    classes = np.zeros((1, 64, 64), "uint8")
    classes[0, :30, :20], classes[0, 40:, 40:] = 3, 200
    raster, path = write_raster(tmp_path / "r.tif", scene(3, 64, 64)), tmp_path / "c.tif"
    write_raster(path, classes, photometric="palette")
    with rasterio.open(path, "r+") as out:
        out.write_colormap(1, {3: (1, 2, 3, 255), 200: (9, 8, 7, 255)})
    export(voc(raster, None, tmp_path / "o", format="Classified_Tiles", label_raster=RasterInput(str(path))))
    data = open_chips(tmp_path / "o")
    assert [(one.value, one.name) for one in data.classes] == [(3, "3"), (200, "200")]
    assert np.array_equal(data.class_map(data.chips[0]), classes[0])


def test_the_class_band_and_nodata_of_a_class_raster(export, tmp_path):
    classes = np.full((2, 64, 64), 5, "int16")
    classes[1, :10], classes[1, 10:] = 4, 6
    raster, labels = write_raster(tmp_path / "r.tif", scene(1, 64, 64)), write_raster(tmp_path / "c.tif", classes)
    chosen = RasterInput(labels.path, bands=(2,), nodata=(6.0,))
    with pytest.raises(JobError, match="A class raster has one band"):
        export(voc(raster, None, tmp_path / "o", format="Classified_Tiles", label_raster=labels))
    export(voc(raster, None, tmp_path / "o", format="Classified_Tiles", label_raster=chosen))
    data = open_chips(tmp_path / "o")
    assert np.array_equal(
        data.class_map(data.chips[0]), np.where(np.arange(64)[:, None] < 10, 4, 0) + np.zeros((64, 64))
    )


def test_a_layer_of_several_and_a_crs_that_the_file_lacks(export, tmp_path):
    raster = write_raster(tmp_path / "r.tif", scene(1, 64, 64), crs=None)
    boxes = on_map(np.array([shapely.box(1, 2, 9, 8), shapely.box(20, 30, 25, 35)]))
    layer = write_vector(tmp_path / "l.gpkg", boxes[:1], classvalue=[1])
    wkb = shapely.to_wkb(boxes[1:])
    pyogrio.raw.write(
        layer.path, wkb, [np.array([7])], ["classvalue"], layer="more", geometry_type="Polygon", crs=None, append=True
    )
    with pytest.raises(VectorError, match="coordinate reference system"):
        export(voc(raster, layer, tmp_path / "o"))
    placed = RasterInput(raster.path, crs="EPSG:32633")
    export(voc(placed, VectorInput(layer.path, layer="more", crs="EPSG:32633"), tmp_path / "o"))
    data = open_chips(tmp_path / "o")
    assert data.boxes(data.chips[0]).labels.tolist() == [7]
    assert np.allclose(data.boxes(data.chips[0]).boxes, [[20, 30, 25, 35]], atol=0.01)
    with rasterio.open(data.chips[0].image) as chip:
        assert chip.crs.to_epsg() == 32633


def test_invalid_and_missing_geometries_are_told_by_number(export, tmp_path):
    bow_ties = [shapely.Polygon([(x, 10), (x + 8, 18), (x + 8, 10), (x, 18)]) for x in (5, 30)]
    shapes = [*on_map(np.array(bow_ties)), shapely.Polygon(), *on_map(np.array([shapely.box(40, 40, 50, 50)]))]
    layer = write_vector(tmp_path / "l.gpkg", shapes, classvalue=[1, 1, 1, 2])
    _, session = export(voc(write_raster(tmp_path / "r.tif", scene(1, 64, 64)), layer, tmp_path / "o"))
    assert "2 features had an invalid geometry, which was repaired." in session.logs
    assert "1 feature has no geometry that can be used and is left out." in session.logs
    data = open_chips(tmp_path / "o")
    assert data.boxes(data.chips[0]).boxes.tolist() == [[5, 10, 13, 18], [30, 10, 38, 18], [40, 40, 50, 50]]


def test_nodata_and_bands_that_are_asked_for(export, tmp_path):
    pixels = scene(3, 64, 64)
    pixels[1, :10] = 77
    raster = write_raster(tmp_path / "r.tif", pixels, nodata=0)
    first, second = RasterInput(raster.path, bands=(2,), nodata=(77.0,)), RasterInput(raster.path, bands=(3, 1))
    export(voc(first, None, tmp_path / "o", format="Export_Tiles", inputs2=(second,)))
    data = open_chips(tmp_path / "o")
    assert np.array_equal(data.image(data.chips[0])[0], pixels[1:2])
    assert np.array_equal(data.image(data.chips[0], second=True)[0], pixels[[2, 0]])
    assert data.accumulated["BandStatsState"][0]["Num"] == np.count_nonzero(pixels[1] != 77)


def test_a_selection_and_a_crs_of_labels_and_mask(export, tmp_path):
    """Both files hold degrees and do not say so."""
    raster = write_raster(tmp_path / "r.tif", scene(1, 64, 320))
    shapes = [shapely.box(x + 5, 5, x + 20, 30) for x in range(0, 320, 64)]
    whole = [shapely.box(x - 1, -1, x + 65, 65) for x in range(0, 320, 64)]
    found = []
    for name, boxes in (("l", shapes), ("m", whole)):
        degrees = [transform_geom("EPSG:32633", "EPSG:4326", one.__geo_interface__) for one in on_map(np.array(boxes))]
        shown = [shapely.geometry.shape(one) for one in degrees]
        found.append(write_vector(tmp_path / f"{name}.gpkg", shown, None, kind=np.arange(5)).path)
    labels = VectorInput(found[0], fids=(1, 2, 4), crs="EPSG:4326")
    mask = VectorInput(found[1], fids=(2, 3, 4, 5), where="kind <> 4", crs="EPSG:4326")
    export(voc(raster, labels, tmp_path / "o", mask=mask, class_field="kind", all_tiles=True))
    data = open_chips(tmp_path / "o")
    assert [data.boxes(one).labels.tolist() for one in data.chips] == [[1], [], [3]]
    export(voc(raster, labels, tmp_path / "o", class_field="kind", existing="REPLACE"))
    data = open_chips(tmp_path / "o")
    assert [data.boxes(one).labels.tolist() for one in data.chips] == [[0], [1], [3]]
    assert np.allclose(data.boxes(data.chips[1]).boxes, [[5, 5, 20, 30]], atol=0.6)


def test_panoptic_chips_of_two_rasters(export, tmp_path):
    classes, things = np.full((1, 64, 64), 1, "uint8"), np.zeros((1, 64, 64), "uint8")
    things[0, 5:15, 5:15] = things[0, 30:40, 5:20] = 2
    raster = write_raster(tmp_path / "r.tif", scene(3, 64, 64))
    labels = {"label_raster": write_raster(tmp_path / "c.tif", classes)}
    labels["instances_raster"] = write_raster(tmp_path / "i.tif", things)
    export(voc(raster, None, tmp_path / "o", format="Panoptic_Segmentation", **labels))
    data = open_chips(tmp_path / "o")
    assert np.array_equal(data.class_map(data.chips[0]), classes[0])
    found = data.instances(data.chips[0])
    assert sorted((int(v), int(m.sum())) for v, m in zip(found.labels, found.masks)) == [(2, 100), (2, 150)]


def test_split_follows_the_shares(labelled, export, tmp_path):
    export(voc(labelled[0], labelled[1], tmp_path / "o", tile_size_x=20, tile_size_y=20, split=(0.2, 0.8, 0.0)))
    data = open_chips(tmp_path / "o")
    assert len(data.part("validation")) > 2 * len(data.part("train")) > 0
    assert not data.part("test")
