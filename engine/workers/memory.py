"""How much memory this machine gives, and how much a process holds. Standard library alone.

Only Linux tells both without help; elsewhere 0 stands for "unknown", and nothing is decided on it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# A worker that holds more than this share of its part of the memory is replaced between two tasks.
RECYCLE_AT = 0.8
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total_memory() -> int:
    """Return the bytes of memory that this machine or container has; 0 if it does not tell."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int(Path(name).read_text(encoding="ascii")))
    return max(0, found)


def resident_memory(pid: int) -> int:
    """Return the bytes that a process holds in memory; 0 if the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0
