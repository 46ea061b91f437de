"""Training data and classes from the web: a remote file through the export, map tiles by extent and cell size."""

from __future__ import annotations

import json
import math

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from deep_raster.engine import jobs
from nightly_support import Host, digest
from pictures import picture, write_cog
from range_server import SECRET, RangeServer
from rasterio.io import MemoryFile
from rasters_support import Network, run, use, write_definition
from sources_support import QUICK

SIDE = 640


@pytest.fixture(scope="module")
def labels(folder):
    """Squares of 20 metres all over the scene."""
    shapes = [
        shapely.box(4e5 + x, 5e6 - y - 20, 4e5 + x + 20, 5e6 - y) for x in range(5, 300, 60) for y in range(5, 300, 60)
    ]
    path = folder / "labels.gpkg"
    wkb = shapely.to_wkb(np.array(shapes, dtype=object))
    pyogrio.raw.write(path, wkb, [np.arange(len(shapes)) % 2 + 1], ["class"], geometry_type="Polygon", crs="EPSG:32633")
    return jobs.VectorInput(str(path))


def export(path, labels, output, **options):
    size = {"tile_size_x": 64, "tile_size_y": 64, "class_field": "class", "workers": 2}
    return jobs.ExportTrainingData(
        (jobs.RasterInput(str(path), name="scene"),),
        str(output),
        "PASCAL_VOC_rectangles",
        labels=labels,
        **size,
        **options,
    )


@pytest.fixture(scope="module")
def local(folder, cog, labels):
    """Digest of the export of the local file."""
    host = Host(export(cog, labels, folder / "local"), folder / "local.run")
    assert host.wait() == "done", host.message
    return content(folder / "local")


def content(folder):
    """Return name -> digest of all chips and their labels; the definition alone may name the source."""
    files = sorted(one for kind in ("images", "labels") for one in (folder / kind).iterdir())
    assert len(files) > 40
    return {one.name: digest(one) for one in files}


@pytest.mark.parametrize("fault", ["ok", "every second 503"])
def test_a_remote_file_gives_the_chips_of_the_local_one(folder, server, labels, local, fault):
    server.begin("ok" if fault == "ok" else lambda number: "503" if number % 2 == 0 else "ok")
    output = folder / fault.replace(" ", "_")
    host = Host(export(server.path(), labels, output), folder / f"{output.name}.run", variables=QUICK)
    assert host.wait() == "done", host.message
    assert content(output) == local
    told = json.dumps(host.events) + host.stderr
    told += "".join(
        one.read_text(errors="replace") for one in output.rglob("*") if one.suffix in (".json", ".emd", ".txt")
    )
    assert SECRET not in told


def test_a_lost_server_leaves_an_export_that_goes_on_with_a_new_login(folder, server, labels, local):
    output = folder / "lost"
    server.begin(lambda number: "403" if number > 12 else "ok")
    host = Host(export(server.path(), labels, output), folder / "lost.run", variables=QUICK)
    assert host.wait() == "failed", (host.end, server.count)
    assert "403" in host.message and "scene.tif" in host.message and SECRET not in json.dumps(host.events)
    assert not (output / "images").exists()
    server.begin()
    again = export(server.path("renewed"), labels, output, existing="CONTINUE")
    host = Host(again, folder / "lost.again", variables=QUICK)
    assert host.wait() == "done", host.message
    assert content(output) == local


def test_a_replaced_remote_raster_ends_the_export(folder, server, labels):
    second = write_cog(folder / "second.tif", picture(SIDE, seed=6)).read_bytes()
    with server.replaced(12, second):
        host = Host(export(server.path(), labels, folder / "replaced"), folder / "replaced.run", variables=QUICK)
        assert host.wait() == "failed"
        assert "was changed or removed" in host.message
        assert not (folder / "replaced" / "images").exists()


# --- map tiles -------------------------------------------------------------------------------------------------------

ZOOM = 12
EARTH = 20037508.342789244
STEP = 2 * EARTH / 2**ZOOM / 256


