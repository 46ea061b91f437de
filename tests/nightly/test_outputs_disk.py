"""Fault plan O1: disks that are too small by more or less, for the outputs and for the scratch folder."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest
from nightly_jobs import all_kinds
from nightly_support import Host, tidy
from small_disks import small_disk

KINDS = ("pixels", "rasters", "polygons", "detect", "export", "training")
SHARES = (10, 25, 50, 75, 90, 99)
# Chips are ready before anything of them is at the output; what comes last is what such disks are too small for.
NARROW = {"export": (96, 97, 98, 99.5)}
# After these failures space is made and the same job started again.
RESUMED = (50, 90, 98)


@pytest.fixture(scope="module")
def kinds(workshop):
    return all_kinds(workshop / "o1")


class Peak:
    """The most bytes that a file system ever held, looked at each 10 ms."""

    def __init__(self, folder):
        self.folder, self.most, self._stop = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.01):
            at = os.statvfs(self.folder)
            self.most = max(self.most, (at.f_blocks - at.f_bfree) * at.f_frsize)


@pytest.mark.parametrize("name", KINDS)
def test_too_small_a_disk(workshop, kinds, figure, name):
    kind, base = kinds[name], workshop / f"o1-{name}"
    target, scratch = base / "target", base / "scratch"
    with small_disk(target, 2**30), small_disk(scratch, 2**30), Peak(target) as used, Peak(scratch) as used_scratch:
        host = Host(kind.job(target), base / "calm", scratch=str(scratch))
        assert host.wait() == "done", host.message
        expected = kind.state(target)
        assert expected
    needs = {"target": used.most, "scratch": used_scratch.most}
    left, halves, silent = [], [], []
    told_early = early_cases = resumed = again_cases = 0
    for place, need in needs.items():
        for share in (*SHARES, *NARROW.get(name, ())):
            size = max(4096, int(need * share) // 100 // 4096 * 4096)
            sizes = {"target": 2**30, "scratch": 2**30, place: size}
            run = base / f"{place}-{share}"
            with small_disk(target, sizes["target"]), small_disk(scratch, sizes["scratch"]):
                host = Host(kind.job(target), run, scratch=str(scratch))
                state = host.wait()
                assert not host.left(), "processes outlive the job"
                assert "Traceback" not in host.stderr + host.message, host.stderr + host.message
                assert not os.listdir(scratch), "scratch is not empty"
                if state == "done":
                    assert kind.state(target) == expected
                    continue
                assert state == "failed", host.end
                left += [f"{place} {share}: {one}" for one in kind.there(target)]
                halves += [
                    f"{place} {share}: {one}" for one in kind.there(target) if not kind.is_whole(target, one, expected)
                ]
                words = host.message
                if not (str(base) in words and ("free" in words or "space" in words)):
                    silent.append(f"{place} {share}: {words}")
                if place == "target" and share <= 75:
                    early_cases += 1
                    told_early += not any("redicting" in text or "Writing" in text for text in host.texts)
                if share in RESUMED:
                    again_cases += 1
                    for folder in (target, scratch):
                        subprocess.run(["mount", "-o", f"remount,size={2**30}", str(folder)], check=True)
                    again = Host(kind.job(target), run / "again", scratch=str(scratch))
                    resumed += again.wait() == "done" and kind.state(target) == expected
            tidy(run)
    figure(f"O1 {name}: bytes needed at target / in scratch", f"{needs['target']:,} / {needs['scratch']:,}")
    figure(f"O1 {name}: half files left at the output", len(halves), "0", not halves)
    figure(f"O1 {name}: whole files of several left there", len(left) - len(halves), "0", not left)
    figure(f"O1 {name}: messages without place and space", len(silent), "0", not silent)
    figure(f"O1 {name}: told before the first tile, 10-75 %", f"{told_early} of {early_cases}", "all")
    figure(f"O1 {name}: complete once space is made", f"{resumed} of {again_cases}", "all", resumed == again_cases)
    assert not left and not silent and resumed == again_cases, "\n".join([*left, *silent])
