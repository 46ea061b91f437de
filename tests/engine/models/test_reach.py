"""Halos from the network itself: tiled equals untiled on every pixel, and what looks everywhere is known as such."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rasterio")
from deep_raster.engine import events, jobs  # noqa: E402
from deep_raster.engine.models.onnx_describe import describe_onnx  # noqa: E402
from deep_raster.engine.models.onnx_reach import onnx_reach  # noqa: E402
from deep_raster.engine.models.receptive import measure_reach  # noqa: E402
from deep_raster.engine.package.dlpk import open_package  # noqa: E402
from torch import nn  # noqa: E402

from . import engine_support as engine  # noqa: E402
from . import network_files as files  # noqa: E402

HEIGHT, WIDTH = 600, 876


def block(entering, leaving):
    return nn.Sequential(nn.Conv2d(entering, leaving, 3, padding=1), nn.BatchNorm2d(leaving), nn.ReLU())


class Unet(nn.Module):
    """Two poolings, skip connections, and one of the usual ways up again."""

    def __init__(self, way="transposed"):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = block(3, 4), block(4, 6), block(6, 6)
        self.pool = nn.MaxPool2d(2)
        up = [nn.ConvTranspose2d(6, 6, 2, 2), nn.ConvTranspose2d(12, 4, 2, 2)]
        if way != "transposed":
            up = [
                nn.Upsample(scale_factor=2, mode=way),
                nn.Sequential(nn.Conv2d(12, 4, 1), nn.Upsample(scale_factor=2)),
            ]
        self.up = nn.ModuleList(up)
        self.last = nn.Conv2d(8, 3, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.normal_(module.running_mean, std=0.2)

    def forward(self, x):
        one = self.first(x)
        two = self.second(self.pool(one))
        low = torch.cat([self.up[0](self.third(self.pool(two))), two], 1)
        return self.last(torch.cat([self.up[1](low), one], 1)) * 3


class Sized(nn.Module):
    """Goes up by the size of what it joins, as many decoders are written."""

    def forward(self, x):
        low = nn.functional.avg_pool2d(x, 4)
        return x + nn.functional.interpolate(low, size=x.shape[2:], mode="bilinear")


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.rand(1, 3, 64, 64))

    def forward(self, x):
        return x + self.table


class Attention(nn.Module):
    def forward(self, x):
        flat = x.flatten(2)
        return (torch.softmax(flat.transpose(1, 2) @ flat, -1) @ flat.transpose(1, 2)).transpose(1, 2).reshape(x.shape)


class Squeeze(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


LOCAL = {
    "unet transposed": (Unet(), 4, 10),
    "unet bilinear": (Unet("bilinear"), 4, 12),
    "unet nearest": (Unet("nearest"), 4, 10),
    "5 x 5": (nn.Conv2d(3, 2, 5, padding=2), 1, 2),
    "dilated": (nn.Sequential(nn.Conv2d(3, 2, 3, padding=4, dilation=4), nn.Softmax(1)), 1, 4),
    "strided and shuffled": (nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.PixelShuffle(2)), 2, 2),
    "by size": (Sized(), 4, 8),
    "pointwise": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sigmoid()), 1, 0),
}
EVERYWHERE = {
    "instance norm": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)),
    "group norm": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4)),
    "squeeze and excitation": Squeeze(),
    "corners": nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
    "attention": Attention(),
}


def graph(tmp_path, net, shape=(1, 3, 64, 64), dynamic=(0, 2, 3)):
    return onnx.load(files.export(net, tmp_path / "net.onnx", shape, dynamic=dynamic))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("dynamic", [(0, 2, 3), ()], ids=["any size", "fixed"])
def test_computed_halo_covers_what_is_measured(tmp_path, name, dynamic):
    net, multiple, needed = LOCAL[name]
    found = onnx_reach(graph(tmp_path, net, dynamic=dynamic), "images", "output")
    assert found.multiple == multiple
    # Never less than the true reach, and at most two cells of the coarsest grid more.
    assert needed <= found.halo <= needed + 2 * multiple
    measured = measure_reach(net.eval(), 3, 96, torch.device("cpu"))
    assert measured.multiple == multiple
    assert measured.halo <= found.halo


@pytest.mark.parametrize("name", EVERYWHERE)
def test_networks_that_look_everywhere_have_no_halo(tmp_path, name):
    net = EVERYWHERE[name].eval()
    assert onnx_reach(graph(tmp_path, net), "images", "output").halo is None
    if name not in ("corners", "attention"):  # a grid that follows the corners is seen, but not everywhere at once
        assert measure_reach(net, 3, 32, torch.device("cpu")).halo is None
    else:
        small = torch.rand(1, 3, 64, 64)
        assert not torch.allclose(
            net(small)[..., 24:40, 24:40], net(small[..., 8:56, 8:56])[..., 16:32, 16:32], atol=1e-5
        )


def test_positions_differ_from_place_to_place(tmp_path):
    assert onnx_reach(graph(tmp_path, Positions(), dynamic=()), "images", "output").halo is None
    small = onnx_reach(graph(tmp_path, nn.Conv2d(3, 2, 4, 4)), "images", "output")
    assert small is None  # a quarter of the size, brought up again by us


def model(folder, kind, net):
    """Definition of the network in a file of the kind; every file takes any size."""
    folder.mkdir()
    if kind == "onnx":
        members = describe_onnx(files.export(net, folder / "net.onnx", (1, 3, 64, 64), dynamic=(0, 2, 3)))
    else:
        members = {
            "ModelConfiguration": {"Name": "Network"},
            "ModelType": "ImageClassification",
            "ExtractBands": [0, 1, 2],
            "Normalization": {"Method": "scale", "Scale": 255, "Fill": 0},
        }
    if kind == "export":
        auto = torch.export.Dim.AUTO
        sizes = ({0: auto, 2: auto, 3: auto},)
        program = torch.export.export(net, (torch.rand(2, 3, 64, 64),), dynamic_shapes=sizes)
        torch.export.save(program, folder / "net.pt2")
        members |= {"Framework": "TorchExport", "ModelFile": "net.pt2"}
    if kind == "script":
        torch.jit.trace(net, torch.rand(1, 3, 64, 64)).save(folder / "net.pt")
        members |= {"Framework": "TorchScript", "ModelFile": "net.pt"}
    members |= {"ImageWidth": 256, "ImageHeight": 256, "Classes": files.classes(3)}
    (folder / "model.emd").write_text(json.dumps(members))
    return folder / "model.emd"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    pixels = files.pixels((3, HEIGHT, WIDTH), seed=9)
    return engine.write_raster(tmp_path_factory.mktemp("scene") / "scene.tif", pixels), pixels


def classify(source, path, output, **arguments):
    """Return the class map and the sentence about its tiles."""
    told = []
    asked = engine.options((open_package(path, cache=output.parent).digest,), **arguments)
    engine.run(jobs.ClassifyPixels((source,), str(path), str(output), asked), told)
    texts = [one.text for one in told if isinstance(one, events.Log)]
    return engine.read_classes(output), next(one for one in texts if "tiles (" in one)


def check_seams(tmp_path, scene, kind):
    source, pixels = scene
    net = Unet().eval()
    found, told = classify(source, model(tmp_path / "model", kind, net), tmp_path / "out.tif")
    assert "exact padding" in told
    assert int(told.split(" pixels in ")[1].split()[0]) > 1
    with torch.no_grad():
        scores = net(files.scaled(pixels[np.newaxis]))[0]
    wanted = scores.argmax(0).numpy() + 1
    best = scores.topk(2, 0).values
    clear = (best[0] - best[1] > 1e-4).numpy()  # where two classes are equal but for rounding, either is right
    assert clear.mean() > 0.999
    assert (found == wanted)[clear].all()
    assert len(np.unique(wanted)) > 1


def test_tiled_is_untiled_on_every_pixel(tmp_path, scene):
    check_seams(tmp_path, scene, "onnx")
