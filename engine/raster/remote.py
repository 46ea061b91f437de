"""Rasters behind a network: what may be shown of an address, which version is there, and waiting for a server.

GDAL tries a request again a few times by its own settings. What still fails is sorted here: a refusal (login, address,
redirects) ends the job at once, a server or network that is away is waited for, and a raster that was replaced ends the
job, because two versions must never meet in one result. The standard library alone is used.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

from ..errors import SourceLostError

PATIENCE = "DEEP_RASTER_NETWORK_PATIENCE"
# Seconds for which a running job waits for a server; a job that has not begun is refused earlier.
_PATIENCE, _OPENING = 1800.0, 20.0
_LONGEST_PAUSE = 60.0
# Failures in a row while the server answers well, or cannot be asked: then the file is damaged and not the network.
_ENOUGH, _ENOUGH_UNSEEN = 3, 8
# Longest silence while something is waited for: a person shall know what, and the engine that the worker lives.
_SILENCE = 30.0
_MARKS = (
    "http://", "https://", "ftp://", "/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift",
    "/vsiwebhdfs", "/vsihdfs",
)  # fmt: skip
_REFUSED = {
    400: "the server does not understand the address",
    401: "a login is needed",
    403: "access is refused, or the login has expired",
    404: "there is nothing at this address",
    405: "the server does not hand out files",
    407: "the proxy needs a login",
    410: "it is no longer at this address",
    451: "access is barred by law",
}
# Members of addresses that let somebody in but say nothing of what is behind it; a renewed link is the same raster.
_CREDENTIALS = re.compile(
    r"(?i)^(x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy|sig|se|sp|spr|sv|sr|st"
    r"|sk[a-z]+|.*token|.*api_?key|key|auth.*|.*passw(or)?d|.*pwd|.*secret.*|bearer|user(name)?)$"
)
# The same where they stand in connections, open options, inline XML and headers of HTTP.
_NAME = r"\w*(?:passw(?:or)?d|pwd|token|api_?key|secret|bearer)\w*"
_ASSIGNED = rf"(?i)\b({_NAME})=('[^']*'|\"[^\"]*\"|{{}})"
_ELEMENT = re.compile(
    rf"(?is)(<(?:{_NAME}|\w+[^<>]*\skey=[\"']{_NAME}[\"'])(?:\s[^<>]*)?(?<!/)>)(?:<!\[CDATA\[.*?\]\]>|[^<])+"
)
_HEADERS = re.compile(r"(?i)\b(\w*headers)=[^\r\n\"'<]+")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization|cookie|x-[\w-]*(?:token|key|secret)[\w-]*): *[^\r\n,\"'<]+")
_MEMBER = re.compile(r"([?&;])([\w.-]+)=([^&<>\s\"']*)")
# “user:password@host”. Drives and the prefixes of GDAL's drivers (NETCDF:a@b.nc) are no users.
_USER = re.compile(
    r"(?:(?<==)|(?:(?<=[\s,;\"'>])|^)(?![A-Z][A-Z0-9_]*:))(?![A-Za-z]:[\\/])[^\s:/@=,;\"'<>\\]+:[^\s/@\\<>\"']+@(?=\w)"
)
# Without one of these there is no login in a text; most have none.
_LOGIN_MARKS = re.compile(r"[=:@<?]")
_log = logging.getLogger(__name__)


def shown(path: str) -> str:
    """Return a path, connection or open option as it may be shown and logged: without logins, options and query."""
    if not _LOGIN_MARKS.search(path):
        return path
    path = re.sub(r"/vsicurl\?\S*", lambda found: "/vsicurl/" + (_of_options(found.group()) or "…"), path)
    path = re.sub(r"(https?://[^?\s<]*)\?[^\s<]*", r"\1", path)
    return _without_logins(path, r"[^\s<>]*")


def _without_logins(text: str, value: str) -> str:
    """Return a text without logins; ``value`` is the pattern of what a name that stands for one may be set to."""
    text = _ELEMENT.sub(r"\1…", text)
    text = re.sub(_ASSIGNED.format(value), r"\1=…", text)
    text = _HEADER.sub(r"\1: …", _HEADERS.sub(r"\1=…", text))
    text = re.sub(r"(\w+://)[^/@\s<]*@", r"\1", text)
    return _USER.sub("", text)


def hushed(text: str, path: str) -> str:
    """Return a message about ``path`` without the secrets of its address, also where it names the file alone."""
    name = path.rsplit("/", 1)[-1]
    text = text.replace(path, shown(path))
    if "?" in name:
        text = text.replace(name, name.split("?")[0])
    return shown(text)


def is_credential(name: str) -> bool:
    """Return whether a member of this name lets somebody in, such as a password or a token."""
    return _CREDENTIALS.match(name) is not None


def without_credentials(path: str) -> str:
    """Return an address without what changes when a login is renewed; two such texts mean the same raster."""
    address = http_address(path)
    if not address:
        return path if re.match(r"/|[A-Za-z]:[\\/]", path) else _connection(path)
    parts = urllib.parse.urlsplit(address)
    members = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    kept = [one for one in members if not is_credential(one[0])]
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, urllib.parse.urlencode(kept), ""))


def _connection(text: str) -> str:
    """Return a connection, open option or inline XML without logins, but with all else that tells it from others."""
    text = _without_logins(text, r"\S*" if text[:3].upper() == "PG:" else r"[^\s<>,;&]*")
    return _MEMBER.sub(lambda found: f"{found[1]}{found[2]}=…" if is_credential(found[2]) else found[0], text)


def with_paths(value: Any, change: Callable[[str], str]) -> Any:
    """Return JSON members with each path and each open option as ``change`` makes it."""
    if isinstance(value, dict):
        return {
            name: change(one) if name == "path" and isinstance(one, str)
            else [change(option) for option in one] if name == "open_options" and isinstance(one, (list, tuple))
            else with_paths(one, change)
            for name, one in value.items()
        }  # fmt: skip
    return [with_paths(one, change) for one in value] if isinstance(value, (list, tuple)) else value


def is_remote(path: str) -> bool:
    """Return whether a path leads over a network."""
    return any(mark in path.lower() for mark in _MARKS)


def http_address(path: str) -> str:
    """Return the address that HTTP alone reaches; empty for buckets, archives and anything local."""
    for prefix in ("", "/vsicurl/", "/vsicurl_streaming/"):
        if path.startswith((prefix + "http://", prefix + "https://")):
            return path[len(prefix) :]
    return _of_options(path)


def _of_options(path: str) -> str:
    """Return the URL of ``/vsicurl?option=value&url=...``."""
    if not path.startswith("/vsicurl?"):
        return ""
    found = dict(urllib.parse.parse_qsl(path.partition("?")[2])).get("url", "")
    return found if found.startswith(("http://", "https://")) else ""


@dataclass(frozen=True)
class Answer:
    """What a server says of a file.

    Attributes:
        status: of HTTP; 0 if there was no answer.
        reason: why it cannot be read, as part of a sentence; empty if it can.
        version: what identifies its content, or None if the server does not tell.
    """

    status: int = 0
    reason: str = ""
    version: Optional[Dict[str, Any]] = None

    @property
    def refused(self) -> bool:
        """Whether trying again is in vain until a person changes something."""
        return self.status in _REFUSED or 300 <= self.status < 400


def ask(path: str) -> Optional[Answer]:
    """Ask the server for the first byte of a file; None where HTTP alone does not reach it."""
    address = http_address(path)
    if not address:
        return None
    limit = max(1.0, float(os.environ.get("GDAL_HTTP_CONNECTTIMEOUT") or 10))
    parts = urllib.parse.urlsplit(address)
    plain = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    headers = {"Range": "bytes=0-0", **_headers(parts)}
    request = urllib.request.Request(plain, headers=headers)  # noqa: S310 - http and https alone
    try:
        # http_address returns nothing but http and https.
        with urllib.request.urlopen(request, timeout=limit) as reply:  # noqa: S310  # nosec B310
            return Answer(reply.status, "", _version(reply.headers))
    except urllib.error.HTTPError as error:
        reason = "the redirects lead in a circle" if 300 <= error.code < 400 else _REFUSED.get(error.code, "")
        error.close()
        return Answer(error.code, f"HTTP status {error.code}" + (f", {reason}" if reason else ""))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(0, _told(error, limit))


def _headers(parts: urllib.parse.SplitResult) -> Dict[str, str]:
    headers = {"User-Agent": os.environ.get("GDAL_HTTP_USERAGENT") or "deep_raster", "Accept-Encoding": "identity"}
    login = os.environ.get("GDAL_HTTP_USERPWD") or urllib.parse.unquote(parts.netloc.rpartition("@")[0])
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    for line in re.split(r"\r?\n|(?<=\S),(?=[\w-]+:)", os.environ.get("GDAL_HTTP_HEADERS", "")):
        name, _, value = line.partition(":")
        if value:
            headers[name.strip()] = value.strip()
    return headers


def _told(error: Exception, limit: float) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, (TimeoutError, socket.timeout)):
        return f"no answer within {limit:g} seconds"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(cause, socket.gaierror):
        return "the server's name is unknown, or there is no network"
    if isinstance(cause, http.client.HTTPException):
        return f"the answer is no proper HTTP ({type(cause).__name__})"
    return str(getattr(cause, "strerror", "") or cause)


def _version(headers: Any) -> Optional[Dict[str, Any]]:
    total = str(headers.get("Content-Range", "")).rpartition("/")[2] or headers.get("Content-Length", "")
    found = {"etag": headers.get("ETag"), "modified": headers.get("Last-Modified")}
    known = {name: value for name, value in found.items() if value}
    return {**known, "size": int(total)} if known and str(total).isdigit() else known or None


def version(path: str) -> Optional[Dict[str, Any]]:
    """Return what identifies the content behind an address; None if the server does not tell, or not reliably."""
    first = ask(path)
    if first is None or first.version is None:
        return None
    second = ask(path)  # servers that make up a new mark for every answer cannot be held to it
    return first.version if second is not None and second.version == first.version else None


def changed(path: str) -> SourceLostError:
    """Return the error for a raster that became another one while it was read."""
    return SourceLostError(
        f"The raster “{shown(path)}” was changed or removed while the job was running.",
        stage="reading",
        file=shown(path),
        hint="Start the job again; it begins anew with the raster as it is now.",
    )


def _lost(path: str, reason: str, waited: float, running: bool) -> SourceLostError:
    after = f" Tried again for {waited:.0f} s." if waited >= 1 else ""
    kept = "What is finished is kept; the same job started again goes on from there." if running else ""
    todo = "Check the address, the login and the network."
    return SourceLostError(
        f"The raster “{shown(path)}” cannot be read: {reason}.{after}",
        stage="reading",
        file=shown(path),
        hint=f"{todo} {kept}".strip(),
    )


def attempts(
    paths: Sequence[str], known: Dict[str, Optional[Dict[str, Any]]], error: Exception, running: bool
) -> Iterator[None]:
    """Yield before each further attempt at reading what failed with ``error``; raise once it is in vain.

    Args:
        paths: addresses that take part.
        known: version of each when it was opened.
        error: why the first attempt failed; raised again where the servers answer well, so that the file is at fault.
        running: whether work may be lost, so that the wait is long; DEEP_RASTER_NETWORK_PATIENCE sets it in seconds.

    Raises:
        SourceLostError: a server refuses, stays away, or holds another version.
    """
    patience = float(os.environ.get(PATIENCE) or _PATIENCE)
    begun, pause, good = time.monotonic(), 1.0, 0
    limit = begun + (patience if running else min(patience, _OPENING))
    while True:
        answers = [(one, ask(one)) for one in paths]
        for one, answer in answers:
            before = known.get(one)
            if answer is not None and answer.refused:
                raise _lost(one, answer.reason, 0, running) from error
            if answer is not None and None not in (answer.version, before) and answer.version != before:
                raise changed(one) from error
        path, reason = next(((one, found.reason) for one, found in answers if found and found.reason), (paths[0], ""))
        good = 0 if reason else good + 1
        if good >= (_ENOUGH if any(found for _, found in answers) else _ENOUGH_UNSEEN):
            raise error
        waited, left = time.monotonic() - begun, limit - time.monotonic()
        if left <= 0:
            raise _lost(path, reason or "the answers break off", waited, running) from error
        pause = min(pause, left)
        if reason:
            _log.warning(
                "“%s” cannot be read now (%s); trying again in %.0f s, for %.0f s at most.",
                shown(path), reason, pause, left,
            )  # fmt: skip
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
        yield


@contextlib.contextmanager
def watched(path: str) -> Iterator[None]:
    """Tell from time to time that ``path`` is being waited for, while the block lasts."""
    over, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        pause = float(os.environ.get("GDAL_HTTP_LOW_SPEED_TIME") or _SILENCE / 2)
        while not over.wait(min(pause, _SILENCE)):
            pause *= 2
            _log.warning("Still waiting for “%s” after %.0f s.", shown(path), time.monotonic() - begun)

    teller = threading.Thread(target=tell, daemon=True, name="remote")
    teller.start()
    try:
        yield
    finally:
        over.set()
