"""Who runs, who has ended, and waiting for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path


def wait_until(condition, seconds: float, step: float = 0.02) -> bool:
    """Wait until ``condition()`` is true; return whether it became so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return bool(condition())
        time.sleep(step)
    return True


def state_of(pid: int) -> str:
    """Return the state letter of a process, "Z" for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def is_gone(pid: int) -> bool:
    return state_of(pid) == "Z"


def processes_with(*texts: str) -> dict[int, str]:
    """Return pid -> command line of the other living processes whose command line or environment holds all texts."""
    found = {}
    for one in Path("/proc").iterdir():
        if not one.name.isdigit() or int(one.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (one / "cmdline").read_bytes()
            known = command + (one / "environ").read_bytes()
            if all(text.encode() in known for text in texts) and not is_gone(int(one.name)):
                found[int(one.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def family(pid: int) -> dict[int, str]:
    """Return pid -> command line of all living descendants of a process."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [(int(one), int(its), command) for one, its, command in (row.split(None, 2) for row in listing.splitlines())]
    found, queue = {}, [pid]
    while queue:
        parent = queue.pop()
        for one, its, command in rows:
            if its == parent:
                queue.append(one)
                found[one] = command
    return {one: command for one, command in found.items() if not is_gone(one)}
