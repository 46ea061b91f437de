"""Run a module (``venv``, ``pip``) that ends when the process that started it ends, killed or not.

``python -I -u guarded.py MODULE [ARGUMENT ...]`` with a pipe as its input: the other end closes when its holder dies.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_parent() -> None:
    while os.read(0, 4096):
        continue
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(3)


if __name__ == "__main__":
    # The folder of this file is no place to import from.
    sys.path[:] = [one for one in sys.path if os.path.abspath(one or ".") != os.path.dirname(os.path.abspath(__file__))]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
