"""Fault plan C7: signals to ``qgis_process`` from the terminal or the system, while the real engine works."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from processes import processes_with, wait_until
from qgis_process import QGIS_PROCESS, Qgis


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_signals_to_qgis_process(workshop, scene, model, figure, name):
    if not QGIS_PROCESS:
        pytest.skip("qgis_process is not installed here")
    folder = workshop / "c7" / name
    folder.mkdir(parents=True)
    qgis = Qgis(folder)
    qgis.python = sys.executable
    output = folder / "out" / "o.tif"
    output.parent.mkdir()
    parameters = {"INPUT": scene, "MODEL": model, "WORKERS": 2, "ARGUMENTS": "padding=0", "OUTPUT": output}
    mark = f"DEEP_RASTER_CACHE={qgis.environment['DEEP_RASTER_CACHE']}"
    started = subprocess.Popen(
        qgis.command("deepraster:classifypixels", parameters), env=qgis.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    def at_work():
        return sum("launch.py worker" in command for command in processes_with(mark).values()) >= 2

    assert wait_until(at_work, 90) and started.poll() is None
    time.sleep(1)
    began = time.monotonic()
    started.send_signal(getattr(signal, name))
    # QGIS takes its own time to end; what counts is the engine with its workers.
    assert wait_until(lambda: not any("launch.py" in command for command in processes_with(mark).values()), 10)
    seconds = time.monotonic() - began
    code = started.wait(60)
    gone = wait_until(lambda: not processes_with(mark), 3)
    started.stdout.close()
    figure(f"C7 {name} to qgis_process: exit code, seconds until all gone", f"{code}, {seconds:.1f}", "not 0, 3",
           code != 0 and seconds <= 3)  # fmt: skip
    assert gone and code != 0 and seconds < 5
    assert not output.exists()
