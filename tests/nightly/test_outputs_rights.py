"""Fault plan O2 and O3: several outputs of which one cannot be written, other users' places, quotas, files in use."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from nightly_jobs import all_kinds
from nightly_support import Host, tidy, wait_until
from small_disks import small_disk

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@pytest.fixture(scope="module")
def kinds(workshop):
    return all_kinds(workshop / "rights")


@pytest.fixture(scope="module")
def expected(workshop, kinds):
    """The state of the three outputs of a job that nobody disturbed."""
    host = Host(kinds["several"].job(workshop / "rights" / "calm"), workshop / "rights" / "run")
    assert host.wait() == "done", host.message
    return kinds["several"].state(workshop / "rights" / "calm")


def hidden(folder):
    """Return what lies hidden in the folders of outputs beside unfinished work."""
    return [one.name for one in Path(folder).rglob(".*") if not one.name.endswith(".deepraster")]


@contextlib.contextmanager
def full(folder):
    """Fill the disk of a folder for a while."""
    junk = folder / "junk"
    with junk.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    junk.unlink()


@contextlib.contextmanager
def locked(folder):
    """Make the disk of a folder read-only for a while."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@contextlib.contextmanager
def in_the_way(folder):
    """Put a folder with something in it into the place of the output for a while; a rename fails there."""
    place = folder / "polygons.gpkg"
    old = place.read_bytes() if place.exists() else None
    place.unlink(missing_ok=True)
    (place / "mine").mkdir(parents=True)
    yield
    assert (place / "mine").exists()
    shutil.rmtree(place)
    if old is not None:
        place.write_bytes(old)


@pytest.mark.parametrize("before", ["nothing", "older outputs"])
@pytest.mark.parametrize("fault", [full, locked, in_the_way], ids=lambda one: one.__name__)
def test_all_outputs_or_none(workshop, kinds, expected, figure, fault, before):
    """One of three outputs cannot be written when the others are ready: they do not appear, or stay the old ones."""
    base = workshop / "rights" / f"{fault.__name__}-{before[0]}"
    target, kind = base / "out", kinds["several"]
    with small_disk(target / "c", 2**26) as disk:
        if before != "nothing":
            for one in kind.outputs:
                (target / one).parent.mkdir(parents=True, exist_ok=True)
                (target / one).write_bytes(b"old")
        state = kind.state(target)
        host = Host(kind.job(target), base / "run")
        assert wait_until(lambda: any("Predicting" in text for text in host.texts), 120)
        with fault(disk):
            there = {one: (target / one).read_bytes() for one in kind.outputs if (target / one).is_file()}
            assert host.wait() == "failed", host.end
            assert not host.left() and "Traceback" not in host.message + host.stderr, host.message
            assert str(disk) in host.message, host.message
            assert fault is not in_the_way or "All outputs are as they were before" in host.message, host.message
            assert there == {one: (target / one).read_bytes() for one in kind.outputs if (target / one).is_file()}
        assert kind.state(target) == state and hidden(target / "a") == hidden(target / "b") == []
        again = Host(kind.job(target), base / "again")
        assert again.wait() == "done", again.message
        assert any("finished already" in text for text in again.texts)
        assert kind.state(target) == expected and hidden(target) == []
    figure(f"O1 several outputs, {before}, one {fault.__name__}: all or none, resumed", True, "True")
    tidy(base)


