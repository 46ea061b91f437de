"""What a process and everything it starts costs: CPU seconds, memory; and the words to tell it with.

CPU seconds (user and system) are what counts: wall time says more about a machine's other work. Linux only, as it
reads ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Iterable, Iterator

_TICK = os.sysconf("SC_CLK_TCK")
_MEGABYTE = 2**20


class Tree:
    """Watches a process and its descendants from a thread; use as a context manager.

    A process that has ended counts with what was last seen of it, at most ``interval`` seconds before its end.

    Args:
        root: process id.
        interval: seconds between two looks.
        memory: whether memory is looked at as well, which costs the watched processes a little.
    """

    def __init__(self, root: int, interval: float = 0.1, memory: bool = False) -> None:
        self._root, self._interval, self._memory = root, interval, memory
        self._seen: dict[tuple[int, str], float] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mb = 0.0
        self.members: dict[int, float] = {}

    def __enter__(self) -> Tree:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes up to now."""
        self._look()
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()

    def _look(self) -> None:
        with self._lock:
            sizes = {}
            for pid in descendants(self._root):
                with contextlib.suppress(OSError, IndexError, ValueError):
                    fields = _stat(pid)
                    self._seen[(pid, fields[19])] = (int(fields[11]) + int(fields[12])) / _TICK
                    if self._memory:
                        sizes[pid] = pss(pid)
            if sum(sizes.values()) > self.peak_mb:
                self.peak_mb, self.members = sum(sizes.values()), sizes


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the third (state) on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def descendants(root: int) -> list[int]:
    """Return the process ids of a process and all its children, theirs, and so on; empty if it has ended."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, IndexError):
            if _stat(pid)[0] == "Z":
                continue
            found.append(pid)
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    waiting += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def pss(pid: int) -> float:
    """Return the proportional memory of a process in MB: shared pages are divided among those who share them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("Pss:")) * 1024 / _MEGABYTE


@contextlib.contextmanager
def temporary_environment(**members: str) -> Iterator[None]:
    """Set variables of this process, and of those it starts, for a while."""
    before = {name: os.environ.get(name) for name in members}
    os.environ.update(members)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Return the median with the lowest and the highest, as text."""
    values = sorted(values)
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f}–{values[-1]:.{digits}f})"


def machine() -> str:
    """Return this machine, its load and the versions that matter, as one sentence."""
    model = next(
        (
            one.partition(":")[2].strip()
            for one in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in one
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {_versions()}."
    )


def _versions() -> str:
    told = []
    for name in ("onnxruntime", "torch", "rasterio", "numpy", "shapely"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            told.append(f"{name} {metadata.version(name)}")
    return ", ".join(told)


class Table:
    """A markdown table that is printed line by line as figures come in."""

    def __init__(self, title: str, *columns: str) -> None:
        print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)

    def row(self, *cells: object) -> None:
        """Print one line."""
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def progress(text: str) -> None:
    """Tell the person who waits, apart from the tables."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
