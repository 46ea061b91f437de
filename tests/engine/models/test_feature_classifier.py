"""Feature classifiers on a georeferenced raster through the engine, against torch and torchvision on the same chips."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("pyogrio")
pytest.importorskip("rasterio")
from deep_raster.engine import jobs  # noqa: E402
from torch import nn  # noqa: E402

from . import engine_support as engine  # noqa: E402
from . import torch_support as support  # noqa: E402

pytestmark = pytest.mark.torch
SIDE = 64
PIXELS = support.pixels((1, 3, 150, 180))[0]
# Pixel boxes: of several sizes, one whose chip reaches beyond the raster, one that is as large as its chip.
BOXES = [(20, 30, 60, 50), (100, 70, 148, 130), (150, 10, 166, 40), (4, 100, 20, 132), (60, 40, 124, 104)]


class ConcatPool(nn.Module):
    def forward(self, images):
        return torch.cat([images.amax((2, 3), keepdim=True), images.mean((2, 3), keepdim=True)], 1)


def published(definition, hidden=512):
    """The network as fastai 1 puts it together: a torchvision ResNet cut before its pooling, and the default head.

    Its weights differ everywhere and make it undecided between the classes on the whole, so that each wins somewhere.
    """
    classes = len(definition["Classes"])
    trunk = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
    head = [ConcatPool(), nn.Flatten(), nn.BatchNorm1d(1024), nn.Dropout(0.25), nn.Linear(1024, hidden), nn.ReLU()]
    head += [nn.BatchNorm1d(hidden), nn.Dropout(0.5), nn.Linear(hidden, classes)]
    network = nn.Sequential(trunk, nn.Sequential(*head))
    network.load_state_dict(
        support.seeded({name: (tuple(one.shape), one.dtype) for name, one in network.state_dict().items()})
    )
    with torch.no_grad():
        last = network.eval()[1][-1]
        last.weight *= 20
        last.bias -= network(images_of(definition)).mean(0)
    return network


def images_of(definition):
    """Normalise a square around the middle of each box; what is off the raster, or outside a blackened box, is 0."""
    side, blacken = definition["ImageWidth"], definition["BlackenAroundFeature"]
    half, chips = side // 2, []
    around = np.pad(PIXELS, ((0, 0), (half, half), (half, half)))
    for left, top, right, bottom in BOXES:
        column, row = (left + right) // 2, (top + bottom) // 2
        chip = around[:, row : row + side, column : column + side].copy()
        if blacken:
            inside = np.zeros(chip.shape[1:], bool)
            x, y = left - column + half, top - row + half
            inside[y : y + bottom - top, x : x + right - left] = True
            chip[:, ~inside] = 0
        chips.append(chip)
    return support.imagenet(np.stack(chips))


def classified(folder, definition, network, saved=None, **arguments):
    """Return what the tool wrote, by feature, and what the network says of the features' chips."""
    weights = saved or network.state_dict()
    opened = support.package(folder / "package", definition, weights)
    source, features = (
        engine.write_raster(folder / "in.tif", PIXELS),
        engine.write_features(folder / "boxes.gpkg", BOXES),
    )
    output = str(folder / "out.gpkg")
    asked = engine.options(**arguments)
    engine.run(jobs.ClassifyObjects((source,), str(opened.path), output, features, options=asked))
    with torch.inference_mode():
        logits = network(images_of(definition))
    _, fields = engine.read_layer(output)
    order = np.argsort(fields["number"])
    assert list(fields["number"][order]) == list(range(len(BOXES)))
    return {name: values[order] for name, values in fields.items()}, logits


def same_classes(fields, logits, names):
    wanted = logits.softmax(1).numpy()
    assert wanted.max() < 0.999, "certainty hides differences"
    assert len(set(wanted.argmax(1))) > 1
    assert list(fields["ClassLabel"]) == [names[one] for one in wanted.argmax(1)]
    np.testing.assert_allclose(fields["Confidence"].astype(float), wanted.max(1), atol=1e-4)


@pytest.mark.parametrize("blacken", [0, 1])
def test_the_pytorch_configuration_is_torchs_own_network(tmp_path, blacken):
    names = ["Pool", "Roof", "Lawn"]
    definition = {
        "Framework": "PyTorch", "ModelConfiguration": "FeatureClassifier", "ModelType": "ObjectClassification",
        "ModelFile": "net.pth", "ModelParameters": {"backbone": "resnet18"}, "ImageWidth": SIDE, "ImageHeight": SIDE,
        "ExtractBands": [0, 1, 2], "CropSizeFixed": 1, "BlackenAroundFeature": blacken,
        "Classes": [{"Value": number, "Name": name} for number, name in enumerate(names)],
    }  # fmt: skip
    network = published(definition)
    # As fastai saves it with its optimiser, and as a bare dictionary.
    saved = {"model": network.state_dict(), "opt": {"lr": 0.1}} if blacken else None
    same_classes(*classified(tmp_path, definition, network, saved), names)


def test_classes_of_features_by_an_arcgis_classifier(tmp_path):
    definition = support.members("fc_resnet18")
    network = published(definition)
    assert {name: (tuple(one.shape), one.dtype) for name, one in network.state_dict().items()} == support.layout(
        "fc_resnet18"
    )
    same_classes(*classified(tmp_path, definition, network), ["Pool", "Roof"])


def test_several_labels_of_features_are_joined_as_arcgis_does(tmp_path):
    definition = {**support.members("fc_resnet18"), "MetaDataMode": "MultiLabeled_Tiles"}
    network = published(definition)
    chances = classified(tmp_path / "plain", definition, network)[1].sigmoid().numpy()
    threshold = float(np.sort(chances.ravel())[:2].mean())  # one class of one feature is below
    fields, _ = classified(tmp_path / "chosen", definition, network, threshold=threshold)
    names = [";".join(name for name, one in zip(("Pool", "Roof"), row) if one > threshold) for row in chances]
    assert "Pool;Roof" in names
    assert list(fields["ClassLabel"]) == names
    told = np.array([list(map(float, one.split(";"))) for one in fields["Confidence"]])
    np.testing.assert_allclose(told, chances, atol=1e-4)
