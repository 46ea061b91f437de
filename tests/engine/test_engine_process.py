"""The engine as a real process, driven by the client as QGIS drives it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from deep_raster.engine import client, events, jobs
from deep_raster.engine.errors import EnvironmentFault, JobCancelled, JobError, VectorError, WorkerError
from processes import family, is_gone, wait_until
from real_engine import run

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "engine" / "launch.py"


@pytest.fixture(autouse=True)
def _no_engine_is_left():
    yield
    client.shutdown_engines()


def boxes(path, x, **fields):
    import numpy as np
    import pyogrio
    import shapely

    data = [np.array([value], dtype=object if isinstance(value, str) else None) for value in fields.values()]
    wkb = shapely.to_wkb(shapely.box(np.array([x]), 0, x + 10, 10))
    pyogrio.raw.write(str(path), wkb, data, list(fields), geometry_type="Polygon", crs="EPSG:32633")
    return jobs.VectorInput(str(path))


def accuracy_job(tmp_path):
    detected = boxes(tmp_path / "d.gpkg", 0.0, Class="a", Confidence=0.9)
    reference = boxes(tmp_path / "r.gpkg", 2.0, Class="a")
    return jobs.ComputeAccuracy(detected, reference, str(tmp_path / "t.csv"), min_iou=0.5)


def worker_is_there():
    return any("launch.py worker" in command for command in family(os.getpid()).values())


def test_a_job_gives_its_named_outputs_and_events(tmp_path):
    told = []
    values = run(accuracy_job(tmp_path), told)
    assert values["AP"] == pytest.approx(1.0)  # the boxes overlap by 80 of 120
    assert Path(values["OUTPUT"]).read_text().startswith("Class,")
    fractions = [event.fraction for event in told if isinstance(event, events.Progress)]
    assert fractions == sorted(fractions)
    assert any(isinstance(event, events.Log) and "precision" in event.text for event in told)


def test_a_failure_comes_back_as_the_same_error(tmp_path):
    job = accuracy_job(tmp_path)
    broken = jobs.ComputeAccuracy(jobs.VectorInput(str(tmp_path / "none.gpkg")), job.reference, job.output)
    told = []
    with pytest.raises(VectorError) as caught:
        run(broken, told)
    assert "none.gpkg" in str(caught.value)
    assert any("Traceback" in getattr(event, "text", "") for event in told)
    assert not Path(job.output).exists()


def test_a_warm_engine_is_used_again_and_ends_by_itself(tmp_path):
    job = accuracy_job(tmp_path)
    run(job, keep_warm=True, idle=1.5)
    first = client._resting[0].pid
    run(job, keep_warm=True, idle=1.5)
    assert [one.pid for one in client._resting] == [first]
    assert wait_until(lambda: is_gone(first), 15)
    run(job, keep_warm=True)
    assert client._resting[0].pid != first


def test_a_cold_engine_ends_with_its_job(tmp_path):
    before = set(family(os.getpid()))
    run(accuracy_job(tmp_path))
    assert set(family(os.getpid())) <= before


def test_scratch_is_gone_when_the_end_is_told(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("DEEP_RASTER_SCRATCH", str(scratch))
    job = accuracy_job(tmp_path)
    for asked in (job, job, jobs.ComputeAccuracy(job.detected, job.reference, job.output, min_iou=3.0)):
        with contextlib.suppress(JobError):
            run(asked)
        assert os.listdir(scratch) == []


def test_a_caller_that_raises_leaves_no_job_running(tmp_path):
    """An error in whoever listens (fault plan C4): a warm engine must not go on with the job unseen."""
    job = accuracy_job(tmp_path)
    before = set(family(os.getpid()))
    with pytest.raises(ZeroDivisionError):
        run(job, told=lambda event: 1 / 0, keep_warm=True)
    assert set(family(os.getpid())) <= before
    assert run(job, keep_warm=True)["AP"] == pytest.approx(1.0)


def test_a_failed_job_leaves_the_warm_engine_usable(tmp_path):
    job = accuracy_job(tmp_path)
    broken = jobs.ComputeAccuracy(job.detected, job.reference, job.output, min_iou=3.0)
    with pytest.raises(JobError, match="MIN_IOU"):
        run(broken, keep_warm=True)
    pid = client._resting[0].pid
    run(job, keep_warm=True)
    assert client._resting[0].pid == pid


@pytest.mark.skipif(os.name != "posix", reason="a FIFO plays the source that hangs")
def test_cancel_answers_within_two_seconds(tmp_path):
    stop = threading.Event()
    moment = []

    def later():
        wait_until(worker_is_there, 20)
        time.sleep(0.5)  # for it to get stuck
        moment.append(time.monotonic())
        stop.set()

    threading.Thread(target=later).start()
    fifo = tmp_path / "never.csv"
    os.mkfifo(fifo)  # opening it blocks for ever: a source that hangs
    job = jobs.ComputeAccuracy(jobs.VectorInput(str(fifo)), jobs.VectorInput(str(fifo)), str(tmp_path / "t.csv"))
    with pytest.raises(JobCancelled):
        run(job, is_cancelled=stop.is_set)
    assert time.monotonic() - moment[0] < 2.0
    assert not family(os.getpid())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="walks /proc")
def test_nothing_outlives_a_killed_caller(tmp_path):
    """SIGKILL the process that plays QGIS while a worker is stuck: engine and workers are gone within 3 s."""
    fifo = tmp_path / "never.csv"
    os.mkfifo(fifo)
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(ROOT / "tests")!r})
        import conftest
        from deep_raster.engine import client, jobs
        from deep_raster.engine.environment import Environment
        source = jobs.VectorInput({str(fifo)!r})
        job = jobs.ComputeAccuracy(source, source, {str(tmp_path / "t.csv")!r})
        environment = Environment(python=sys.executable, root="", frameworks=(), versions={{}})
        client.run_job(job, on_event=print, is_cancelled=lambda: False, environment=environment)
        """
    )
    caller = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    assert wait_until(lambda: len(family(caller.pid)) >= 2, 20)
    time.sleep(1.0)  # for the worker to get stuck
    ours = family(caller.pid)
    assert len(ours) >= 2
    caller.kill()
    caller.wait()
    assert wait_until(lambda: all(is_gone(pid) for pid in ours), 3)


