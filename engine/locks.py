"""Locks that processes hold on files; the system gives them back when their holder ends, however it ends."""

from __future__ import annotations

import os
from typing import IO, Any


def take(file: IO[Any]) -> bool:
    """Take the lock of an open file for as long as it is open; return False if another process has it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)  # it locks bytes from the current place on
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
