"""Weights files of PyTorch: what is read, what is refused and how, and that nothing of them ever runs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from deep_raster.engine.errors import ModelError  # noqa: E402
from deep_raster.engine.models import weights  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def state():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()


def assert_equal(found, wanted):
    assert list(found) == list(wanted) or set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", ["bare", "model", "state_dict", "module."])
def test_state_dictionaries_in_their_usual_wrappings(tmp_path, state, zipped, wrap):
    content = {
        "bare": state,
        "model": {"model": state, "opt": {"lr": np.float64(0.1), "steps": np.int64(3)}},
        "state_dict": {"epoch": 3, "state_dict": state},
        "module.": {f"module.{name}": tensor for name, tensor in state.items()},
    }[wrap]
    path = tmp_path / "weights.h5"  # the published FastaiSSD weights carry this suffix
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_equal(weights.load_weights(path, cache=tmp_path / "cache"), state)


def test_the_second_time_the_safe_copy_is_read(tmp_path, state, monkeypatch):
    path, cache = tmp_path / "weights.pth", tmp_path / "cache"
    torch.save(state, path)
    weights.load_weights(path, cache=cache)
    (kept,) = cache.iterdir()
    assert kept.suffix == ".safetensors"
    monkeypatch.setattr(torch, "load", None)
    assert_equal(weights.load_weights(path, cache=cache), state)


def test_a_damaged_safe_copy_is_made_anew(tmp_path, state):
    path, cache = tmp_path / "weights.pth", tmp_path / "cache"
    torch.save(state, path)
    weights.load_weights(path, cache=cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert_equal(weights.load_weights(path, cache=cache), state)
    assert kept.stat().st_size > 100


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, state):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    (tmp_path / "file").write_text("in the way")
    assert_equal(weights.load_weights(path, cache=tmp_path / "file"), state)


def test_two_workers_at_once_leave_one_whole_copy(tmp_path, state):
    path, cache, found = tmp_path / "weights.pth", tmp_path / "cache", []
    torch.save(state, path)
    threads = [threading.Thread(target=lambda: found.append(weights.load_weights(path, cache=cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert [one.suffix for one in cache.iterdir()] == [".safetensors"]


def test_safetensors_are_read_directly(tmp_path, state):
    save_file(dict(state), tmp_path / "weights.pth")
    assert_equal(weights.load_weights(tmp_path / "weights.pth", cache=tmp_path / "cache"), state)
    assert not (tmp_path / "cache").exists()


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("variable", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_code_is_named_and_never_run(tmp_path, state, zipped, variable, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, "1")
    mark, path = tmp_path / "mark", tmp_path / "weights.pth"
    torch.save({**state, "x": Hostile(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"asks for (_?io\.)?open, which builds something else") as caught:
        weights.load_weights(path, cache=tmp_path / "cache")
    assert not mark.exists()
    assert not (tmp_path / "cache").exists()
    assert "state_dict()" in caught.value.hint
    assert caught.value.file == str(path)


def script(path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))


REFUSED = {
    "whole network": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "asks for torch.nn.modules.linear.Linear"),
    "torchscript": (script, "TorchScript program"),
    "keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 100), "HDF5 file"),
    "plain pickle": (lambda path: path.write_bytes(b"\x80\x04}\x94."), "that torch.save did not write"),
    "page": (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "HTML"),
    "lfs": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_bytes(b"weights, truly" * 10), "no kind that PyTorch writes"),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), "holds no state dictionary"),
    "nested": (lambda path: torch.save({"a": {"b": torch.zeros(1)}}, path), "holds no state dictionary"),
    "bomb": (lambda path: torch.save({"a": torch.zeros(1).expand(10**9)}, path), "larger than the file itself"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_by_what_they_are(tmp_path, kind):
    write, sentence = REFUSED[kind]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(ModelError) as caught:
        weights.load_weights(path, cache=tmp_path / "cache")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_files_that_are_cut_off_say_so(tmp_path, state, zipped, share):
    whole, path = tmp_path / "whole.pth", tmp_path / "weights.pth"
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="cut off or damaged"):
        weights.load_weights(path, cache=tmp_path / "cache")


def test_compressed_archives_are_refused(tmp_path, state):
    import zipfile

    torch.save(state, tmp_path / "whole.pth")
    packed = zipfile.ZipFile(tmp_path / "weights.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "whole.pth") as old, packed as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ModelError, match="compressed archive"):
        weights.load_weights(tmp_path / "weights.pth", cache=tmp_path / "cache")


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        weights.load_weights(tmp_path / "none.pth", cache=tmp_path / "cache")