def value_of(column, row):
    """Return the value of a pixel of the tiled world at ZOOM; each tile differs from its neighbours."""
    return 11 + (column // 256 * 3 + row // 256) % 5


def tile(path: str) -> bytes:
    """Return one map tile as PNG."""
    zoom, x, y = (int(one) for one in path.split("?")[0].removesuffix(".png").split("/")[-3:])
    shade = value_of(x * 256, y * 256) if zoom == ZOOM else 7
    with MemoryFile() as memory:
        with memory.open(driver="PNG", width=256, height=256, count=3, dtype="uint8") as out:
            out.write(np.full((3, 256, 256), shade, np.uint8))
        return memory.read()


@pytest.fixture(scope="module")
def tiles():
    made = RangeServer(tile)
    yield made
    made.close()


@pytest.fixture
def web(tiles, tmp_path):
    """The tiles as GDAL's description of a tile service."""
    path = tmp_path / "tiles.xml"
    path.write_text(
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:{tiles.port}/${{z}}/${{x}}/${{y}}.png</ServerUrl>'
        f"</Service><DataWindow><UpperLeftX>-{EARTH}</UpperLeftX><UpperLeftY>{EARTH}</UpperLeftY><LowerRightX>{EARTH}"
        f"</LowerRightX><LowerRightY>-{EARTH}</LowerRightY><TileLevel>{ZOOM}</TileLevel><TileCountX>1</TileCountX>"
        "<TileCountY>1</TileCountY><YOrigin>top</YOrigin></DataWindow><Projection>EPSG:3857</Projection>"
        "<BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    return jobs.RasterInput(str(path))


def test_map_tiles_with_an_extent_and_a_cell_size(tmp_path, web, own_places, monkeypatch):
    """A world of 10^12 pixels, of which 600 x 500 are asked for at half the resolution of the tiles."""
    cell = 2 * STEP
    left, top = -EARTH + 2200 * 256 * STEP, EARTH - 1400 * 256 * STEP
    extent = jobs.Extent(left, top - 500 * cell, left + 600 * cell, top, "EPSG:3857")
    size = {"tile_size_x": 128, "tile_size_y": 128, "all_tiles": True, "extent": extent, "cell_size": cell}
    run(jobs.ExportTrainingData((web,), str(tmp_path / "chips"), "Export_Tiles", **size), tmp_path / "scratch")
    chips = sorted((tmp_path / "chips" / "images").glob("*.tif"))
    assert len(chips) == math.ceil(600 / 128) * math.ceil(500 / 128)
    for one in chips:
        with rasterio.open(one) as chip:
            assert abs(chip.transform.a - cell) < 1e-9 * cell
            check(chip, chip.read(1), lambda shade: shade)
    use(Network(), monkeypatch)
    model = write_definition(tmp_path / "model", "ImageClassification")
    options = jobs.RunOptions(extent=extent, cell_size=cell, workers=1)
    output = tmp_path / "classes.tif"
    run(jobs.ClassifyPixels((web,), model, str(output), options), tmp_path / "scratch")
    with rasterio.open(output) as found:
        assert found.shape == (500, 600)
        check(found, found.read(1), lambda shade: 1 + shade % 5)


def check(dataset, pixels, wanted) -> None:
    """Compare pixels with the tile beneath; those within a pixel of a tile's edge may be either."""
    rows, columns = np.mgrid[0 : dataset.height, 0 : dataset.width] + 0.5
    x, y = dataset.transform * (columns, rows)
    column, row = (x + EARTH) / STEP, (EARTH - y) / STEP
    safe = (column % 256 > 2) & (column % 256 < 254) & (row % 256 > 2) & (row % 256 < 254) & (pixels > 0)
    assert safe.mean() > 0.5
    shades = value_of(np.floor(column).astype(np.int64), np.floor(row).astype(np.int64))
    assert np.array_equal(pixels[safe], wanted(shades)[safe])
