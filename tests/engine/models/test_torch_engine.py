"""Georeferenced rasters through the real engine process, against the networks called directly on the same pixels."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pyogrio")
pytest.importorskip("rasterio")
pytest.importorskip("segmentation_models_pytorch")
from deep_raster.engine import jobs  # noqa: E402
from deep_raster.engine.errors import ModelError  # noqa: E402
from deep_raster.engine.models import networks  # noqa: E402

from . import engine_support as engine  # noqa: E402
from . import torch_support as support  # noqa: E402

pytestmark = pytest.mark.torch


def test_class_map_of_a_network_trained_here(tmp_path):
    configuration = {"Name": "DeepRaster", "Task": "segmentation", "Architecture": "unet", "Backbone": "resnet18"}
    configuration |= {"Depth": 3, "DecoderChannels": [16, 8, 8]}
    torch.manual_seed(0)
    network = networks.build(configuration, 3, 3, (64, 64)).eval()
    members = {
        "Framework": "PyTorch",
        "ModelConfiguration": configuration,
        "ModelType": "ImageClassification",
        "ModelFile": "model.pth",
        "ImageWidth": 64,
        "ImageHeight": 64,
        "ExtractBands": [2, 0, 1],
        "Classes": [{"Value": value, "Name": f"class {value}", "Color": [value, 0, 0]} for value in (2, 5, 9)],
        "Normalization": {"Method": "mean_std", "Mean": [900, 1000, 1100], "Std": [400, 500, 600]},
        "SupportsVariableTileSize": True,
    }
    opened = support.package(tmp_path / "package", members, network.state_dict())
    pixels = support.pixels((1, 3, 152, 200), high=3000)
    source, output = engine.write_raster(tmp_path / "in.tif", pixels[0]), tmp_path / "classes.tif"
    engine.run(jobs.ClassifyPixels((source,), str(opened.path), str(output), engine.options()))
    chosen = pixels[:, [2, 0, 1]]
    images = (chosen - np.reshape([900, 1000, 1100], (1, 3, 1, 1))) / np.reshape([400, 500, 600], (1, 3, 1, 1))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(images).float())[0].argmax(dim=0).numpy()
    found = engine.read_classes(output)
    assert (found == np.array([2, 5, 9])[wanted]).mean() >= 0.9999
    assert len(np.unique(found)) > 1


def test_class_map_of_an_arcgis_unet(tmp_path):
    state = support.seeded_state("unet_4band_mobilenetv3")
    definition = {
        **support.members("unet_4band_mobilenetv3"),
        "Classes": [{"Value": 3, "Name": "a"}, {"Value": 7, "Name": "b"}],
    }
    opened = support.package(tmp_path / "package", definition, state)
    pixels = support.pixels((1, 4, 160, 224), high=240)
    source, output = engine.write_raster(tmp_path / "in.tif", pixels[0]), tmp_path / "classes.tif"
    engine.run(jobs.ClassifyPixels((source,), str(opened.path), str(output), engine.options()))
    # The network itself is compared with fastai's formulas elsewhere; here it sees the whole raster at once.
    network = support.loaded(opened).runner.network
    with torch.inference_mode():
        logits = network(support.arcgis_stats(pixels, definition))[0]
    wanted = np.array([3, 7])[logits[1:].argmax(dim=0).numpy()]  # no class 0 among several: background never wins
    assert (engine.read_classes(output) == wanted).mean() >= 0.9999
    assert len(np.unique(wanted)) == 2


def test_objects_of_an_arcgis_detector(tmp_path):
    from deep_raster.engine.models.arcgis_detection import build_ssd
    from deep_raster.engine.package.emd import build_definition

    definition, state = support.members("ssd_resnet18"), support.seeded_state("ssd_resnet18")
    opened = support.package(tmp_path / "package", definition, state)
    pixels = support.pixels((1, 3, 128, 128))
    output = tmp_path / "objects.gpkg"
    source = engine.write_raster(tmp_path / "in.tif", pixels[0])
    asked = engine.options(threshold=0.55, nms_overlap=0.2, padding=0)
    engine.run(jobs.DetectObjects((source,), str(opened.path), str(output), asked, run_nms=False))
    network = build_ssd(build_definition(definition), 3)
    network.load_state_dict(state, strict=True)
    with torch.inference_mode():
        (wanted,) = network.eval().find(support.imagenet(pixels), 0.55, 0.2)
    boxes, scores, labels = (wanted[one].numpy() for one in ("boxes", "scores", "labels"))
    engine.same_objects(output, boxes, 100 * scores, labels, size=(128, 128), names=("Pool", "Roof"))


def test_weights_that_ask_for_code_stop_the_job_and_leave_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    definition = support.members("ssd_resnet18")
    opened = support.package(tmp_path / "package", definition, {"x": Hostile()})
    output = tmp_path / "objects.gpkg"
    source = engine.write_raster(tmp_path / "in.tif", support.pixels((1, 3, 128, 128))[0])
    with pytest.raises(ModelError, match="open, which builds something else than tensors"):
        engine.run(jobs.DetectObjects((source,), str(opened.path), str(output), engine.options()))
    assert not output.exists()
    assert not (tmp_path / "mark").exists()