@pytest.fixture
def open_place():
    """A folder that every user may enter, with the inputs of the kinds of jobs in it, and what another user needs."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs the right to become another user")
    place = Path(tempfile.mkdtemp())
    os.chmod(place, 0o755)
    made = all_kinds(place / "inputs")
    subprocess.run(["chmod", "-R", "a+rX", str(place / "inputs")], check=True)
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    yield place, made, home
    shutil.rmtree(place)


def host_of_nobody(job, folder, home):
    """Start a job as a user who owns nothing but ``home``."""
    folder.mkdir(parents=True)
    (folder / "scratch").mkdir()
    os.chown(folder / "scratch", NOBODY, NOBODY)
    own = {"HOME": str(home), "DEEP_RASTER_CACHE": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    return Host(job, folder, wrap=AS_NOBODY, variables=own)


def test_a_place_of_another_user(open_place, figure):
    """O2: no right to write is told before the first tile; where only replacing is forbidden, the old file stays."""
    place, kinds, home = open_place
    told = {}
    for name in ("pixels", "several", "detect", "objects", "export"):
        target = place / name
        target.mkdir()
        if name == "several":
            for one in ("a", "b"):
                (target / one).mkdir()
                os.chown(target / one, NOBODY, NOBODY)
        host = host_of_nobody(
            kinds[name].job(target / "out" if name == "export" else target), place / f"r-{name}", home
        )
        assert host.wait() == "failed", host.end
        assert not host.left() and "Traceback" not in host.message + host.stderr, host.message
        assert str(target) in host.message and "unexpected fault" not in host.message, host.message
        assert kinds[name].state(target) == ""
        told[name] = not any("Predicting" in text or "Writing" in text for text in host.texts)
    assert all(told.values()), told
    figure("O2 places of another user: refused before the first tile", f"{sum(told.values())} of {len(told)}", "all")
    sticky = place / "sticky"
    sticky.mkdir()
    os.chmod(sticky, 0o1777)
    (sticky / "classes.tif").write_bytes(b"old")
    host = host_of_nobody(kinds["pixels"].job(sticky), place / "r-sticky", home)
    assert host.wait() == "failed", host.end
    assert str(sticky / "classes.tif") in host.message and "Traceback" not in host.message, host.message
    assert (sticky / "classes.tif").read_bytes() == b"old" and hidden(sticky) == []
    (sticky / "classes.tif").unlink()
    host = host_of_nobody(kinds["pixels"].job(sticky), place / "r-sticky2", home)
    assert host.wait() == "done", host.message
    assert any("finished already" in text for text in host.texts)


@pytest.mark.parametrize("name", ["pixels", "detect", "export"])
def test_a_quota(open_place, figure, name):
    """O2: the disk has room, but not for this user (EDQUOT)."""
    place, kinds, home = open_place
    disk = place / "disk"
    disk.mkdir()
    options = "size=256M,usrquota,usrquota_block_hardlimit=200k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this kernel knows no quotas")
    try:
        os.chown(disk, NOBODY, NOBODY)
        host = host_of_nobody(kinds[name].job(disk / "out"), place / "run", home)
        assert host.wait() == "failed", host.end
        assert not host.left() and "Traceback" not in host.message + host.stderr, host.message
        assert str(disk) in host.message, host.message
        assert kinds[name].state(disk / "out") == ""
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
    figure(f"O2 quota, {name}: refused with the place named", True, "True")


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_geopackage_in_use_as_output(workshop, kinds, figure, mode):
    """O3: somebody holds the old layer open and locked; it is replaced whole, and its journal spoils nothing."""
    base = workshop / "rights" / f"held-{mode}"
    output = base / "out" / "objects.gpkg"
    calm = Host(kinds["detect"].job(base / "calm"), base / "run")
    assert calm.wait() == "done", calm.message
    output.parent.mkdir(parents=True)
    holder = sqlite3.connect(output, isolation_level=None)
    holder.execute(f"PRAGMA journal_mode={mode}")
    holder.execute("CREATE TABLE mine (a)")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("INSERT INTO mine VALUES (1)")
    host = Host(kinds["detect"].job(output.parent), base / "run2")
    assert host.wait() == "done", host.message
    assert kinds["detect"].state(output.parent) == kinds["detect"].state(base / "calm")
    with contextlib.suppress(sqlite3.OperationalError):
        holder.execute("COMMIT")  # into the file that is gone
    holder.close()
    found = sqlite3.connect(output)
    assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not found.execute("SELECT 1 FROM sqlite_master WHERE name = 'mine'").fetchall()
    found.close()
    assert kinds["detect"].state(output.parent) == kinds["detect"].state(base / "calm")
    assert [one.name for one in output.parent.iterdir()] == ["objects.gpkg"]
    figure(f"O3 GeoPackage held open ({mode}) as output: replaced whole", True, "True")
    tidy(base)


def test_a_locked_layer_as_input(workshop, kinds, figure):
    """O3: an exclusive lock on a layer that is read: waited for, or refused with its name; never half of it."""
    base = workshop / "rights" / "locked-input"
    calm = Host(kinds["objects"].job(base / "calm"), base / "run")
    assert calm.wait() == "done", calm.message
    job = kinds["objects"].job(base / "out")
    holder = sqlite3.connect(job.features.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        host = Host(job, base / "run2")
        assert host.wait() == "failed", host.end
    finally:
        holder.close()
    assert "Traceback" not in host.message + host.stderr and job.features.path in host.message, host.message
    assert not any("Predicting" in text for text in host.texts) and kinds["objects"].state(base / "out") == ""
    again = Host(job, base / "again")
    assert again.wait() == "done", again.message
    assert kinds["objects"].state(base / "out") == kinds["objects"].state(base / "calm")
    assert len(np.asarray(pyogrio.raw.read(job.features.path, read_geometry=False, return_fids=True)[1])) == 400
    figure("O3 input layer locked: refused with its name before the first tile", True, "True")
    tidy(base)


@pytest.mark.parametrize("after", ["bind mount", "file"])
def test_a_folder_that_becomes_something_else(workshop, kinds, figure, after):
    """O2: while tiles are predicted the folder becomes read-only, or a file takes its place."""
    base = workshop / "rights" / after.replace(" ", "-")
    target = base / "out"
    target.mkdir(parents=True)
    host = Host(kinds["pixels"].job(target), base / "run")
    assert wait_until(lambda: any("Predicting" in text for text in host.texts), 120)
    if after == "file":
        target.rename(base / "moved")
        target.write_text("a file")
    else:
        subprocess.run(["mount", "--bind", str(target), str(target)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True)
    try:
        assert host.wait() == "failed", host.end
        assert not host.left() and "Traceback" not in host.message + host.stderr, host.message
        assert str(target) in host.message and "unexpected fault" not in host.message, host.message
    finally:
        if after != "file":
            subprocess.run(["umount", str(target)], check=True)
    if after == "file":
        target.unlink()
        (base / "moved").rename(target)
    assert kinds["pixels"].state(target) == ""
    again = Host(kinds["pixels"].job(target), base / "again")
    assert again.wait() == "done", again.message
    assert hidden(target) == []
    figure(f"O2 folder becomes a {after}: refused with its name, resumed", True, "True")
    tidy(base)
