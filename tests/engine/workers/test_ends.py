"""Ending processes: never somebody else's, never for long, and what they leave is told from what is in use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deep_raster.engine import client, jobs, scratch
from deep_raster.engine.environment import Environment
from deep_raster.engine.errors import EnvironmentFault, JobCancelled

ROOT = Path(__file__).resolve().parents[3]
JOB = jobs.PackageInfo("/nowhere.dlpk")

# Runs in a process namespace of its own, where numbers are given out again after a few hundred processes.
REUSE = """
import os, queue, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1] + "/tests")
import conftest
from deep_raster.engine.workers.devices import Slot
from deep_raster.engine.workers.process import WorkerProcess

leave = "sleep 30 </dev/null >/dev/null 2>&1 & echo $!; exit" if sys.argv[2] == "leaves a child" else "exit"
for _ in range(330):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
open("/proc/sys/kernel/pid_max", "w").write("400")
worker = WorkerProcess(Slot("cpu"), ["sh", "-c", leave], queue.Queue())
while not worker.ended(5):
    pass
time.sleep(0.1)
if sys.argv[2] == "leaves a child":
    members = [int(one) for one in os.listdir("/proc") if one.isdigit() and os.getpgid(int(one)) == worker.pid]
    worker.kill()
    time.sleep(0.1)
    states = [open(f"/proc/{one}/stat").read().split()[2] for one in members if os.path.exists(f"/proc/{one}")]
    print(len(members), set(states) <= {"Z"})
    sys.exit()
for _ in range(400):
    other = subprocess.Popen(["sleep", "30"], start_new_session=True)
    if other.pid == worker.pid:
        break
    other.kill()
    other.wait()
else:
    sys.exit("the number did not come again")
worker.kill()
time.sleep(0.1)
print(other.poll() is None)
other.kill()
"""


@pytest.mark.parametrize("left", ["leaves nothing", "leaves a child"])
def test_a_number_that_was_given_out_again_is_not_killed(left):
    """Fault plan C6: with its worker gone, a process id belongs to whoever has it next, but a group to its members."""
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*alone, "sh", "-c", "echo 400 > /proc/sys/kernel/pid_max"], capture_output=True).returncode:
        pytest.skip("needs the right to make process namespaces, and a kernel that bounds their numbers")
    done = subprocess.run(
        [*alone, sys.executable, "-B", "-c", REUSE, str(ROOT), left], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == ("True" if left == "leaves nothing" else "1 True"), done.stderr


def fake(folder, script):
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return Environment(python=str(path), root="", frameworks=(), versions={})


GREETING = f'{{"event": "hello", "protocol": {client.PROTOCOL}, "version": "1", "python": "3", "pid": 1}}'


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 30",  # does not even greet
        f"echo '{GREETING}'; exec sleep 30",  # is stuck in its job, and does not see that its input closes
        f"trap '' TERM; kill -STOP $$; echo '{GREETING}'",
    ],
)
def test_an_engine_that_does_not_answer_is_ended_soon(tmp_path, script):
    """Fault plan C1: whatever the engine does, a cancel is answered within two seconds and half."""
    environment, began = fake(tmp_path, script), time.monotonic()
    with pytest.raises(JobCancelled):
        client.run_job(
            JOB, on_event=lambda event: None, is_cancelled=lambda: time.monotonic() > began + 0.3,
            environment=environment,
        )  # fmt: skip
    assert time.monotonic() - began < 0.3 + 2.2
    listing = subprocess.run(["ps", "-eo", "ppid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    mine = [line for line in listing.splitlines() if int(line.split()[0]) == os.getpid() and "Z" not in line.split()[1]]
    assert not any("sleep 30" in line or str(tmp_path) in line for line in mine), mine


def test_a_caller_that_fails_while_the_engine_starts_leaves_none_behind(tmp_path):
    def is_cancelled():
        raise KeyError("the caller's own mistake")

    environment = fake(tmp_path, f'echo $$ > "{tmp_path}/pid"; exec sleep 30')
    with pytest.raises(KeyError):
        client.run_job(JOB, on_event=lambda event: None, is_cancelled=is_cancelled, environment=environment)
    pid = tmp_path / "pid"
    assert not pid.exists() or not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_an_engine_that_ends_at_once_is_told(tmp_path):
    with pytest.raises(EnvironmentFault, match="broken venv"):
        client.run_job(
            JOB, on_event=lambda event: None, is_cancelled=lambda: False,
            environment=fake(tmp_path, "echo broken venv >&2; exit 1"),
        )  # fmt: skip


def test_only_the_folders_of_ended_engines_are_swept(tmp_path, monkeypatch):
    """C6: by the lock, whatever process has the number in the name by now, and on whatever machine it ran."""
    monkeypatch.setenv("DEEP_RASTER_SCRATCH", str(tmp_path))
    mine = scratch.new_scratch()
    elsewhere = mine.rename(tmp_path / "deep_raster_job_999999999_other")  # the number of a process that is not here
    reused = tmp_path / f"deep_raster_job_{os.getpid()}_old"  # the number has come again since its engine was killed
    reused.mkdir()
    (reused / "lock").touch()
    young, old = tmp_path / f"deep_raster_job_{os.getpid()}_young", tmp_path / "deep_raster_job_999999998_old"
    young.mkdir()  # so it looks for a moment, before the lock is there
    old.mkdir()
    code = "import sys; sys.path.insert(0, sys.argv[1]); import conftest; from deep_raster.engine import scratch; "
    subprocess.run([sys.executable, "-B", "-c", code + "scratch.sweep()", str(ROOT / "tests")], check=True)
    assert elsewhere.exists() and young.exists()
    assert not reused.exists() and not old.exists()
    scratch.remove_scratch(mine)


def test_nothing_that_waits_looks_at_the_clock_on_the_wall():
    """Fault plan W12: a clock that is set must expire no lease and no time-out; dates of files alone are wall time."""
    allowed = {"engine/package/consents.py", "engine/package/store.py"}
    wall = re.compile(r"\btime\.(time|time_ns)\(|from time import|datetime\.(now|today|utcnow)\(")
    files = [one for wing in ("engine", "processing_provider", "plugin") for one in (ROOT / wing).rglob("*.py")]
    found = {one.relative_to(ROOT).as_posix() for one in files if wall.search(one.read_text(encoding="utf-8"))}
    assert found <= allowed and len(files) > 100
