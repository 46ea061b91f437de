"""Georeferenced rasters through the real engine process, against the networks called directly on the same pixels."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pyogrio = pytest.importorskip("pyogrio")
rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")
pytest.importorskip("segmentation_models_pytorch")
from deep_raster.engine import client, jobs  # noqa: E402
from deep_raster.engine.environment import Environment  # noqa: E402
from deep_raster.engine.errors import ModelError  # noqa: E402
from deep_raster.engine.models import networks  # noqa: E402
from deep_raster.engine.models.arcgis_classifier import build_head  # noqa: E402

_spec = importlib.util.spec_from_file_location("torch_support", Path(__file__).with_name("torch_support.py"))
support = importlib.util.module_from_spec(_spec)
sys.modules["torch_support"] = support
_spec.loader.exec_module(support)

pytestmark = pytest.mark.torch
LEFT, TOP, CELL = 500_000.0, 5_400_000.0, 0.5


@pytest.fixture(scope="module", autouse=True)
def _one_warm_engine(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("DEEP_RASTER_CACHE", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)
    yield
    client.shutdown_engines()
    patch.undo()


def run(job):
    environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
    return client.run_job(job, on_event=lambda event: None, is_cancelled=lambda: False, environment=environment)


def raster(path, pixels):
    bands, rows, columns = pixels.shape
    transform = rasterio.transform.from_origin(LEFT, TOP, CELL, CELL)
    options = {"driver": "GTiff", "dtype": pixels.dtype, "crs": "EPSG:32632", "transform": transform}
    options["photometric"] = "MINISBLACK"  # a fourth band is near infrared, not transparency
    with rasterio.open(path, "w", width=columns, height=rows, count=bands, **options) as file:
        file.write(pixels)
    return jobs.RasterInput(str(path))


def options(**arguments):
    return jobs.RunOptions(processor="CPU", workers=1, arguments={key: str(one) for key, one in arguments.items()})


def to_pixels(geometry):
    """Bounds of a map geometry in pixels."""
    xmin, ymin, xmax, ymax = shapely.bounds(geometry)
    return np.array([(xmin - LEFT) / CELL, (TOP - ymax) / CELL, (xmax - LEFT) / CELL, (TOP - ymin) / CELL])


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
    output = tmp_path / "classes.tif"
    run(jobs.ClassifyPixels((raster(tmp_path / "in.tif", pixels[0]),), str(opened.path), str(output), options()))
    chosen = pixels[:, [2, 0, 1]]
    images = (chosen - np.reshape([900, 1000, 1100], (1, 3, 1, 1))) / np.reshape([400, 500, 600], (1, 3, 1, 1))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(images).float())[0].argmax(dim=0).numpy()
    with rasterio.open(output) as file:
        found = file.read(1)
        assert file.transform.c == LEFT
    assert (found == np.array([2, 5, 9])[wanted]).mean() >= 0.9999
    assert len(np.unique(found)) > 1


def test_class_map_of_an_arcgis_unet(tmp_path):
    from deep_raster.engine.models.loader import load_model

    state = support.seeded_state("unet_4band_mobilenetv3")
    definition = {
        **support.members("unet_4band_mobilenetv3"),
        "Classes": [{"Value": 3, "Name": "a"}, {"Value": 7, "Name": "b"}],
    }
    opened = support.package(tmp_path / "package", definition, state)
    pixels = support.pixels((1, 4, 160, 224), high=240)
    output = tmp_path / "classes.tif"
    run(jobs.ClassifyPixels((raster(tmp_path / "in.tif", pixels[0]),), str(opened.path), str(output), options()))
    # The network itself is compared with fastai's formulas elsewhere; here it sees the whole raster at once.
    network = load_model(opened, device="cpu", threads=1, arguments={}).runner.network
    with torch.inference_mode():
        logits = network(support.arcgis_stats(pixels, definition))[0]
    wanted = np.array([3, 7])[logits[1:].argmax(dim=0).numpy()]  # no class 0 among several: background never wins
    with rasterio.open(output) as file:
        assert (file.read(1) == wanted).mean() >= 0.9999
    assert len(np.unique(wanted)) == 2


def test_objects_of_an_arcgis_detector(tmp_path):
    from deep_raster.engine.models.arcgis_detection import build_ssd
    from deep_raster.engine.package.emd import build_definition

    definition, state = support.members("ssd_resnet18"), support.seeded_state("ssd_resnet18")
    opened = support.package(tmp_path / "package", definition, state)
    pixels = support.pixels((1, 3, 128, 128))
    output = tmp_path / "objects.gpkg"
    source = raster(tmp_path / "in.tif", pixels[0])
    asked = options(threshold=0.55, nms_overlap=0.2, padding=0)
    run(jobs.DetectObjects((source,), str(opened.path), str(output), asked, run_nms=False))
    network = build_ssd(build_definition(definition), 3)
    network.load_state_dict(state, strict=True)
    with torch.inference_mode():
        (wanted,) = network.eval().find(support.imagenet(pixels), 0.55, 0.2)
    boxes = np.clip(wanted["boxes"].numpy(), 0, 128)
    _, _, geometries, fields = pyogrio.raw.read(output)
    names = list(pyogrio.read_info(output)["fields"])
    confidence = np.asarray(fields[names.index("Confidence")], float)
    classes = fields[names.index("Class")]
    found = np.array([to_pixels(shapely.from_wkb(one)) for one in geometries])
    assert len(found) == len(boxes) > 0
    for box, score, label in zip(boxes, wanted["scores"].numpy(), wanted["labels"].numpy()):
        distance = np.abs(found - box).max(axis=1) + 1e3 * (classes != ["Pool", "Roof"][label])
        nearest = distance.argmin()
        assert distance[nearest] < 0.01
        assert abs(confidence[nearest] / 100 - score) < 1e-4


def classified_features(tmp_path, definition, **arguments):
    """Run the tool on two features; return what it wrote by feature, and the network's own sums for their chips."""
    state = support.seeded_state("fc_resnet18")
    opened = support.package(tmp_path / "package", definition, state)
    pixels = support.pixels((1, 3, 128, 256))
    corners = [(0, 0), (128, 0)]
    features = [shapely.box(LEFT + x * CELL, TOP - 64, LEFT + x * CELL + 64, TOP) for x, _ in corners]
    layer = tmp_path / "features.gpkg"
    wkb = shapely.to_wkb(np.array(features))
    pyogrio.raw.write(str(layer), wkb, [np.arange(2)], ["number"], geometry_type="Polygon", crs="EPSG:32632")
    output = tmp_path / "out.gpkg"
    source = raster(tmp_path / "in.tif", pixels[0])
    vector = jobs.VectorInput(str(layer))
    run(jobs.ClassifyObjects((source,), str(opened.path), str(output), vector, options=options(**arguments)))
    trunk = support.torchvision_trunk(state, "0.", "resnet18", 3)
    head = build_head(512, 2).eval()
    head.load_state_dict({key[2:]: one for key, one in state.items() if key.startswith("1.")})
    chips = np.concatenate([pixels[:, :, :, x : x + 128] for x, _ in corners])
    with torch.inference_mode():
        wanted = head(support.stages(trunk, support.imagenet(chips))["layer4"])
    _, _, _, fields = pyogrio.raw.read(output)
    columns = dict(zip(pyogrio.read_info(output)["fields"], fields))
    order = np.argsort(columns["number"])
    return {name: np.asarray(values)[order] for name, values in columns.items()}, wanted


