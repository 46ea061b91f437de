"""TorchScript files: our adapter against the eager module; what is refused without consent, or always."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
import torchvision
from deep_raster.engine.errors import DefinitionError, ModelError, TrustError
from deep_raster.engine.models import torchscript
from torch import nn

from . import network_files as files

pytestmark = pytest.mark.torch

MEMBERS = {
    **files.SAVED_BY_TORCH, "Framework": "TorchScript", "ModelFile": "net.pt", "ImageHeight": 32, "ImageWidth": 48,
    "Classes": files.classes(4, 0),
}  # fmt: skip


def segmentation():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)).eval()


def load(folder, arguments=None, allowed=True, **changes):
    package = dataclasses.replace(files.package(folder, MEMBERS, **changes), code_allowed=allowed)
    return torchscript.load(package, "cpu", 1, arguments or {})


def test_segmentation_of_any_size(tmp_path):
    net = segmentation()
    torch.jit.script(net).save(tmp_path / "net.pt")
    model = load(tmp_path)
    batch = files.pixels((2, 3, 40, 56))
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    files.same_scores(model, batch, wanted)
    with pytest.raises(ModelError, match="4 channels, but the definition lists 2 classes"):
        load(tmp_path, Classes=files.classes(2, 0))


def test_outputs_by_key(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = segmentation()

        def forward(self, x):
            out = self.net(x)
            return {"aux": out * 0, "out": out}

    net = Net().eval()
    torch.jit.trace(net, torch.rand(1, 3, 32, 48), strict=False).save(tmp_path / "net.pt")
    output = {"Kind": "PixelScores", "Activation": "softmax", "Tensors": {"Main": "out"}}
    model = load(tmp_path, ModelConfiguration={"Name": "Network", "Output": output})
    batch = files.pixels((1, 3, 32, 48))
    with torch.no_grad():
        wanted = net.net(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(model.scores(batch, files.everywhere(batch)), wanted, atol=1e-4)


def test_scripted_torchvision_detector(tmp_path):
    torch.manual_seed(4)
    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, score_thresh=0.01
    ).eval()
    torch.jit.script(net).save(tmp_path / "net.pt")
    members = {
        "ModelType": "ObjectDetection",
        "Classes": files.classes(2),
        "ModelConfiguration": {
            "Name": "Network",
            "Input": {"Batched": False},
            "Output": {
                "Kind": "Boxes",
                "FirstLabel": 1,
                "Tensors": {"Boxes": "boxes", "Scores": "scores", "Labels": "labels"},
            },
        },
    }
    batch = files.pixels((2, 3, 32, 48))
    with torch.no_grad():
        wanted = net(list(files.scaled(batch)))
    threshold = float(wanted[0]["scores"].median()) - 1e-3
    told = {**members, "ModelConfiguration": {"Name": "Network"}}
    assert load(tmp_path, **told)._feeder.roles == load(tmp_path, **members)._feeder.roles
    model = load(tmp_path, {"threshold": str(threshold)}, **members)
    total = 0
    for found, expected in zip(model.detect(batch, files.everywhere(batch)), wanted):
        keep = expected["scores"] > threshold
        np.testing.assert_allclose(found.scores, expected["scores"][keep], atol=1e-4)
        np.testing.assert_allclose(found.boxes, expected["boxes"][keep], atol=0.01)
        np.testing.assert_array_equal(found.labels, expected["labels"][keep] - 1)
        total += len(found.boxes)
    assert total > 10


def test_consent_is_needed_before_the_file_is_loaded(tmp_path, monkeypatch):
    torch.jit.script(segmentation()).save(tmp_path / "net.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("loaded without consent"))
    with pytest.raises(TrustError, match="sha256:"):
        load(tmp_path, allowed=False)


def test_files_of_torch_export_are_sent_to_their_own_framework(tmp_path):
    program = torch.export.export(segmentation(), (torch.rand(1, 3, 32, 48),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"torch\.export") as caught:
        load(tmp_path, ModelFile="net.pt2")
    assert "TorchExport" in caught.value.hint


class Last(nn.Module):
    """Class scores, and what networks put at their end."""

    def __init__(self, last: str):
        super().__init__()
        self.net, self.last = segmentation(), last

    def forward(self, x):
        out = self.net(x)
        if self.last == "softmax":
            out = nn.functional.softmax(out, dim=1)
        elif self.last == "sigmoid":
            out = out[:, :1].sigmoid()
        elif self.last == "argmax":
            out = out.argmax(1)
        return out


@pytest.mark.parametrize("last", ["raw", "softmax", "sigmoid", "argmax", "scripted softmax"])
def test_what_the_definition_leaves_out_is_told_by_the_network(tmp_path, last):
    net = Last(last).eval()
    if last == "scripted softmax":
        net = nn.Sequential(net, nn.Softmax(1))
        torch.jit.script(net).save(tmp_path / "net.pt")
    else:
        torch.jit.trace(net, torch.rand(1, 3, 32, 48)).save(tmp_path / "net.pt")
    classes = files.classes(1, 5) if last == "sigmoid" else files.classes(4, 0)
    model = load(tmp_path, ModelConfiguration={"Name": "Network"}, Classes=classes)
    batch = files.pixels((2, 3, 32, 48))
    with torch.no_grad():
        answer = net(files.scaled(batch))
    found = model.scores(batch, files.everywhere(batch))
    if last == "argmax":
        assert (found.argmax(1) == answer.numpy()).all()
        return
    if last == "sigmoid":
        answer = torch.cat([1 - answer, answer], 1)
    wanted = answer.softmax(1) if last == "raw" else answer
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_broken_files_and_missing_roles(tmp_path):
    torch.jit.script(nn.Sequential(segmentation(), nn.Flatten(0))).save(tmp_path / "net.pt")
    with pytest.raises(DefinitionError, match=r"Output\.Kind is missing"):
        load(tmp_path, ModelConfiguration={"Name": "Network"})
    torch.jit.script(segmentation()).save(tmp_path / "net.pt")
    data = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged, truncated"):
        load(tmp_path)
    torch.save(segmentation().state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="holds no TorchScript"):
        load(tmp_path)
    torch.jit.script(segmentation()).save(tmp_path / "net.pt")
    with pytest.raises(ModelError, match="failed on an image"):
        load(tmp_path, ExtractBands=[0, 1, 2, 3])
