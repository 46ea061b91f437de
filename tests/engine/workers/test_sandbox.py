"""What a confined process can still do, tried from inside one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from deep_raster.engine.workers import sandbox

TESTS = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not sandbox.available().files, reason="this kernel offers no Landlock")

PROBES = """
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return error.__class__.__name__

def tcp():
    with socket.create_connection(("127.0.0.1", PORT), timeout=2):
        pass

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", 9))

def trace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0, 0, 0, 0) != 0:
        raise PermissionError(ctypes.get_errno(), "ptrace")

print(json.dumps({
    "read_home": attempt(lambda: open(HOME + "/secret").read()),
    "list_home": attempt(lambda: os.listdir(HOME)),
    "read_passwd": attempt(lambda: open("/etc/passwd").read()),
    "write_outside": attempt(lambda: open(HOME + "/new", "w").write("x")),
    "read_input": attempt(lambda: open(INPUT + "/a.tif").read()),
    "write_input": attempt(lambda: open(INPUT + "/a.tif", "w").write("x")),
    "write_scratch": attempt(lambda: open(SCRATCH + "/b", "w").write("x")),
    "rename_scratch": attempt(lambda: os.rename(SCRATCH + "/b", SCRATCH + "/c")),
    "link_out": attempt(lambda: os.symlink(HOME + "/secret", SCRATCH + "/link") or open(SCRATCH + "/link").read()),
    "tcp": attempt(tcp), "udp": attempt(udp), "trace": attempt(trace),
    "signal_parent": attempt(lambda: os.kill(os.getppid(), 0)),
    "import": attempt(lambda: __import__("numpy").ones(3).sum()),
}))
"""


@pytest.fixture
def listener():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def probe(tmp_path, listener, confined, ports=()):
    home, inputs, scratch = tmp_path / "home", tmp_path / "input", tmp_path / "scratch"
    for folder in (home, inputs, scratch):
        folder.mkdir()
    (home / "secret").write_text("s")
    (inputs / "a.tif").write_text("pixels")
    script = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import conftest, ctypes, json, os, socket\n"
    script += f"HOME, INPUT, SCRATCH, PORT = {str(home)!r}, {str(inputs)!r}, {str(scratch)!r}, {listener}\n"
    if confined:
        script += "from deep_raster.engine.workers import sandbox\n"
        script += f"sandbox.confine([INPUT], [SCRATCH], {tuple(ports)!r})\n"
    script += textwrap.dedent(PROBES)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_confinement_everything_is_possible(tmp_path, listener):
    """The probes themselves work: a refusal below is the sandbox's doing."""
    found = probe(tmp_path, listener, confined=False)
    assert set(found.values()) == {"done"}


def test_a_confined_process_reaches_its_inputs_and_scratch_alone(tmp_path, listener):
    found = probe(tmp_path, listener, confined=True)
    allowed = {"read_input", "write_scratch", "rename_scratch", "import"}
    refused = {name: answer for name, answer in found.items() if name not in allowed}
    if sandbox._landlock_abi() < 6:
        refused.pop("signal_parent")
    assert {name: found[name] for name in allowed} == dict.fromkeys(allowed, "done")
    assert set(refused.values()) == {"PermissionError"}, refused


def test_an_allowed_port_can_be_connected_to_and_no_other(tmp_path, listener):
    if sandbox._landlock_abi() < 4:
        pytest.skip("this kernel cannot limit TCP ports")
    assert probe(tmp_path, listener, confined=True, ports=[listener])["tcp"] == "done"
    (tmp_path / "two").mkdir()
    assert probe(tmp_path / "two", listener, confined=True, ports=[1])["tcp"] == "PermissionError"


def test_torch_computes_inside(tmp_path):
    pytest.importorskip("torch")
    script = f"""
        import sys; sys.path.insert(0, {str(TESTS)!r}); import conftest
        from deep_raster.engine.workers import sandbox
        said = sandbox.confine([], [{str(tmp_path)!r}])
        import torch
        net = torch.nn.Conv2d(3, 8, 3)
        torch.save(net.state_dict(), {str(tmp_path / "w.pth")!r})
        print(tuple(net(torch.ones(1, 3, 9, 9)).shape), said.sentence)
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.startswith("(1, 8, 7, 7) Confined by Landlock"), done.stderr
