"""The parts of setting up an environment: the child's variables, finding a base interpreter, reading pip's lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from deep_raster.engine.errors import EnvironmentFault
from deep_raster.engine.setup import child, interpreters, pip


class TestChildEnvironment:
    def test_what_breaks_another_python_or_its_gdal_is_gone(self):
        poisoned = {
            "PYTHONHOME": "/q",
            "PYTHONPATH": "/q",
            "PYTHONEXECUTABLE": "/usr/bin/python3",
            "PROJ_LIB": "/q",
            "PROJ_DATA": "/q",
            "GDAL_DATA": "/q",
            "GDAL_DRIVER_PATH": "/q",
            "LD_LIBRARY_PATH": "/q",
            "LD_PRELOAD": "/q/x.so",
            "QT_PLUGIN_PATH": "/q",
            "QT_QPA_PLATFORM": "offscreen",
            "QGIS_PREFIX_PATH": "/usr",
            "VIRTUAL_ENV": "/q",
            "CONDA_PREFIX": "/q",
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
            "GDAL_VRT_ENABLE_PYTHON": "YES",
        }
        kept = {"HOME": "/h", "PATH": "/usr/bin", "HTTPS_PROXY": "p", "PIP_INDEX_URL": "i", "SSL_CERT_FILE": "/c"}
        made = child.engine_environment({**poisoned, **kept})
        assert {name: value for name, value in made.items() if name in kept} == kept
        left = {name for name in poisoned if name in made}
        assert left == {"GDAL_VRT_ENABLE_PYTHON"}
        assert made["GDAL_VRT_ENABLE_PYTHON"] == "NO"
        assert "OMP_NUM_THREADS" not in made

    def test_the_base_stays_untouched_and_threads_are_set(self):
        before = dict(os.environ)
        made = child.engine_environment(threads=3)
        assert dict(os.environ) == before
        assert {made[name] for name in child.THREAD_VARIABLES} == {"3"}

    def test_pip_keeps_where_packages_come_from_and_drops_where_else_to_put_them(self):
        given = {
            "PIP_INDEX_URL": "i",
            "PIP_EXTRA_INDEX_URL": "e",
            "PIP_FIND_LINKS": "f",
            "PIP_CERT": "/c",
            "PIP_USER": "1",
            "PIP_TARGET": "/t",
            "PIP_PREFIX": "/p",
            "HTTPS_PROXY": "p",
        }
        made = child.pip_environment(given)
        assert set(given) - set(made) == {"PIP_USER", "PIP_TARGET", "PIP_PREFIX"}

    def test_certificates_inside_a_bundled_qgis_are_dropped(self, tmp_path):
        given = {
            "APPDIR": str(tmp_path),
            "SSL_CERT_FILE": str(tmp_path / "etc" / "ca.pem"),
            "REQUESTS_CA_BUNDLE": "/etc/company.pem",
            "PATH": os.pathsep.join([str(tmp_path / "bin"), "/usr/bin"]),
        }
        made = child.engine_environment(given)
        assert "SSL_CERT_FILE" not in made
        assert made["REQUESTS_CA_BUNDLE"] == "/etc/company.pem"
        assert made["PATH"] == "/usr/bin"

    def test_the_gpu_driver_stays_on_the_library_path(self, tmp_path):
        (tmp_path / "libcuda.so.1").touch()
        made = child.engine_environment({"LD_LIBRARY_PATH": f"/qgis/lib:{tmp_path}"})
        assert made["LD_LIBRARY_PATH"] == str(tmp_path)


class TestInterpreters:
    def test_the_running_one(self):
        found = interpreters.probe(sys.executable)
        assert found.version == sys.version_info[:3]
        assert found.has_venv

    @pytest.mark.parametrize("name", ["qgis-bin.exe", "QGIS", "python3-qgis", "python2"])
    def test_other_programs_are_not_run(self, tmp_path, name):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        program.chmod(0o755)
        with pytest.raises(EnvironmentFault, match="is not a Python interpreter"):
            interpreters.probe(str(program))
        assert not (tmp_path / "started").exists()

    def test_missing_ensurepip_names_the_package(self, monkeypatch):
        bare = interpreters.Interpreter("/usr/bin/python3.11", (3, 11, 2), "x86_64", False)
        monkeypatch.setattr(interpreters, "_candidates", lambda: iter(["/usr/bin/python3.11"]))
        monkeypatch.setattr(interpreters, "probe", lambda path: bare)
        with pytest.raises(EnvironmentFault, match="sudo apt install python3-venv"):
            interpreters.find_base()

    def test_too_old_ones_are_told(self, monkeypatch):
        old = interpreters.Interpreter("/usr/bin/python3.9", (3, 9, 1), "x86_64", True)
        monkeypatch.setattr(interpreters, "_candidates", lambda: iter(["/usr/bin/python3.9"]))
        monkeypatch.setattr(interpreters, "probe", lambda path: old)
        with pytest.raises(EnvironmentFault, match=r"Python 3\.10 to .* is needed.*python3\.9 is Python 3\.9"):
            interpreters.find_base()

    def test_sys_executable_is_not_asked(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "executable", str(tmp_path / "qgis"))
        assert Path(interpreters.find_base().path).name.startswith("python3")


class TestPip:
    LINES = (
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("urllib3.exceptions.NewConnectionError: Failed to establish a new connection", "cannot be reached"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "cannot be reached"),
        ("ssl.SSLCertVerificationError: certificate verify failed", "certificate of the package server"),
        ("ERROR: No matching distribution found for torch<3,>=2.14", "no ready-made package of torch"),
        ("error: subprocess-exited-with-error", "would have to be compiled"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "cannot be written"),
        ("ERROR: something new", "ERROR: something new"),
    )

    @pytest.mark.parametrize(("line", "told"), LINES)
    def test_what_pip_says_becomes_a_sentence(self, line, told):
        sentence, _hint = pip.diagnose(["Collecting x", line, "[notice] a new release"])
        assert told in sentence

    def test_a_network_failure_is_not_taken_for_a_missing_wheel(self):
        lines = [
            "WARNING: Retrying after connection broken by NewConnectionError('... Network is unreachable')",
            "ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)",
            "ERROR: No matching distribution found for numpy",
        ]
        assert "cannot be reached" in pip.diagnose(lines)[0]

    def test_progress_never_falls_and_names_what_is_done(self, tmp_path):
        told: list[tuple[float, str]] = []
        progress = pip.PipProgress(tmp_path, tmp_path, 2, lambda *one: told.append(one))
        for line in (
            "Collecting numpy>=2 (from -r base.txt (line 2))",
            "  Downloading numpy-2.4.6-cp311-manylinux.whl (16.2 MB)",
            "Processing /somewhere/files/affine-3.0-py3-none-any.whl (from rasterio)",
            "Collecting attrs",
            "Installing collected packages: numpy, affine, attrs",
        ):
            progress.line(line)
        (tmp_path / "numpy-2.4.6.dist-info").mkdir()
        progress.pause()
        fractions = [fraction for fraction, _text in told]
        assert fractions == sorted(fractions)
        assert fractions[-1] == pytest.approx(0.8)
        texts = " ".join(text for _fraction, text in told)
        assert "Looking for affine-3.0-py3-none-any.whl" in texts
        assert "numpy-2.4.6-cp311-manylinux.whl" in texts
        assert "1 of 3" in told[-1][1]
