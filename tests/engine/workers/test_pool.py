"""The pool under real deaths: every task done exactly once, nothing left behind. Worker processes are real ones."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from deep_raster.engine.errors import JobCancelled, RasterError, WorkerError
from deep_raster.engine.workers import frames, pool, sandbox
from deep_raster.engine.workers.devices import Confinement, Slot
from processes import is_gone, wait_until

FAULTY = Path(__file__).with_name("faulty_worker.py")
CPU = Slot("cpu")


@pytest.fixture
def workers():
    made = pool.WorkerPool([sys.executable, "-B", "-u", str(FAULTY)])
    made.place([CPU] * 3)
    yield made
    made.close()


class Ledger:
    """Collects receipts and events of a run, and fails the moment a task is answered twice."""

    def __init__(self):
        self.receipts = {}
        self.events = []

    def receive(self, index, payload, receipt):
        if index in self.receipts:
            raise AssertionError(f"task {index} was answered twice")
        self.receipts[index] = receipt

    def run(self, workers, payloads, scratch, task="fault", check=lambda: None, lease=None):
        return workers.each(task, payloads, scratch, self.receive, self.events.append, check, lease)


def test_all_tasks_are_done_on_all_workers(workers, tmp_path):
    ledger = Ledger()
    lost = ledger.run(workers, ({"n": n, "seconds": 0.01} for n in range(60)), tmp_path, task="square")
    assert lost == []
    assert sorted(ledger.receipts) == list(range(60))
    assert all((tmp_path / f"{n}.txt").read_text() == str(n * n) for n in range(60))
    assert len({one["pid"] for one in ledger.receipts.values()}) == 3


def test_payloads_are_taken_as_workers_become_free(workers, tmp_path):
    taken = []

    def payloads():
        for n in range(50):
            taken.append(n)
            yield {"n": n}

    ledger = Ledger()
    ahead = []
    ledger.receive = lambda index, payload, receipt: ahead.append(len(taken) - len(ahead))
    ledger.run(workers, payloads(), tmp_path, task="square")
    assert max(ahead) <= 4


def test_random_kills_lose_nothing(workers, tmp_path):
    """Twenty kills of random workers at random times (fault plan W1)."""
    ledger = Ledger()
    stop = threading.Event()
    kills = []

    def killer():
        chance = random.Random(7)
        while not stop.wait(chance.expovariate(8.0)):
            alive = list(workers._workers)
            if alive and len(kills) < 20:
                victim = chance.choice(alive)
                with contextlib.suppress(ProcessLookupError):  # the last victim, which is not replaced yet
                    os.kill(victim.pid, signal.SIGKILL)
                    kills.append(victim.pid)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        lost = ledger.run(workers, ({"n": n, "seconds": 0.02} for n in range(300)), tmp_path, task="square")
    finally:
        stop.set()
        thread.join()
    assert len(kills) >= 10
    assert lost == []
    assert sorted(ledger.receipts) == list(range(300))


@pytest.mark.parametrize("fault", ["kill", "abort", "exit", "raise"])
def test_a_task_that_fails_once_is_done_again(workers, tmp_path, fault):
    ledger = Ledger()
    lost = ledger.run(workers, [{"n": n, "fault": fault if n == 3 else "", "once": True} for n in range(8)], tmp_path)
    assert lost == []
    assert sorted(ledger.receipts) == list(range(8))


@pytest.mark.parametrize("fault", ["abort", "raise"])
def test_a_poison_task_is_quarantined_and_costs_nothing_else(workers, tmp_path, fault):
    ledger = Ledger()
    lost = ledger.run(workers, [{"n": n, "fault": fault if n == 2 else ""} for n in range(8)], tmp_path)
    assert [one.index for one in lost] == [2]
    assert lost[0].payload["n"] == 2
    assert ("SIGABRT" if fault == "abort" else "a library's own mistake") in lost[0].reason
    assert sorted(ledger.receipts) == [0, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("fault", ["hang", "hang_in_native_code", "stop"])
def test_a_hung_worker_is_replaced_after_its_lease(workers, tmp_path, fault):
    ledger = Ledger()
    started = time.monotonic()
    payloads = [{"n": n, "fault": fault if n == 1 else "", "once": True} for n in range(6)]
    lost = ledger.run(workers, payloads, tmp_path, lease=2.0)
    assert lost == []
    assert sorted(ledger.receipts) == list(range(6))
    assert time.monotonic() - started < 60, "it hangs for ten minutes"


def test_time_that_the_machine_slept_is_not_the_workers_fault(workers, tmp_path, monkeypatch):
    """The engine stands still for longer than the lease while a task goes on (fault plan W12)."""
    monkeypatch.setattr(pool, "_PAUSE", 1.0)

    def payloads():
        yield {"n": 1, "seconds": 2.3}
        time.sleep(2.0)

    ledger = Ledger()
    assert ledger.run(workers, payloads(), tmp_path, task="square", lease=1.5) == []
    assert ledger.receipts.keys() == {0}
    assert not any("replaced" in getattr(event, "text", "") for event in ledger.events)


def test_a_refusal_ends_the_run_with_its_own_sentence(workers, tmp_path):
    with pytest.raises(RasterError) as caught:
        Ledger().run(workers, [{"n": 1, "fault": "refuse"}], tmp_path)
    assert str(caught.value) == "The file is broken. File: /data/a.tif. Copy it again."
    assert caught.value.stage == "reading"


def test_chatter_of_libraries_breaks_no_frame(workers, tmp_path):
    ledger = Ledger()
    assert ledger.run(workers, [{"n": 1, "fault": "chatter"}], tmp_path) == []
    assert any(getattr(event, "text", "") == "chattered" for event in ledger.events)


def test_cancel_is_quick_and_ends_busy_workers(workers, tmp_path):
    started = time.monotonic()
    busy = []

    def check():
        if time.monotonic() - started > 1.5:
            busy.extend(worker.pid for worker in workers._workers if worker.task is not None)
            raise JobCancelled("stop")

    with pytest.raises(JobCancelled):
        Ledger().run(workers, [{"n": n, "fault": "hang_in_native_code"} for n in range(3)], tmp_path, check=check)
    assert time.monotonic() - started < 1.5 + 2.0
    assert busy
    assert wait_until(lambda: all(is_gone(pid) for pid in busy), 2)


def test_the_pool_works_after_a_cancel(workers, tmp_path):
    def check():
        if any(worker.task is not None for worker in workers._workers):
            raise JobCancelled("stop")

    with pytest.raises(JobCancelled):
        Ledger().run(workers, [{"n": n, "seconds": 5} for n in range(3)], tmp_path, task="square", check=check)
    workers.place([CPU] * 3)
    ledger = Ledger()
    assert ledger.run(workers, [{"n": n} for n in range(5)], tmp_path, task="square") == []
    assert len(ledger.receipts) == 5


def test_workers_that_cannot_start_end_the_job_with_their_words(tmp_path):
    broken = pool.WorkerPool([sys.executable, "-c", "import sys; sys.exit('no such module: numpy')"])
    broken.place([CPU])
    with pytest.raises(WorkerError, match="no such module: numpy"):
        Ledger().run(broken, [{"n": 1}], tmp_path)
    broken.close()


def test_a_worker_that_is_gone_before_it_is_watched_is_noticed(tmp_path, monkeypatch):
    begin = threading.Thread.start

    def slowly(thread):
        begin(thread)
        time.sleep(0.3)  # the worker, and whoever reads from it, may be done before its starter goes on

    monkeypatch.setattr(threading.Thread, "start", slowly)
    broken = pool.WorkerPool([sys.executable, "-S", "-c", "raise SystemExit('too early')"])
    broken.place([CPU])
    end = time.monotonic() + 60

    def check():
        if time.monotonic() > end:
            raise JobCancelled("nobody noticed")

    with pytest.raises(WorkerError, match="too early"):
        Ledger().run(broken, [{"n": 1}], tmp_path, check=check)
    broken.close()


def test_threads_are_set_before_the_worker_starts(tmp_path):
    made = pool.WorkerPool([sys.executable, "-B", "-u", str(FAULTY)])
    made.place([Slot("cpu", "", 3)])
    ledger = Ledger()
    ledger.run(made, [{}], tmp_path, task="threads")
    made.close()
    assert ledger.receipts[0] == {"threads": 3, "device": "cpu", "omp": "3"}


@pytest.mark.skipif(not sandbox.available().files, reason="this kernel offers no Landlock")
def test_a_confined_worker_says_so_and_is_nobody_elses(workers, tmp_path):
    scratch, inputs, private = tmp_path / "scratch", tmp_path / "inputs", tmp_path / "private"
    for folder in (scratch, inputs, private):
        folder.mkdir()
        (folder / "a").write_text("x")
    tests = str(Path(__file__).resolve().parents[2])
    limits = Confinement("sha256:1", (str(inputs), tests), (str(scratch),))
    workers.place([Slot("cpu", "", 1, "", limits)])
    ledger = Ledger()
    payloads = [{"file": str(folder / "a")} for folder in (inputs, private)]
    assert ledger.run(workers, payloads, scratch, task="reach") == []
    assert [ledger.receipts[n]["read"] for n in (0, 1)] == [True, False]
    assert ledger.receipts[0]["temporary"] == ledger.receipts[0]["home"] == str(scratch)
    assert any("Confined by Landlock" in getattr(event, "text", "") for event in ledger.events)
    confined = workers._workers[0].pid
    workers.place([CPU])
    assert wait_until(lambda: is_gone(confined), 2)


def test_workers_stay_between_runs_and_follow_the_slots(workers, tmp_path):
    first, second = Ledger(), Ledger()
    first.run(workers, [{"n": n, "seconds": 0.05} for n in range(9)], tmp_path, task="square")
    before = {worker.pid for worker in workers._workers}
    workers.place([CPU] * 2)
    after = {worker.pid for worker in workers._workers}
    assert after < before
    second.run(workers, [{"n": n, "seconds": 0.05} for n in range(9)], tmp_path, task="square")
    assert {one["pid"] for one in second.receipts.values()} <= after


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="relies on the kernel's parent-death signal")
def test_no_worker_outlives_a_killed_engine(tmp_path):
    """Workers stuck in native code end with the engine process (fault plan C3)."""
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
        import conftest
        from pathlib import Path
        from deep_raster.engine.workers import pool
        from deep_raster.engine.workers.devices import Confinement, Slot
        made = pool.WorkerPool([sys.executable, "-B", "-u", {str(FAULTY)!r}])
        made.place([Slot("cpu")] * 2)
        print(*[worker.pid for worker in made._workers], flush=True)
        work = [{{"n": n, "fault": "hang_in_native_code"}} for n in range(2)]
        made.each("fault", work, Path({str(tmp_path)!r}), print, print, lambda: None)
        """
    )
    engine = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(part) for part in engine.stdout.readline().split()]
    time.sleep(2.0)
    assert not any(is_gone(pid) for pid in pids)
    engine.kill()
    engine.wait()
    assert wait_until(lambda: all(is_gone(pid) for pid in pids), 2)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00",
        b"\x00\x00\x00\x05ab",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x03abc",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x00",
    ],
)
def test_junk_is_refused_as_a_frame(tmp_path, junk):
    path = tmp_path / "junk"
    path.write_bytes(junk)
    with path.open("rb") as stream, pytest.raises(frames.FrameError):
        frames.read(stream)
