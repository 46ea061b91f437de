"""Networks that are trained here, loaded from a package: against the network itself on the same pixels."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("segmentation_models_pytorch")
from deep_raster.engine.errors import DefinitionError, ModelError  # noqa: E402
from deep_raster.engine.models import loader, networks, torch_runtime  # noqa: E402
from deep_raster.engine.models.arguments import Arguments  # noqa: E402
from deep_raster.engine.models.normalisation import Normalisation  # noqa: E402
from deep_raster.engine.models.receptive import measure_reach  # noqa: E402
from deep_raster.engine.models.torch_fold import folded  # noqa: E402
from deep_raster.engine.models.torch_runtime import Runner  # noqa: E402
from deep_raster.engine.package.emd import build_definition  # noqa: E402
from torch import nn  # noqa: E402

from . import torch_support as support  # noqa: E402

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")
UNET = {
    "Task": "segmentation",
    "Architecture": "unet",
    "Backbone": "resnet18",
    "Depth": 3,
    "DecoderChannels": [16, 8, 8],
}


def definition(configuration, model_type, side=64, classes=2, **changes):
    return {
        "Framework": "PyTorch",
        "ModelConfiguration": {"Name": "DeepRaster", **configuration},
        "ModelType": model_type,
        "ModelFile": "model.pth",
        "ImageWidth": side,
        "ImageHeight": side,
        "ExtractBands": [2, 1, 0],
        "Classes": [{"Value": 5 * (one + 1), "Name": f"kind {one}"} for one in range(classes)],
        "Normalization": {"Method": "mean_std", "Mean": support.MEAN, "Std": support.STD},
        "SupportsVariableTileSize": True,
        **changes,
    }


def prepared(tmp_path, members, arguments=None, outputs=None):
    """The loaded model, and the network that TRAINING would have built, with the same seeded weights."""
    read = build_definition(members)
    torch.manual_seed(0)
    size = (read.image_height, read.image_width)
    network = networks.build(read.configuration_members, 3, outputs or len(read.classes), size).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, weight in network.named_parameters():
        if name.endswith("cls_logits.weight"):
            weight.data *= 20  # detectors start where everything is background
    opened = support.package(tmp_path / "package", members, network.state_dict())
    return support.loaded(opened, arguments), network


def test_segmentation(tmp_path):
    model, network = prepared(tmp_path, definition(UNET, "ImageClassification"))
    pixels = support.pixels((2, 3, 64, 96))
    with torch.inference_mode():
        wanted = network(support.normalised(pixels)).softmax(dim=1).numpy()
    found = model.scores(pixels, support.everywhere(pixels))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert found.dtype == np.float32
    assert model.values == (5, 10)
    assert (model.plan.multiple, model.plan.fixed) == (8, False)


def test_regression_gives_values(tmp_path):
    members = definition({**UNET, "Task": "regression"}, "ImageClassification", classes=0, Classes=[])
    model, network = prepared(tmp_path, members, outputs=1)
    pixels = support.pixels((1, 3, 64, 64))
    with torch.inference_mode():
        wanted = network(support.normalised(pixels)).numpy()
    np.testing.assert_allclose(model.scores(pixels, support.everywhere(pixels)), wanted, atol=1e-4)
    assert model.values is None


def test_background_of_value_zero_can_be_left_out(tmp_path):
    classes = [{"Value": 0, "Name": "nothing"}, {"Value": 3, "Name": "tree"}, {"Value": 4, "Name": "road"}]
    members = definition(UNET, "ImageClassification", Classes=classes)
    pixels = support.pixels((1, 3, 64, 64))
    model, _ = prepared(tmp_path, members, {"predict_background": "False"})
    assert (model.scores(pixels, support.everywhere(pixels))[:, 0] == 0).all()
    model, _ = prepared(tmp_path, members, {"predict_background": "True"})
    assert (model.scores(pixels, support.everywhere(pixels))[:, 0] > 0).all()


@pytest.mark.parametrize("architecture", ["fcos", "retinanet", "fasterrcnn"])
def test_detection(tmp_path, architecture):
    configuration = {"Task": "detection", "Architecture": architecture, "Backbone": "slim", "Width": 16}
    members = definition(configuration, "ObjectDetection", side=96)
    model, network = prepared(tmp_path, members, {"threshold": "0.02", "nms_overlap": "0.3"})
    stage = getattr(network, "roi_heads", network)
    stage.score_thresh, stage.nms_thresh = 0.02, 0.3
    pixels = support.pixels((2, 3, 96, 96))
    with torch.inference_mode():
        wanted = network(list(support.normalised(pixels)))
    first = 1 if architecture == "fasterrcnn" else 0
    for found, expected in zip(model.detect(pixels, support.everywhere(pixels)), wanted):
        parts = [expected[one].numpy() for one in ("boxes", "scores", "labels")]
        support.assert_same_objects(found, parts[0], parts[1], parts[2] - first)
        assert found.rings is None


def test_instances_have_outlines_inside_their_tile(tmp_path):
    configuration = {"Task": "instance", "Architecture": "maskrcnn", "Backbone": "slim", "Width": 16, "Channels": 16}
    model, network = prepared(tmp_path, definition(configuration, "InstanceDetection"), {"threshold": "0.02"})
    pixels = support.pixels((1, 3, 64, 64))
    network.roi_heads.score_thresh, network.roi_heads.nms_thresh = 0.02, 0.4
    with torch.inference_mode():
        (wanted,) = network(list(support.normalised(pixels)))
    masks = wanted["masks"][:, 0].numpy() >= 0.5
    inked = masks.any(axis=(1, 2))
    (found,) = model.detect(pixels, support.everywhere(pixels))
    assert len(found.rings) == len(found.scores) == inked.sum() > 0
    np.testing.assert_allclose(found.scores, wanted["scores"][inked].numpy(), atol=1e-4)
    measure = pytest.importorskip("skimage.measure")
    features = pytest.importorskip("rasterio.features")
    for ring, mask in zip(found.rings, masks[inked]):
        shape = {"type": "Polygon", "coordinates": [one.tolist() for one in ring]}
        painted = features.rasterize([shape], mask.shape).astype(bool)
        assert not (painted & ~mask).any()
        assert painted.sum() == np.bincount(measure.label(mask, connectivity=1).ravel())[1:].max()


def test_larger_tiles_may_hold_more_objects(tmp_path):
    configuration = {"Task": "detection", "Architecture": "fcos", "Backbone": "slim", "Width": 16, "MaxDetections": 5}
    model, _ = prepared(
        tmp_path, definition(configuration, "ObjectDetection"), {"threshold": "0", "nms_overlap": "0.9"}
    )
    one, four = support.pixels((1, 3, 64, 64)), support.pixels((1, 3, 128, 128))
    assert len(model.detect(one, support.everywhere(one))[0].scores) == 5
    assert len(model.detect(four, support.everywhere(four))[0].scores) == 20


def test_object_classification(tmp_path):
    configuration = {"Task": "classification", "Architecture": "classifier", "Backbone": "resnet10t"}
    members = definition(configuration, "ObjectClassification", CropSizeFixed=0, BlackenAroundFeature=1)
    model, network = prepared(tmp_path, members)
    pixels = support.pixels((3, 3, 64, 64))
    with torch.inference_mode():
        wanted = network(support.normalised(pixels)).softmax(dim=1).numpy()
    np.testing.assert_allclose(model.probabilities(pixels, support.everywhere(pixels)), wanted, atol=1e-4)
    assert (model.blacken, model.fixed_crop) == (True, False)


def test_wrong_class_count_and_missing_bands(tmp_path):
    members = definition(UNET, "ImageClassification")
    prepared(tmp_path, members)
    three = {**members, "Classes": [*members["Classes"], {"Value": 99, "Name": "more"}]}
    state = torch.load(tmp_path / "package" / "model.pth", weights_only=True)
    with pytest.raises(ModelError, match="another number of classes"):
        support.loaded(support.package(tmp_path / "other", three, state))
    bare = {key: value for key, value in members.items() if key not in ("ExtractBands", "Normalization")}
    bare["Normalization"] = {"Method": "scale", "Scale": 255}
    with pytest.raises(DefinitionError, match="which bands"):
        support.loaded(support.package(tmp_path / "third", bare, state))


# --- tiles -----------------------------------------------------------------------------------------------------------


def test_a_measured_halo_makes_tiles_seamless(tmp_path):
    model, _ = prepared(tmp_path, definition(UNET, "ImageClassification", side=256))
    plan = model.plan
    assert plan.exact
    assert plan.halo % plan.multiple == 0
    pixels = support.pixels((1, 3, 448, 448))
    whole = model.scores(pixels, support.everywhere(pixels))
    inner = slice(160, 240)
    cut = slice(160 - plan.halo, 240 + plan.halo)
    tile = np.ascontiguousarray(pixels[:, :, cut, cut])
    found = model.scores(tile, support.everywhere(tile))[:, :, plan.halo : -plan.halo, plan.halo : -plan.halo]
    np.testing.assert_allclose(found, whole[:, :, inner, inner], atol=1e-5)


def test_a_padding_that_somebody_chose_is_kept(tmp_path):
    model, _ = prepared(tmp_path, definition(UNET, "ImageClassification", side=256), {"padding": "8"})
    assert (model.plan.halo, model.plan.exact) == (8, False)


def test_a_tile_size_that_somebody_chose_is_kept(tmp_path):
    model, _ = prepared(tmp_path, definition(UNET, "ImageClassification"), {"tile_size": "128"})
    assert (model.plan.width, model.plan.height, model.plan.fixed) == (128, 128, True)


def convolutions(*sizes):
    return nn.Sequential(*(nn.Conv2d(3, 3, size, padding=size // 2) for size in sizes)).eval()


@pytest.mark.parametrize(("sizes", "halo"), [((3,), 1), ((3, 3, 5), 4), ((9, 9), 8)])
def test_halo_of_plain_convolutions(sizes, halo):
    assert measure_reach(convolutions(*sizes), 3, 16, CPU, (1,)).halo == halo


def test_halo_is_counted_in_strides():
    network = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=4)).eval()
    assert measure_reach(network, 3, 32, CPU, (4,)).halo == 4


class GlobalContext(nn.Module):
    def forward(self, images):
        return images + images.mean(dim=(2, 3), keepdim=True)


class Corners(nn.Module):
    """Resizing by corners moves its grid with the size of the image, however little it looks around."""

    def forward(self, images):
        small = nn.functional.avg_pool2d(images, 4)
        return nn.functional.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=True)


@pytest.mark.parametrize("network", [GlobalContext(), Corners(), convolutions(41, 41)])
def test_no_halo_for_networks_that_look_everywhere_or_too_far(network):
    reach = measure_reach(network, 3, 32, CPU, (4,))
    assert reach is None or reach.halo is None


# --- running ---------------------------------------------------------------------------------------------------------


def out_of_memory_above(limit, calls):
    def predict(images):
        calls.append(len(images))
        if len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [one.sum() for one in images]

    return predict


def test_a_batch_that_does_not_fit_is_halved_and_said_so(caplog):
    runner = Runner(nn.Identity(), Normalisation(), "cpu", 1)
    images = torch.arange(7 * 3.0).reshape(7, 3, 1, 1)
    calls = []
    with caplog.at_level(logging.WARNING):
        found = runner.run(images, out_of_memory_above(2, calls))
    assert [float(one) for one in found] == [float(one.sum()) for one in images]
    assert calls == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert "does not suffice for 7 images at once; going on with 3" in caplog.text
    calls.clear()
    runner.run(images[:4], out_of_memory_above(2, calls))
    assert calls == [1, 1, 1, 1], "what was learnt is kept"


def test_a_single_image_that_does_not_fit_is_an_error():
    runner = Runner(nn.Identity(), Normalisation(), "cpu", 1)
    with pytest.raises(ModelError, match="one image of 8 x 4 pixels") as caught:
        runner.run(torch.zeros(2, 3, 4, 8), out_of_memory_above(0, []))
    assert "tile_size" in caught.value.hint


def test_other_faults_of_a_network_are_told_with_the_image():
    runner = Runner(nn.Conv2d(4, 1, 3), Normalisation(), "cpu", 1)
    with pytest.raises(ModelError, match="8 x 4 pixels with 3 bands"):
        runner.run(torch.zeros(2, 3, 4, 8), runner.network)


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, known):
    assert torch_runtime.is_out_of_memory(error) is known


def test_arguments_are_checked():
    given = Arguments({"a": "0.5", "b": "x", "c": "3", "d": "True", "e": "2.5", "f": ""})
    assert (given.number("a", 1), given.integer("c", 1), given.flag("d", False)) == (0.5, 3, True)
    assert (given.number("f", 7), given.flag("none", True)) == (7, True)
    for name, read in (("b", given.number), ("e", given.integer), ("c", given.flag)):
        with pytest.raises(ValueError, match=f"argument {name} is"):
            read(name, 1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        given.number("c", 0, 0, 1)


# --- finding the adapter ---------------------------------------------------------------------------------------------


WITHOUT = """
import importlib.abc, runpy, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Absent())
runpy.run_path({conftest!r})
from deep_raster.engine.errors import MissingFrameworkError
from deep_raster.engine.models.loader import load_model
from deep_raster.engine.package.dlpk import open_package
try:
    load_model(open_package({path!r}, cache={cache!r}), device="cpu", threads=1, arguments={{}})
