"""How much memory this machine gives, and how much a process holds. Standard library alone.

Only Linux tells all without help; elsewhere 0 stands for "unknown", and nothing is decided on it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import List, Tuple

# A worker that holds more than this share of its part of the memory is replaced between two tasks.
RECYCLE_AT = 0.8
_GROUPS = Path("/sys/fs/cgroup")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
_VERSION_2 = ("memory.max", "memory.current")


def total_memory() -> int:
    """Return the bytes of memory that this machine or container has; 0 if it does not tell."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    for limit, _ in _limits_and_use():
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int(limit.read_text(encoding="ascii")))
    return max(0, found)


def available_memory() -> int:
    """Return the bytes that new work may use without pushing out anything else; 0 if the system does not tell."""
    found = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        told = Path("/proc/meminfo").read_text(encoding="ascii").split("MemAvailable:")[1]
        found = int(told.split()[0]) * 1024
    if sys.platform == "win32":
        return _available_on_windows()
    for limit, used in _limits_and_use():
        with contextlib.suppress(OSError, ValueError):
            left = int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii"))
            found = min(found, max(0, left))
    return found


def _limits_and_use() -> List[Tuple[Path, Path]]:
    """Return the files that may hold limit and use of the control groups around this process, of both versions."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds not in ("", "memory"):
                continue
            root, names = (_GROUPS / "memory", _VERSION_1) if kinds else (_GROUPS, _VERSION_2)
            group = root / path.lstrip("/")
            # Inside a container the path may be the machine's, which is not to be seen there; then the root is ours.
            inside = [one for one in (group, *group.parents) if one == root or root in one.parents]
            found += [(one / names[0], one / names[1]) for one in inside]
    return found


def _available_on_windows() -> int:
    import ctypes

    # MEMORYSTATUSEX: length and load as 32-bit numbers, then seven 64-bit ones; the second is the free memory.
    status = (ctypes.c_uint64 * 8)()
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    answered = ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status[2]) if answered else 0


def resident_memory(pid: int) -> int:
    """Return the bytes that a process holds in memory; 0 if the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def release_memory() -> None:
    """Give back to the system what this process has freed and still holds, where the C library can (glibc)."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):  # Windows has no "this program" to look in
        ctypes.CDLL(None).malloc_trim(0)
