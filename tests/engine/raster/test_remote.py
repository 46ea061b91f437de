"""Rasters behind a server: what is shown of addresses, which version is read, and what is waited for."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
import rasterio
import vrt
from deep_raster.engine.errors import RasterError, SourceLostError
from deep_raster.engine.jobs import RasterInput
from deep_raster.engine.raster.gdal import prepare_gdal
from deep_raster.engine.raster.remote import ask, hushed, is_remote, shown, version, without_credentials
from deep_raster.engine.raster.source import RasterSource
from deep_raster.engine.raster.versions import check_unchanged, source_state
from range_server import IN_PROCESS, SECRET, RangeServer
from rasterio.transform import from_origin


def tiff(path, value):
    pixels = np.full((1, 300, 300), value, "uint8")
    profile = {"driver": "GTiff", "count": 1, "height": 300, "width": 300, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 1, 1), blockysize=50, **profile) as out:
        out.write(pixels)
    return path.read_bytes()


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name, value in IN_PROCESS.items():
        monkeypatch.setenv(name, value)
    made = RangeServer(tiff(tmp_path / "1.tif", 1))
    yield made
    made.close()


@pytest.fixture
def raster(server):
    return RasterInput(server.path())


def in_thread(function):
    """Run in a new thread with its own settings; those that earlier tests made in the main thread hold everywhere."""
    found = []

    def work():
        try:
            prepare_gdal()
            with rasterio.Env(**IN_PROCESS):
                found.append((function(), None))
        except Exception as error:
            found.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if found[0][1] is not None:
        raise found[0][1]
    return found[0][0]


def test_secrets_are_not_shown():
    option = "/vsicurl?header.Authorization=Bearer%20abc&url=https%3A%2F%2Fh.example%2Fa.tif%3Fsig%3Dabc"
    assert shown(option) == "/vsicurl/https://h.example/a.tif"
    assert "abc" not in shown("PG:dbname=x password='abc' table=t")
    path = "/vsicurl/https://me:abc@h.example/a.tif?sig=abc"
    assert "abc" not in hushed(f"{path}: a.tif?sig=abc, band 1: failed; https://h.example/a.tif?sig=abc", path)


def test_a_renewed_login_is_the_same_raster():
    one = without_credentials("/vsicurl/https://h/a.tif?item=3&X-Amz-Signature=1&sig=2&access_token=3&se=4")
    assert one == without_credentials("https://u:p@h/a.tif?item=3&sig=9") == "https://h/a.tif?item=3"
    assert one != without_credentials("https://h/a.tif?item=4")
    assert without_credentials("/data/a.tif") == "/data/a.tif"
    assert is_remote("/vsis3/bucket/a.tif") and not is_remote("/data/a.tif")


def test_what_a_server_says(server):
    address = server.address()
    assert ask(server.path()).version == version(address) != {}
    server.fault = "403"
    assert ask(address).refused and "403" in ask(address).reason
    server.fault = "503"
    assert not ask(address).refused
    assert ask("http://127.0.0.1:9/a.tif").reason == "the connection was refused"
    assert ask("/vsis3/bucket/a.tif") is None


def test_a_replaced_file_is_seen_anew_and_never_taken_for_the_old_one(server, raster, tmp_path):
    def read():
        with RasterSource.open([raster]) as source:
            return int(source.read(source.grid.window)[0].max())

    assert in_thread(read) == 1
    state = source_state([raster])
    check_unchanged([RasterInput(server.path("renewed"))], state)
    server.data = tiff(tmp_path / "2.tif", 2)
    with pytest.raises(SourceLostError, match="was changed or removed"):
        check_unchanged([raster], state)
    assert in_thread(read) == 2


def test_a_refusal_is_told_at_once_and_an_outage_is_waited_for(server, raster, caplog):
    def read(fault):
        with RasterSource.open([raster], running=True) as source:
            server.begin(fault)
            return int(source.read(source.grid.window)[0].max())

    with pytest.raises(SourceLostError, match=r"“/vsicurl/http://127[^?]*/scene\.tif” cannot be read: HTTP status 403"):
        in_thread(lambda: read("403"))
    server.begin()

    def told():
        own = [one.getMessage() for one in caplog.records if one.name.startswith("deep_raster")]
        return [one for one in own if "503" in one and "trying again" in one]

    with caplog.at_level(logging.WARNING):
        assert in_thread(lambda: read(lambda _: "ok" if told() else "503")) == 1
    assert told() and not any(SECRET in one for one in told())
    server.begin()
    with pytest.raises(SourceLostError, match=r"HTTP status 503.*Tried again for \d+ s"):
        in_thread(lambda: read("503"))


def test_files_of_mosaics_are_watched_too(tmp_path):
    tiff(tmp_path / "part.tif", 1)
    mosaic = vrt.write_vrt(tmp_path / "mosaic.vrt", (300, 300), vrt.band(vrt.source("part.tif")))
    raster = RasterInput(str(mosaic))
    state = source_state([raster])
    check_unchanged([raster], state)
    tiff(tmp_path / "part.tif", 2)
    with pytest.raises(SourceLostError, match=r"mosaic\.vrt"):
        check_unchanged([raster], state)


def test_a_failed_read_fails_again(tmp_path):
    """GDAL tells some failures once only, and then gives zeros without a word."""
    tiff(tmp_path / "part.tif", 1)
    band = vrt.computed_band(vrt.source("part.tif"), "f", "def f(*_): pass")
    code = vrt.write_vrt(tmp_path / "code.vrt", (300, 300), band)
    with RasterSource.open([RasterInput(str(code))]) as source:
        for _ in range(3):
            with pytest.raises(RasterError, match=r"code\.vrt.*disabled"):
                source.read(source.grid.window)
