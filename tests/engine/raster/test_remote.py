"""Rasters behind a server: what is shown of addresses, which version is read, and what is waited for."""

from __future__ import annotations

import http.server
import logging
import re
import threading

import numpy as np
import pytest
import rasterio
from deep_raster.engine.errors import RasterError, SourceLostError
from deep_raster.engine.jobs import RasterInput
from deep_raster.engine.raster import remote
from deep_raster.engine.raster.gdal import prepare_gdal
from deep_raster.engine.raster.remote import ask, hushed, is_remote, shown, version, without_credentials
from deep_raster.engine.raster.source import RasterSource
from deep_raster.engine.raster.versions import check_unchanged, source_state
from rasterio.transform import from_origin


class Files:
    """A server of one file with byte ranges; ``status`` other than 200 is all that it answers."""

    def __init__(self, data: bytes) -> None:
        self.data, self.status, self.count = data, 200, 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                owner.count += 1
                status = owner.status(owner.count) if callable(owner.status) else owner.status
                if status != 200:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                first = int(asked[1]) if asked else 0
                part = owner.data[first : int(asked[2]) + 1 if asked and asked[2] else None]
                self.send_response(206 if asked else 200)
                if asked:
                    self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(owner.data)}")
                self.send_header("Content-Length", str(len(part)))
                self.send_header("ETag", f'"{hash(owner.data)}"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(part)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/scene.tif?token=secret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def tiff(path, value):
    pixels = np.full((1, 300, 300), value, "uint8")
    profile = {"driver": "GTiff", "count": 1, "height": 300, "width": 300, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 1, 1), blockysize=50, **profile) as out:
        out.write(pixels)
    return path.read_bytes()


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    # GDAL lists folders while rasterio holds Python's lock, so a server in this process could not answer.
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
    monkeypatch.setenv(remote.PATIENCE, "3")
    made = Files(tiff(tmp_path / "1.tif", 1))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def raster(files):
    return RasterInput("/vsicurl/" + files.address)


def in_thread(function):
    """Run in a new thread, where GDAL's settings are made from the environment as it is now."""
    found = []

    def work():
        try:
            prepare_gdal()
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


def test_what_a_server_says(files):
    assert ask("/vsicurl/" + files.address).version == version(files.address) != {}
    files.status = 403
    assert ask(files.address).refused and "403" in ask(files.address).reason
    files.status = 503
    assert not ask(files.address).refused
    assert ask("http://127.0.0.1:9/a.tif").reason == "the connection was refused"
    assert ask("/vsis3/bucket/a.tif") is None


def test_a_replaced_file_is_seen_anew_and_never_taken_for_the_old_one(files, raster, tmp_path):
    def read():
        with RasterSource.open([raster]) as source:
            return int(source.read(source.grid.window)[0].max())

    assert in_thread(read) == 1
    state = source_state([raster])
    check_unchanged([RasterInput(raster.path.replace("secret", "renewed"))], state)
    files.data = tiff(tmp_path / "2.tif", 2)
    with pytest.raises(SourceLostError, match="was changed or removed"):
        check_unchanged([raster], state)
    assert in_thread(read) == 2


def test_a_refusal_is_told_at_once_and_an_outage_is_waited_for(files, raster, caplog):
    def read():
        with RasterSource.open([raster], running=True) as source:
            files.status = files.next
            return int(source.read(source.grid.window)[0].max())

    files.next = 403
    with pytest.raises(SourceLostError, match=r"“/vsicurl/http://127[^?]*/scene\.tif” cannot be read: HTTP status 403"):
        in_thread(read)
    files.status, files.count, files.next = 200, 0, lambda number: 503 if number < 12 else 200
    with caplog.at_level(logging.WARNING):
        assert in_thread(read) == 1
    assert any("503" in one and "trying again" in one and "secret" not in one for one in caplog.messages)
    files.status, files.next = 200, 503
    with pytest.raises(SourceLostError, match=r"HTTP status 503.*Tried again for \d+ s"):
        in_thread(read)


def test_files_of_mosaics_are_watched_too(tmp_path):
    tiff(tmp_path / "part.tif", 1)
    mosaic = tmp_path / "mosaic.vrt"
    mosaic.write_text(
        '<VRTDataset rasterXSize="300" rasterYSize="300"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">part.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    raster = RasterInput(str(mosaic))
    state = source_state([raster])
    check_unchanged([raster], state)
    tiff(tmp_path / "part.tif", 2)
    with pytest.raises(SourceLostError, match=r"mosaic\.vrt"):
        check_unchanged([raster], state)


def test_a_failed_read_fails_again(tmp_path):
    """GDAL tells some failures once only, and then gives zeros without a word."""
    tiff(tmp_path / "part.tif", 1)
    code = tmp_path / "code.vrt"
    code.write_text(
        '<VRTDataset rasterXSize="300" rasterYSize="300"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTDerivedRasterBand"><PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python'
        "</PixelFunctionLanguage><PixelFunctionCode>def f(*_): pass</PixelFunctionCode><SimpleSource>"
        '<SourceFilename relativeToVRT="1">part.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    with RasterSource.open([RasterInput(str(code))]) as source:
        for _ in range(3):
            with pytest.raises(RasterError, match=r"code\.vrt.*disabled"):
                source.read(source.grid.window)