def test_classes_of_features_by_an_arcgis_classifier(tmp_path):
    columns, logits = classified_features(tmp_path, support.members("fc_resnet18"))
    wanted = logits.softmax(dim=1).numpy()
    assert list(columns["ClassLabel"]) == list(np.array(["Pool", "Roof"])[wanted.argmax(axis=1)])
    np.testing.assert_allclose(columns["Confidence"].astype(float), wanted.max(axis=1), atol=1e-4)


def test_several_labels_of_features_are_joined_as_arcgis_does(tmp_path):
    definition = {**support.members("fc_resnet18"), "MetaDataMode": "MultiLabeled_Tiles"}
    chances = classified_features(tmp_path / "plain", definition)[1].sigmoid().numpy()
    low, high = np.sort(chances.ravel())[[0, 1]]
    threshold = float(low + high) / 2  # one class of one feature is below
    columns, _ = classified_features(tmp_path / "chosen", definition, threshold=threshold)
    names = [";".join(name for name, one in zip(("Pool", "Roof"), row) if one > threshold) for row in chances]
    assert "Pool;Roof" in names
    assert list(columns["ClassLabel"]) == names
    told = np.array([list(map(float, one.split(";"))) for one in columns["Confidence"]])
    np.testing.assert_allclose(told, chances, atol=1e-4)


def test_weights_that_ask_for_code_stop_the_job_and_leave_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    definition = support.members("ssd_resnet18")
    opened = support.package(tmp_path / "package", definition, {"x": Hostile()})
    output = tmp_path / "objects.gpkg"
    source = raster(tmp_path / "in.tif", support.pixels((1, 3, 128, 128))[0])
    with pytest.raises(ModelError, match="open, which builds something else than tensors"):
        run(jobs.DetectObjects((source,), str(opened.path), str(output), options()))
    assert not output.exists()
    assert not (tmp_path / "mark").exists()
