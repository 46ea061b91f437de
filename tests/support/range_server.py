"""A server of one raster that misbehaves as asked."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import threading
import time
import urllib.parse

SECRET = "s3cr3t-t0k3n"
# For a server in the process that reads from it. GDAL lists folders while rasterio holds Python's lock, so it could not
# answer; and nobody wants to wait for what a test has broken on purpose.
IN_PROCESS = {
    "GDAL_HTTP_MAX_RETRY": "0", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "DEEP_RASTER_NETWORK_PATIENCE": "3",
}  # fmt: skip


class RangeServer:
    """Serves ``data`` under any path on a port of its own, with byte ranges; ``fault`` says what it does to a request.

    ``data`` are bytes, or a function from the path of a request to bytes.

    ``fault`` is a name, or a function from the number of the request (counted from 1) to a name: ok, stall, trickle,
    cut, short, long, redirect, gone (connections are refused until :meth:`start`), or an HTTP status.

    ``token`` is the one that lets in (others get status 403); None lets everybody in.
    """

    def __init__(self, data, token=None) -> None:
        self.data, self.token = data, token
        self.fault, self.count, self.bad_since = "ok", 0, None
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

    @contextlib.contextmanager
    def replaced(self, at: int, by: bytes):
        """Serve other data from a numbered request on, and the first ones again afterwards."""
        first = self.data

        def change(number: int) -> str:
            if number == at:
                self.data = by
            return "ok"

        self.begin(change)
        try:
            yield
        finally:
            self.data = first
            self.begin()

    def address(self, token: str = SECRET) -> str:
        return f"http://127.0.0.1:{self.port}/scene.tif?item=3&token={token}"

    def path(self, token: str = SECRET) -> str:
        """The address as GDAL reads it."""
        return "/vsicurl/" + self.address(token)

    def next_fault(self, query: str) -> str:
        with self.lock:
            self.count += 1
            found = self.fault(self.count) if callable(self.fault) else self.fault
            if self.token is not None and urllib.parse.parse_qs(query).get("token") != [self.token]:
                found = "403"
            if found != "ok" and self.bad_since is None:
                self.bad_since = time.monotonic()
            return found


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: RangeServer

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
        fault, data = self.owner.next_fault(urllib.parse.urlsplit(self.path).query), self.owner.data
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
