"""S2, S5: a raster behind a server that fails in every way that servers do; real processes, a real server.

The oracle is the class raster of the same pixels from a local file; each run is searched for the secret in the address.
"""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from nightly_models import pixel_job
from nightly_support import Host, Watch, digest, wait_until, work_folder
from pictures import picture, write_cog
from range_server import SECRET
from sources_support import QUICK, classes_of

SIDE = 1024


@pytest.fixture(scope="module")
def expected(folder, cog, model):
    """Classes of the local file."""
    host = Host(job(cog, model, folder / "local.tif"), folder / "local")
    assert host.wait() == "done", host.message
    found = classes_of(folder / "local.tif")
    assert set(np.unique(found)) == {1, 2, 3}
    return found


@pytest.fixture(scope="module")
def plain(folder, server, model, expected):
    """(digest, requests) of the job on a server without any fault."""
    server.begin()
    output = folder / "plain" / "classes.tif"
    host = run(server, model, output)
    assert host.end["end"] == "done", host.message
    assert np.array_equal(classes_of(output), expected)
    return digest(output), server.count


def job(path, model, output):
    return pixel_job(str(path), model, output, workers=2)


def start(server, model, output, token=SECRET, name="run", **variables):
    output.parent.mkdir(exist_ok=True)
    return Host(job(server.path(token), model, output), output.parent / name, variables={**QUICK, **variables})


def run(server, model, output, token=SECRET, name="run", seconds=90, **variables):
    """Run the job to its end; nothing is ever half-written, no process stays, no secret is told."""
    host = start(server, model, output, token, name, **variables)
    with Watch(output) as watch:
        host.wait(seconds)
    assert not host.left()
    assert len(watch.seen) <= 1, "something half-written was seen at the output"
    assert "Traceback" not in host.stderr and "Traceback" not in host.message
    told = json.dumps(host.events) + host.stderr
    if output.exists():
        told += output.read_bytes().decode("latin-1")
    assert token not in told, told[told.index(token) - 300 :][:400]
    return host


def resumed(server, model, output, plain, figure=None, **variables):
    """The job goes on to the very bytes of an undisturbed one."""
    server.begin()
    host = run(server, model, output, name="again", **variables)
    assert host.end["end"] == "done", host.message
    assert digest(output) == plain[0]
    return any("finished already" in one for one in host.texts)


def failed(host, output, *words):
    assert host.end["end"] == "failed", host.end
    for one in ("127.0.0.1", "/scene.tif", *words):
        assert one in host.message, host.message
    assert not output.exists()


@pytest.mark.parametrize("fault", ["every second 503", "every third 429", "long"])
def test_what_can_be_borne_completes(folder, server, model, plain, figure, fault):
    faults = {
        "every second 503": lambda number: "503" if number % 2 == 0 else "ok",
        "every third 429": lambda number: "429" if number % 3 == 0 else "ok",
        "long": "long",
    }
    server.begin(faults[fault])
    output = folder / fault.replace(" ", "_") / "classes.tif"
    host = run(server, model, output)
    assert host.end["end"] == "done", host.message
    figure(f"S2 {fault}", "same bytes", "same bytes", digest(output) == plain[0])
    assert digest(output) == plain[0]


@pytest.mark.parametrize(
    ("fault", "word"),
    [("503", "503"), ("404", "404"), ("401", "401"), ("redirect", "302"), ("stall", "no answer"), ("cut", "read")],
)
def test_a_server_that_always_fails_is_named_soon(folder, server, model, plain, figure, fault, word):
    server.begin(fault)
    output = folder / f"always_{fault}" / "classes.tif"
    host = run(server, model, output)
    figure(f"S2 {fault} always: seconds to the end", round(host.seconds, 1), "60", host.seconds <= 60)
    failed(host, output, word)
    assert host.seconds <= 60
    assert not work_folder(output).exists()


@pytest.mark.parametrize(
    ("fault", "word"), [("503", "503"), ("403", "403"), ("stall", "no answer"), ("trickle", "read"), ("short", "read")]
)
def test_a_server_that_fails_midway_leaves_the_job_resumable(folder, server, model, plain, figure, fault, word):
    half = plain[1] * 2 // 3
    server.begin(lambda number: fault if number > half else "ok")
    output = folder / f"midway_{fault}" / "classes.tif"
    host = run(server, model, output)
    failed(host, output, word)
    told = [one["t"] for one in host.events if one.get("level") == "warning" and "scene.tif" in one["text"]]
    noticed = min([*told, host.ended]) - server.bad_since
    limit = 2 * float(QUICK["GDAL_HTTP_TIMEOUT"])
    figure(f"S2 {fault} midway: seconds until told", round(noticed, 1), f"{limit:g}", noticed <= limit)
    assert noticed <= limit
    assert resumed(server, model, output, plain, token="renewed" if fault == "403" else SECRET)


def test_a_raster_that_changes_midway_ends_the_job_and_is_never_mixed(folder, server, model, plain, figure):
    second = write_cog(folder / "second.tif", picture(SIDE, seed=6))
    output = folder / "changed" / "classes.tif"
    with server.replaced(plain[1] * 2 // 3, second.read_bytes()):
        host = run(server, model, output)
        failed(host, output, "was changed or removed")
        server.begin()
        again = run(server, model, output, name="again")
        assert again.end["end"] == "done", again.message
    local = Host(job(second, model, folder / "local2.tif"), folder / "local2")
    assert local.wait() == "done", local.message
    same = np.array_equal(classes_of(output), classes_of(folder / "local2.tif"))
    figure("S2 ETag changes midway", "ends, then anew" if same else "mixed", "never mixed", same)
    assert same


def test_refused_connections_end_the_job_resumable(folder, server, model, plain, figure):
    output, half = folder / "refused" / "classes.tif", plain[1] * 2 // 3
    server.begin(lambda number: "gone" if number > half else "ok")
    try:
        host = run(server, model, output)
    finally:
        server.stop()
        server.start()
    failed(host, output, "refused")
    figure("S2 connection refused midway", "resumable", "resumable", True)
    assert resumed(server, model, output, plain)


def test_a_network_that_comes_back_is_waited_for(folder, server, model, plain, figure):
    output, half = folder / "back" / "classes.tif", plain[1] * 2 // 3
    server.begin(lambda number: "gone" if number > half else "ok")
    host = start(server, model, output, DEEP_RASTER_NETWORK_PATIENCE="60")
    try:
        assert wait_until(lambda: not server.up, 60)
        time.sleep(6)
    finally:
        server.stop()
        server.begin()
        server.start()
    assert host.wait(90) == "done", host.message
    told = [one for one in host.events if one.get("level") == "warning" and "trying again" in one["text"]]
    figure("S5 six seconds without network: warnings", len(told), ">= 2", len(told) >= 2)
    assert len(told) >= 2 and all("scene.tif" in one["text"] for one in told)
    assert digest(output) == plain[0]
