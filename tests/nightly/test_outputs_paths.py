"""Fault plan O2, O4 and O6 with whole jobs: refusals of the system, kills during the assembly, names of all kinds."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
import unicodedata

import pytest
from nightly_jobs import all_kinds
from nightly_support import Host, Watch, processes_with, scaled, tidy, wait_until
from small_disks import small_disk


@pytest.fixture(scope="module")
def small(workshop):
    """The kinds of jobs, the state of the undisturbed output of that over pixels, and the seconds of its assembly."""
    kinds = all_kinds(workshop / "o2")
    host = Host(kinds["pixels"].job(workshop / "o2" / "calm"), workshop / "o2" / "run")
    assert host.wait() == "done", host.message
    began = next(one["t"] for one in host.events if one.get("text") == "Writing the result")
    return kinds, kinds["pixels"].state(workshop / "o2" / "calm"), host.end["t"] - began


def fails(kinds, name, target, run, **more):
    """Run a job that must fail in order, and return its message."""
    host = Host(kinds[name].job(target), run, **more)
    assert host.wait() == "failed", host.end
    assert not host.left()
    assert "Traceback" not in host.message + host.stderr and "unexpected fault" not in host.message, host.message
    assert kinds[name].state(target) == ""
    return host.message


@pytest.mark.parametrize("name", ["pixels", "detect", "export", "training"])
def test_refusals_of_the_system(workshop, small, figure, name):
    """O2: limits, rights, folders that are none or vanish, no more inodes."""
    kinds = small[0]
    base, told = workshop / "o2" / name, {}
    told["RLIMIT_FSIZE"] = fails(
        kinds,
        name,
        base / "limit",
        base / "run1",
        wrap=("prlimit", f"--fsize={10_000 if name != 'pixels' else 60_000}"),
    )
    locked = base / "locked"
    with small_disk(locked, 2**24):
        os.system(f"mount -o remount,ro {locked}")
        told["read-only"] = fails(kinds, name, locked / "out", base / "run2")
    (base / "file").write_text("no folder")
    told["no folder"] = fails(kinds, name, base / "file" / "out", base / "run3")
    with small_disk(base / "inodes", 2**28, inodes=12) as disk:
        for number in range(30):
            with contextlib.suppress(OSError):
                (disk / f"f{number}").touch()
        told["inodes"] = fails(kinds, name, disk / "out", base / "run4")
    for case, message in told.items():
        assert str(base) in message, (case, message)
    figure(f"O2 {name}: refused with the place named", f"{len(told)} of {len(told)}", "plan: 7 cases")
    tidy(base)


def test_the_folder_vanishes(workshop, small, figure):
    kinds = small[0]
    base = workshop / "o2" / "vanish"
    host = Host(kinds["pixels"].job(base / "out"), base / "run")
    assert wait_until(lambda: any("Predicting" in text for text in host.texts), 60)
    while (base / "out").exists() and host.process.poll() is None:
        shutil.rmtree(base / "out", ignore_errors=True)  # workers write into it meanwhile
    state = host.wait()
    assert not host.left()
    assert "Traceback" not in host.message + host.stderr and "unexpected fault" not in host.message, host.message
    assert state == "failed" and str(base) in host.message
    figure("O2 folder removed during the run: refused with the place named", True, "True")


def test_kills_during_the_assembly(workshop, small, figure):
    """O4: at any moment of the assembly a killed host leaves the old output or the complete new one."""
    kinds, expected, assembly = small
    base, chance, rounds, ended = workshop / "o4", random.Random(4), scaled(10), []
    output = base / "out" / "classes.tif"
    output.parent.mkdir(parents=True)
    for number in range(rounds):
        output.write_bytes(b"old")
        with Watch(output) as watch:
            host = Host(kinds["pixels"].job(base / "out"), base / f"run-{number}", scratch=str(base / "scratch"))
            assert wait_until(lambda host=host: any("Writing the result" in one for one in host.texts), 60, 0.005)
            time.sleep(chance.uniform(0, 1.3) * assembly)
            for pid in processes_with(host.mark):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            host.process.wait()
            assert wait_until(lambda host=host: not processes_with(host.mark), 5)
        assert set(watch.seen) <= {watch.seen[0], expected}
        ended.append("new" if output.read_bytes() != b"old" else "old")
    began = time.monotonic()
    last = Host(kinds["pixels"].job(base / "out"), base / "last", scratch=str(base / "scratch"))
    assert last.wait() == "done", last.message
    assert kinds["pixels"].state(base / "out") == expected
    left = sorted(one.name for one in output.parent.iterdir() if not one.name.startswith("classes.tif"))
    assert left == [], left
    figure("O4 hosts killed while assembling: old / new / half", f"{ended.count('old')} / {ended.count('new')} / 0",
           "plan: 80; half 0")  # fmt: skip
    figure("O4 seconds until the next start was done", round(time.monotonic() - began, 1))
    tidy(base)


NAMES = [
    "with blanks in it", 'quote"s and \'apostrophes', "a&b", "100%25", "c#d", "-dash", "木", "é", "ß", "😀",
    unicodedata.normalize("NFD", "é"), "semi;colon=x", "[brackets]{}", "$HOME `x`", "x" * 200, "file:name",
]  # fmt: skip


@pytest.mark.parametrize("name", ["pixels", "detect", "export"])
def test_names(workshop, small, figure, name):
    """O6: folders of all kinds of names, a link, a path of 300 characters: right, or refused before the start."""
    kinds = small[0]
    base, right, refused = workshop / "o6" / name, 0, []
    calm = Host(kinds[name].job(base / "calm"), base / "run")
    assert calm.wait() == "done", calm.message
    expected = kinds[name].state(base / "calm")
    (base / "real").mkdir()
    (base / "link").symlink_to(base / "real")
    long = base / "/".join(["y" * 60] * 5)
    chosen = NAMES if name == "pixels" else NAMES[::4]
    targets = [*(base / one for one in chosen), base / "link", long]
    for number, target in enumerate(targets):
        target.mkdir(parents=True, exist_ok=True)
        host = Host(kinds[name].job(target), base / f"run-{number}", variables={"LC_ALL": "C", "LANG": "C"})
        state = host.wait()
        assert "Traceback" not in host.message + host.stderr, host.message
        if state == "done":
            assert kinds[name].state(target) == expected, target.name
            right += 1
        else:
            assert not any("Predicting" in text for text in host.texts), (target.name, host.message)
            refused.append(f"{target.name[:20]}: {host.message}")
    figure(f"O6 {name}: names that work", f"{right} of {len(targets)}", "plan: 16", not refused)
    assert not refused, refused
    tidy(base)


def test_a_scratch_folder_with_an_odd_name(workshop, small):
    kinds, expected, _ = small
    base = workshop / "o6" / "scratch"
    host = Host(kinds["pixels"].job(base / "out"), base / "run", scratch=str(base / "scr 木 'é\" %s"))
    assert host.wait() == "done", host.message
    assert kinds["pixels"].state(base / "out") == expected
    assert not os.listdir(host.scratch)