except MissingFrameworkError as error:
    print(error)
"""


def test_a_missing_framework_is_named_with_the_command(tmp_path):
    support.package(tmp_path / "package", definition(UNET, "ImageClassification"), {"a": torch.zeros(1)})
    program = WITHOUT.format(
        module="torch",
        conftest=str(Path(__file__).parents[2] / "conftest.py"),
        path=str(tmp_path / "package" / "model.emd"),
        cache=tmp_path / "unpacked",
    ).replace("PosixPath", "__import__('pathlib').Path")
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "The model needs PyTorch, which is not installed" in told.stdout
    assert "qgis_process run deepraster:setupenvironment -- FRAMEWORKS=pytorch" in told.stdout


def test_unknown_frameworks_are_told_what_is_known():
    members = definition(UNET, "ImageClassification", ModelConfiguration={"Name": "Nothing"})
    with pytest.raises(ModelError, match="framework 'PyTorch' with the configuration 'Nothing'") as caught:
        loader.adapter_name(build_definition(members))
    assert "fastaissd" in caught.value.hint
    members["Framework"] = "CNTK"
    with pytest.raises(ModelError, match="withdrawn"):
        loader.adapter_name(build_definition(members))


# --- folding ---------------------------------------------------------------------------------------------------------


class Misleading(nn.Module):
    """Convolution and normalisation stand side by side, but a ReLU is applied between them."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        return self.bn(self.conv(images).relu())


class Skipping(nn.Sequential):
    """A sequence that is not run as one."""

    def forward(self, images):
        return self[1](self[0](images).relu())


def shaken(network):
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.2, 3)
            nn.init.uniform_(module.weight, -2, 2)
    return network.eval()


def normalisations(network):
    return sum(isinstance(one, nn.BatchNorm2d) for one in network.modules())


def test_folding_keeps_the_results():
    import torchvision

    network = shaken(torchvision.models.resnet18(weights=None))
    example = torch.rand(2, 3, 64, 64)
    lighter = folded(network, example)
    assert (normalisations(network), normalisations(lighter)) == (20, 0)
    other = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        np.testing.assert_allclose(lighter(other), network(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [Misleading(), Skipping(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))])
def test_what_only_looks_foldable_is_left_alone(network):
    network = shaken(network)
    assert folded(network, torch.randn(1, 3, 16, 16)) is network