def test_a_killed_engine_is_reported_and_the_next_job_gets_a_new_one(tmp_path):
    job = accuracy_job(tmp_path)
    run(job, keep_warm=True)
    first = client._resting[0]
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not first.is_alive, 5)
    assert run(job)["AP"] == pytest.approx(1.0)

    fifo = tmp_path / "never.csv"
    os.mkfifo(fifo)
    stuck = jobs.ComputeAccuracy(jobs.VectorInput(str(fifo)), job.reference, job.output)

    def kill_it():
        wait_until(worker_is_there, 20)
        os.kill(client._busy[0].pid, signal.SIGKILL)

    threading.Thread(target=kill_it).start()
    with pytest.raises(WorkerError, match="ended unexpectedly"):
        run(stuck)


def test_an_interpreter_that_is_none_gives_the_next_step(tmp_path):
    with pytest.raises(EnvironmentFault, match="Set up environment"):
        run(accuracy_job(tmp_path), python=tmp_path / "python3")
    with pytest.raises(EnvironmentFault, match="did not start"):
        run(accuracy_job(tmp_path), python="/bin/true")
    junk = tmp_path / "python"
    for mode in (0o600, 0o700):
        junk.write_bytes(b"\0\1 for another processor")
        junk.chmod(mode)
        with pytest.raises(EnvironmentFault, match=r"could not be started.*Set up environment"):
            run(accuracy_job(tmp_path), python=junk)


def test_run_from_a_shell(tmp_path):
    job = tmp_path / "job.json"
    job.write_text(json.dumps(jobs.to_dict(accuracy_job(tmp_path))))
    command = [sys.executable, "-I", "-B", str(LAUNCH), "engine", "run", str(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "result"
    assert last["values"]["AP"] == pytest.approx(1.0)
    job.write_text('{"job": "detectobjects", "colour": 3}')
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "colour" in json.loads(failed.stdout.splitlines()[-1])["message"]
