"""Importing torchvision and timm leaves PyTorch's compiler out, and takes nothing away from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
LAUNCH = Path(__file__).parents[3] / "engine" / "launch.py"
SCRIPT = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("launch", {str(LAUNCH)!r})
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.register()
import deep_raster.engine.models
assert "torch" not in sys.modules
"""


def run(script):
    done = subprocess.run([sys.executable, "-c", SCRIPT + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_compiler_stays_out_and_can_come_later():
    script = """
import timm, torchvision
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor", "sympy"))]
import torch
boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
print(torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist())
print(torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), [boxes[:1]], 2).shape)
import torch._dynamo
assert torch._dynamo.__file__ and torch._dynamo.utils.is_compile_supported is not None
assert torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu") in (True, False)
print(torch.compile(torch.nn.Linear(2, 2), backend="eager")(torch.ones(1, 2)).shape)
"""
    assert "".join(run(script)) == "[0,2]torch.Size([1,1,2,2])torch.Size([1,2])"


def test_what_the_stand_in_lacks_comes_from_the_real_compiler():
    script = """
import torch
from deep_raster.engine.models.lean_imports import without_compiler
with without_compiler():
    from torch._dynamo import is_compiling
    print(is_compiling.__module__)
import torch._dynamo
assert torch._dynamo.__file__
"""
    (module,) = run(script)
    assert module.startswith("torch.")
