"""A server of one raster that misbehaves as asked, and what the tests of sources and rasters share."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import threading
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

SECRET = "s3cr3t-t0k3n"
# Limits of GDAL and of the product, shortened from minutes to seconds.
QUICK = {
    "GDAL_HTTP_TIMEOUT": "4", "GDAL_HTTP_CONNECTTIMEOUT": "2", "GDAL_HTTP_LOW_SPEED_TIME": "2",
    "GDAL_HTTP_MAX_RETRY": "2", "GDAL_HTTP_RETRY_DELAY": "0.1", "DEEP_RASTER_NETWORK_PATIENCE": "6",
}  # fmt: skip


class Server:
    """Serves ``data`` under any path on a port of its own, with byte ranges; ``fault`` says what it does to a request.

    ``data`` are bytes, or a function from the path of a request to bytes.

    ``fault`` is a name, or a function from the number of the request (counted from 1) to a name: ok, stall, trickle,
    cut, short, long, redirect, gone (connections are refused until :meth:`start`), or an HTTP status.
    """

    def __init__(self, data) -> None:
        self.data, self.fault, self.count, self.bad_since = data, "ok", 0, None
        self.lock = threading.Lock()
        self.over, self._stopping = threading.Event(), threading.Lock()
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen (again, on the same port)."""
        handler = type("Handler", (_Handler,), {"owner": self})
        server = type(
            "Listener", (http.server.ThreadingHTTPServer,), {"allow_reuse_address": True, "daemon_threads": True}
        )
        server.handle_error = lambda *_: None
        self._http = server(("127.0.0.1", self.port), handler)
        self.port, self.up = self._http.server_address[1], True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        with self._stopping:
            if self.up:
                self.up = False
                self._http.shutdown()
                self._http.server_close()

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self.stop()

    def begin(self, fault="ok") -> None:
        """Count requests anew."""
        self.fault, self.count, self.bad_since = fault, 0, None

    def path(self, token: str = SECRET) -> str:
        return f"/vsicurl/http://127.0.0.1:{self.port}/scene.tif?token={token}"

    def next_fault(self) -> str:
        with self.lock:
            self.count += 1
            found = self.fault(self.count) if callable(self.fault) else self.fault
            if found != "ok" and self.bad_since is None:
                self.bad_since = time.monotonic()
            return found


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Server

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve(False)

    def do_GET(self) -> None:
        self._serve(True)

    def _empty(self, status: int, **headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _serve(self, with_body: bool) -> None:
        fault, data = self.owner.next_fault(), self.owner.data
        data = data(self.path) if callable(data) else data
        if fault.isdigit():
            return self._empty(int(fault))
        if fault == "redirect":
            return self._empty(302, Location=self.path)
        if fault == "gone":
            threading.Thread(target=self.owner.stop, daemon=True).start()
            self.close_connection = True
            return None
        if fault == "stall":
            self.owner.over.wait(20)
            self.close_connection = True
            return None
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, end = 0, len(data)
        if asked:
            first, end = int(asked[1]), min(len(data), int(asked[2]) + 1 if asked[2] else len(data))
            if first >= len(data):
                return self._empty(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        part = data[first:end]
        length = {"long": len(part) + 1000, "short": len(part) // 2}.get(fault, len(part))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:12]}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if with_body:
            self._body(fault, part, length)
        return None

    def _body(self, fault: str, part: bytes, length: int) -> None:
        with contextlib.suppress(OSError):
            if fault == "trickle":
                for start in range(0, len(part), 20):
                    self.wfile.write(part[start : start + 20])
                    if self.owner.over.wait(0.1):
                        return
                return
            self.wfile.write(part[: len(part) // 2 if fault == "cut" else length])
            self.wfile.flush()
            if fault in ("cut", "short", "long"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)


def picture(side: int, bands: int = 3, seed: int = 5) -> np.ndarray:
    """Return pixels with large shapes and noise, none of them 0."""
    chance = np.random.default_rng(seed)
    rough = chance.integers(0, 255, (bands, side // 50 + 1, side // 50 + 1))
    return (
        rough.repeat(50, 1).repeat(50, 2)[:, :side, :side] // 2 + chance.integers(1, 120, (bands, side, side))
    ).astype(np.uint8)


def write_cog(path: Path, pixels: np.ndarray, **options) -> Path:
    """Write a Cloud-Optimised GeoTIFF with blocks of 128 pixels and overviews."""
    profile = {"driver": "COG", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= {"dtype": pixels.dtype, "crs": "EPSG:32633", "transform": from_origin(4e5, 5e6, 0.5, 0.5)}
    profile |= {"compress": "deflate", "blocksize": 128, **options}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


def classes_of(path) -> np.ndarray:
    """Return the class raster, nodata as 0."""
    with rasterio.open(path) as file:
        return np.where(file.read_masks(1) > 0, file.read(1), 0)
