"""What the nightly tests share: jobs with real processes, a watcher of the output, memory-backed disks, figures.

The oracle of every run (``F0`` of the fault plan) is :meth:`Host.check`: bytes equal to the undisturbed output, never
anything half-written at its path, no process left three seconds after the end, a message without a traceback.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from deep_raster.engine import jobs
from processes import processes_with, state_of, wait_until

HOST = Path(__file__).with_name("nightly_host.py")
SCALE = float(os.environ.get("NIGHTLY_SCALE", "1"))


def scaled(usual: int, least: int = 1) -> int:
    """Return how often a part runs: ``usual`` times at NIGHTLY_SCALE=1."""
    return max(least, round(usual * SCALE))


def digest(path) -> str:
    """Return the SHA-256 of a file, or of all names and files of a folder."""
    path, found = Path(path), hashlib.sha256()
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            found.update((str(one.relative_to(path)) if path.is_dir() else "").encode())
            found.update(one.read_bytes())
    return found.hexdigest()


def memory_of(pid: int, name: str = "VmRSS") -> int:
    """Return a member of /proc/<pid>/status in bytes; 0 if the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


class Watch:
    """Looks at a path each 20 ms and keeps the digest of everything that was ever there."""

    def __init__(self, path) -> None:
        self.path, self.seen, self.looks = Path(path), [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        last = None
        while True:
            with contextlib.suppress(OSError):
                state = os.stat(self.path)
                key = (state.st_ino, state.st_size, state.st_mtime_ns)
                if key != last:
                    self.seen.append(digest(self.path))
                    last = key
            self.looks += 1
            if self._stop.wait(0.02):
                return


@dataclass
class Host:
    """A process that stands for QGIS with one job in it; everything the job starts carries ``mark``.

    Args:
        job: of the engine.
        folder: of this run, for scratch and logs (made).
        scratch: where the job's scratch folder is made; empty for ``folder / "scratch"``.
        python: interpreter of the engine; empty for this one.
        engine: settings for ``nightly_engine.py``, which then runs instead of the product's entry point.
        wrap: command put before the host's, such as ``prlimit``.
        variables: further environment variables.
    """

    job: object
    folder: Path
    scratch: str = ""
    python: str = ""
    wrap: tuple = ()
    engine: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    events: list = field(default_factory=list)
    end: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scratch = self.scratch or str(self.folder / "scratch")
        Path(self.scratch).mkdir(parents=True, exist_ok=True)
        self.mark = f"NIGHTLY_RUN={self.folder}"
        if self.engine:
            self.python = str(self.folder / "python")
            start = HOST.with_name("nightly_engine.py")
            Path(self.python).write_text(f'#!/bin/sh\nexec "{sys.executable}" -B -u "{start}" "$@"\n')
            os.chmod(self.python, 0o700)
            self.variables = {**self.variables, "NIGHTLY_ENGINE": json.dumps(self.engine)}
        asked = self.folder / "job.json"
        asked.write_text(json.dumps({"job": jobs.to_dict(self.job), "python": self.python}), encoding="utf-8")
        environment = {**os.environ, "NIGHTLY_RUN": str(self.folder), "DEEP_RASTER_SCRATCH": self.scratch}
        self.errors = (self.folder / "stderr").open("w+")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*self.wrap, sys.executable, "-B", str(HOST), str(asked)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**environment, **self.variables},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                members = json.loads(line)
                self.events.append(members)
                if "end" in members:
                    self.end = members

    @property
    def texts(self) -> list[str]:
        """The texts of all events so far."""
        return [str(one.get("text", "")) for one in self.events]

    def engines(self) -> list[int]:
        """Return the engine processes of the job."""
        return [pid for pid, command in processes_with(self.mark).items() if " engine --idle" in command]

    def workers(self) -> list[int]:
        """Return the worker processes of the job."""
        return [pid for pid, command in processes_with(self.mark).items() if "launch.py worker" in command]

    def tell_cancel(self) -> None:
        """Cancel as the button does."""
        with contextlib.suppress(OSError):
            self.process.stdin.write("cancel\n")
            self.process.stdin.flush()

    def wait(self, seconds: float = 300.0) -> str:
        """Wait for the end and return how it ended: done, cancelled, failed, or died."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"the job did not end in {seconds:g} s; last it said {self.texts[-3:]}") from None
        self.ended = time.monotonic()
        self._reader.join(5)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.errors.seek(0)
        self.stderr = self.errors.read()
        self.errors.close()
        return str(self.end.get("end", "died"))

    @property
    def seconds(self) -> float:
        """Wall time from start to end."""
        return self.ended - self.started

    @property
    def message(self) -> str:
        """What a person would read at the end."""
        return str(self.end.get("message", ""))

    def left(self, within: float = 3.0) -> dict[int, str]:
        """Return the processes of the job that still live ``within`` seconds after its end."""
        wait_until(lambda: not processes_with(self.mark), self.ended + within - time.monotonic())
        return processes_with(self.mark)

    def kill_all(self) -> None:
        """End everything of this job."""
        self.process.kill()
        self.process.wait()
        for pid in processes_with(self.mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def check(self, expected: str, watch: Watch, old: str = "") -> None:
        """Apply the oracle F0 after :meth:`wait`.

        Args:
            expected: digest of the undisturbed output.
            watch: of the output's path, which has ended.
            old: digest of what lay there before; empty for nothing.
        """
        assert not self.left(), "processes outlive the job"
        assert set(watch.seen) <= {expected, old}, "something half-written was seen at the output"
        assert "Traceback" not in self.stderr, self.stderr
        state = self.end.get("end")
        if state == "done":
            assert digest(watch.path) == expected, "the output differs from the undisturbed one"
        elif old:
            assert digest(watch.path) in (old, expected)
        if state == "failed":
            assert self.message and "Traceback" not in self.message, self.message
        assert self.scratch_is_clean(), list(Path(self.scratch).rglob("*"))[:20]

    def scratch_is_clean(self) -> bool:
        """Whether nothing of this job lies in its scratch folder (a killed engine's is swept up by the next start)."""
        return state_of(self.process.pid) != "Z" or self.end.get("end") is None or not os.listdir(self.scratch)


def work_folder(output) -> Path:
    """Return the folder of an output's unfinished work."""
    return Path(output).with_name(f".{Path(output).name}.deepraster")


def tidy(folder: Path) -> None:
    """Remove a folder of a run."""
    shutil.rmtree(folder, ignore_errors=True)
