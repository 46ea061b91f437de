"""Kinds of weights by content: files written by the real frameworks, and pickles that ask for more than tensors."""

from __future__ import annotations

import collections
import pickle
import zipfile

import numpy as np
import pytest
from deep_raster.engine.package import formats

from .corpus_contents import Bomb


def kind(path):
    return formats.detect(path).kind


@pytest.mark.torch
def test_files_of_pytorch(tmp_path):
    import safetensors.torch
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = network.state_dict()
    torch.save(state, tmp_path / "new.h5")  # the name tells nothing
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.jit.script(network).save(str(tmp_path / "script.pt"))
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    optimiser = torch.optim.Adam(network.parameters())
    extra = {"best": np.float64(0.5), "order": collections.OrderedDict(a=1), "set": {1}}
    torch.save({"model": state, "opt": optimiser.state_dict(), **extra}, tmp_path / "both.pth")
    torch.save(network, tmp_path / "whole.pth")
    kinds = {name: kind(tmp_path / name) for name in ("new.h5", "old.pth", "script.pt", "a.safetensors", "both.pth")}
    assert kinds == {
        "new.h5": "torch",
        "old.pth": "torch-old",
        "script.pt": "torchscript",
        "a.safetensors": "safetensors",
        "both.pth": "torch",
    }
    plain = [formats.unusual_globals(tmp_path / name) for name in ("new.h5", "old.pth", "both.pth", "a.safetensors")]
    assert plain == [(), (), (), ()]
    asked = formats.unusual_globals(tmp_path / "whole.pth")
    assert "torch.nn.modules.container.Sequential" in asked


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_that_ask_for_more(tmp_path, protocol):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": Bomb()}, protocol))
    assert formats.unusual_globals(path) in (("posix.system",), ("nt.system",))


def test_pickles_that_hide_the_name(tmp_path):
    path = tmp_path / "a.pth"
    hidden = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93."  # both words come back from the memo
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", hidden)
    assert formats.unusual_globals(path) == ("posix.system",)


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_damaged_pickles_are_told(tmp_path, cut):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": [1, 2, 3] * 20}, 2)[:-cut])
    assert "a damaged pickle" in formats.unusual_globals(path)


def test_files_of_onnx(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "a.bin")
    assert kind(tmp_path / "a.bin") == "onnx"


def test_files_of_keras_and_hdf5(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.pth", "w") as file:
        file["w"] = np.zeros(3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    assert (kind(tmp_path / "a.pth"), kind(tmp_path / "a.zip")) == ("hdf5", "keras")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"  <!DOCTYPE html>", "HTML"),
        (b"PK\x03\x04broken", "damaged zip"),
        (b"hello world, this is text", "unknown kind"),
        (bytes(300), "unknown kind"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "unknown kind"),
    ],
)
def test_what_is_no_weights(tmp_path, content, words):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    found = formats.detect(path)
    assert (found.kind, words in found.description) == ("unknown", True)


def test_bare_pickle(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Bomb()))
    assert kind(tmp_path / "a.pth") == "pickle"
    assert formats.unusual_globals(tmp_path / "a.pth")
