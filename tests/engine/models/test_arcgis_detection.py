"""Single-shot detectors of arcgis.learn and FastaiSSD against torchvision's trunks, plain formulas and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from deep_raster.engine.errors import DefinitionError, ModelError  # noqa: E402
from deep_raster.engine.models import arcgis_detection, pytorch_fastai_ssd  # noqa: E402
from deep_raster.engine.models.ssd import Anchors  # noqa: E402
from deep_raster.engine.package.emd import build_definition  # noqa: E402

from . import torch_support as support  # noqa: E402
from .torch_support import convolve, load, normalise  # noqa: E402

pytestmark = pytest.mark.torch


def standard(images, state, name, stride=1, padding=1):
    """The course's StdConv: convolution, ReLU, batch normalisation."""
    return normalise(convolve(images, state, f"{name}.conv", stride, padding).relu(), state, f"{name}.bn")


def decode_ssd(deltas, cell_y, cell_x, size, grid):
    """One anchor's box by the formulas, in fractions: ymin, xmin, ymax, xmax."""
    moved = np.tanh(np.asarray(deltas, dtype=np.float64))
    centre = moved[:2] / 2 / grid + [cell_y, cell_x]
    extent = (moved[2:] / 2 + 1) * size
    return np.concatenate([centre - extent / 2, centre + extent / 2])


def read_ssd(maps, grids, shapes, transposed):
    """Scores and boxes of all anchors, cell by cell with plain loops.

    ``maps`` are (class map, box map) of each grid, ``transposed`` for networks that list cells by columns.
    """
    scores, boxes = [], []
    for (of_classes, of_boxes), grid in zip(maps, grids):
        for slow in range(grid):
            for fast in range(grid):
                row, column = (fast, slow) if transposed else (slow, fast)
                for number, shape in enumerate(shapes):
                    outputs = of_classes.shape[0] // len(shapes)
                    logits = of_classes[number * outputs : (number + 1) * outputs, row, column]
                    deltas = of_boxes[number * 4 : number * 4 + 4, row, column]
                    scores.append(1 / (1 + np.exp(-logits.astype(np.float64))))
                    centre = ((slow + 0.5) / grid, (fast + 0.5) / grid)
                    boxes.append(decode_ssd(deltas, *centre, np.array(shape) / grid, grid))
    return np.array(scores), np.array(boxes)


def suppressed(boxes, scores, threshold, overlap, most=50):
    """Per class: above the threshold, the best ``most``, non-maximum suppression; boxes as x, y."""
    corners = boxes[:, [1, 0, 3, 2]]
    found = []
    for label in range(scores.shape[1]):
        places = np.flatnonzero(scores[:, label] > threshold)
        kept = places[support.greedy(corners[places], scores[places, label], overlap, most)]
        found += [(corners[place], scores[place, label], label) for place in kept]
    return tuple(np.array(part) for part in zip(*found))


def test_ssd_network_has_exactly_the_listed_tensors_in_order():
    for name, bands in (("ssd_resnet18", 3), ("ssd_4band_resnet34", 4)):
        network = arcgis_detection.build_ssd(build_definition(support.members(name)), bands)
        found = {key: (tuple(one.shape), one.dtype) for key, one in network.state_dict().items()}
        assert found == support.layout(name)
        assert list(found) == list(support.layout(name))


def test_ssd_over_torchvision(tmp_path):
    model, state, _ = load(tmp_path, "ssd_resnet18", arguments={"threshold": "0.6", "nms_overlap": "0.3"})
    pixels = support.pixels((2, 3, 128, 128))
    with torch.inference_mode():
        trunk = support.torchvision_trunk(state, "0.", "resnet18", 3)
        first = standard(support.stages(trunk, support.imagenet(pixels))["layer4"].relu(), state, "1.sconvs.0")
        fine = standard(first.repeat_interleave(2, 2).repeat_interleave(2, 3), state, "1.sconvs.1")
        coarse = standard(fine, state, "1.sconvs.2", stride=2)
        maps = [
            [convolve(one, state, f"1.oconvs.{number}.oconv{part}") for part in (1, 2)]
            for number, one in enumerate((fine, coarse))
        ]
    shapes = [(0.7, 0.7), (1.0, 1.0)]
    for image, found in enumerate(model.detect(pixels, support.everywhere(pixels))):
        of_image = [[part[image].numpy() for part in pair] for pair in maps]
        scores, boxes = read_ssd(of_image, (8, 4), shapes, transposed=False)
        wanted = suppressed(boxes * 128, scores[:, 1:], 0.6, 0.3)
        support.assert_same_objects(support.hundredths(found), *wanted)


def test_ssd_with_four_bands_and_a_grid_that_no_stride_reaches(tmp_path):
    model, state, definition = load(tmp_path, "ssd_4band_resnet34", arguments={"threshold": "0.5"})
    pixels = support.pixels((1, 4, 128, 128), high=240)
    with torch.inference_mode():
        trunk = support.torchvision_trunk(state, "0.", "resnet34", 4)
        deep = support.stages(trunk, support.arcgis_stats(pixels, definition))["layer4"]
        result = standard(deep.relu(), state, "1.sconvs.0")
        maps = []
        for number, (side, grid) in enumerate(((4, 6), (6, 5)), start=1):
            nearest = torch.tensor([place * side // grid for place in range(grid)])
            result = standard(result[:, :, nearest][:, :, :, nearest], state, f"1.sconvs.{number}")
            maps.append([convolve(result, state, f"1.oconvs.{number - 1}.oconv{part}")[0].numpy() for part in (1, 2)])
    scores, boxes = read_ssd(maps, (6, 5), [(1.0, 1.0)], transposed=False)
    (found,) = model.detect(pixels, support.everywhere(pixels))
    support.assert_same_objects(support.hundredths(found), *suppressed(boxes * 128, scores[:, 1:], 0.5, 0.1))
    assert (model.plan.width, model.plan.halo, model.plan.fixed) == (128, 32, True)


def test_retinanet_over_torchvision(tmp_path):
    name = "retinanet_resnet18"
    network = arcgis_detection.build_retinanet(build_definition(support.members(name)), 3)
    assert {key: (tuple(one.shape), one.dtype) for key, one in network.state_dict().items()} == support.layout(name)
    state = dict(support.seeded_state(name))
    for part in ("classifier", "box_regressor"):
        state[f"{part}.4.weight"] = state[f"{part}.4.weight"] * 0.2
    model, *_ = load(tmp_path, name, state=state, arguments={"threshold": "0.6", "nms_overlap": "0.4"})
    pixels = support.pixels((1, 3, 128, 128))

    def branch(images, part):
        for number in range(4):
            images = normalise(convolve(images, state, f"{part}.{number}.0").relu(), state, f"{part}.{number}.2")
        return convolve(images, state, f"{part}.4")[0].numpy()

    with torch.inference_mode():
        trunk = support.torchvision_trunk(state, "encoder.", "resnet18", 3)
        maps = support.stages(trunk, support.imagenet(pixels))
        fifth = convolve(maps["layer4"], state, "c5top5", padding=0)
        sixth = convolve(maps["layer4"], state, "c5top6", stride=2)
        seventh = convolve(sixth.relu(), state, "p6top7.1", stride=2)
        double = torch.nn.Upsample(scale_factor=2, mode="nearest")
        fourth = convolve(maps["layer3"], state, "merges.0.conv_lat", padding=0) + double(fifth)
        third = convolve(maps["layer2"], state, "merges.1.conv_lat", padding=0) + double(fourth)
        smooth = [convolve(one, state, f"smoothers.{place}") for place, one in enumerate((third, fourth, fifth))]
        levels = [(branch(one, "classifier"), branch(one, "box_regressor")) for one in (*smooth, sixth, seventh)]
    scores, boxes = [], []
    shapes = [
        (scale * ratio**0.5, scale / ratio**0.5) for ratio in (0.5, 1, 2) for scale in (1, 2 ** (-1 / 3), 2 ** (-2 / 3))
    ]
    for of_classes, of_boxes in levels:
        rows, columns = of_classes.shape[1:]
        for row, column, number in np.ndindex(rows, columns, 9):
            logits = of_classes[number * 2 : number * 2 + 2, row, column]
            dy, dx, dh, dw = of_boxes[number * 4 : number * 4 + 4, row, column].astype(np.float64)
            high, wide = 4 * shapes[number][0] / rows, 4 * shapes[number][1] / columns
            y, x = (row + 0.5) / rows + 0.1 * dy * high, (column + 0.5) / columns + 0.1 * dx * wide
            high, wide = high * np.exp(0.2 * dh), wide * np.exp(0.2 * dw)
            scores.append(1 / (1 + np.exp(-logits.astype(np.float64))))
            boxes.append((y - high / 2, x - wide / 2, y + high / 2, x + wide / 2))
    wanted = suppressed(np.array(boxes) * 128, np.array(scores), 0.6, 0.4, most=1000)
    (found,) = model.detect(pixels, support.everywhere(pixels))
    support.assert_same_objects(support.hundredths(found), *wanted)


def test_ssd_faults_are_named(tmp_path):
    state = {"x": torch.zeros(1)}
    with pytest.raises(DefinitionError, match="Grids of the model definition must be"):
        load(tmp_path, "ssd_resnet18", {"Grids": "auto"}, state)
    with pytest.raises(ModelError, match="version 1"):
        load(tmp_path, "ssd_resnet18", {"SSDVersion": 1}, state)


# --- FastaiSSD -------------------------------------------------------------------------------------------------------

FASTAI = {
    "Framework": "PyTorch",
    "ModelConfiguration": "FastaiSSD",
    "ModelType": "ObjectDetection",
    "ModelFile": "pools.h5",
    "ImageWidth": 224,
    "ImageHeight": 224,
    "ExtractBands": [0, 1, 2],
    "Classes": [{"Value": 1, "Name": "Pool", "Color": [0, 0, 255]}],
}


@pytest.mark.parametrize(
    ("index", "values"),
    [
        (0, (0.125, 0.125, 0.175, 0.175)),
        (1, (0.125, 0.125, 0.175, 0.0875)),
        (2, (0.125, 0.125, 0.0875, 0.175)),
        (3, (0.125, 0.125, 0.25, 0.25)),
        (9, (0.125, 0.375, 0.175, 0.175)),
        (36, (0.375, 0.125, 0.175, 0.175)),
        (143, (0.875, 0.875, 0.1625, 0.325)),
        (144, (0.25, 0.25, 0.35, 0.35)),
        (153, (0.25, 0.75, 0.35, 0.35)),
        (180, (0.5, 0.5, 0.7, 0.7)),
        (188, (0.5, 0.5, 0.65, 1.3)),
    ],
)
def test_anchors_are_the_published_ones(index, values):
    anchors = Anchors.on_grids(pytorch_fastai_ssd.GRIDS, pytorch_fastai_ssd.ZOOMS, pytorch_fastai_ssd.RATIOS)
    assert len(anchors.centres) == 189
    found = [*anchors.centres[index].tolist(), *anchors.sizes[index].tolist()]
    assert found == pytest.approx(values)


@pytest.fixture(scope="module")
def fastai_state():
    """Weights under the published names, which are written down here once more."""
    trunk = torchvision.models.resnet34(weights=None).state_dict()
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    shapes = {}
    for key, value in trunk.items():
        first, _, rest = key.partition(".")
        if first in places:
            shapes[f"{places[first]}.{rest}"] = value.shape
    for number, entering in enumerate((512, 256, 256, 256)):
        shapes[f"8.sconv{number}.conv.weight"], shapes[f"8.sconv{number}.conv.bias"] = (256, entering, 3, 3), (256,)
        for member in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"8.sconv{number}.bn.{member}"] = (256,)
        shapes[f"8.sconv{number}.bn.num_batches_tracked"] = ()
    for number in range(4):
        for part, leaving in ((1, 27), (2, 36)):
            shapes[f"8.out{number}.oconv{part}.weight"] = (leaving, 256, 3, 3)
            shapes[f"8.out{number}.oconv{part}.bias"] = (leaving,)
    return support.seeded(
        {key: (tuple(shape), torch.float32 if shape else torch.int64) for key, shape in shapes.items()}
    )


def test_fastai_ssd_as_published(tmp_path, fastai_state):
    state = fastai_state
    assert len(state) == 260
    opened = support.package(tmp_path / "package", FASTAI, state)
    model = support.loaded(opened, {"score_threshold": "0.7"})
    pixels = support.pixels((2, 3, 224, 224))
    with torch.inference_mode():
        trunk = support.torchvision_trunk(state, "", "resnet34", 3)
        result = standard(support.stages(trunk, support.imagenet(pixels))["layer4"].relu(), state, "8.sconv0")
        maps = []
        for number in (1, 2, 3):
            result = standard(result, state, f"8.sconv{number}", stride=2)
            maps.append([convolve(result, state, f"8.out{number}.oconv{part}") for part in (1, 2)])
    shapes = [(zoom * a, zoom * b) for zoom in (0.7, 1.0, 1.3) for a, b in ((1, 1), (1, 0.5), (0.5, 1))]
    for image, found in enumerate(model.detect(pixels, support.everywhere(pixels))):
        of_image = [[part[image].numpy() for part in pair] for pair in maps]
        scores, boxes = read_ssd(of_image, (4, 2, 1), shapes, transposed=True)
        boxes, scores, _ = suppressed(boxes * 224, scores[:, :2], 0.7, 0.1)
        inside = boxes[:, 3] > 0
        support.assert_same_objects(found, boxes[inside], scores[inside], np.zeros(inside.sum(), int))


def test_fastai_ssd_refuses_another_image_size(tmp_path, fastai_state):
    opened = support.package(
        tmp_path / "package", {**FASTAI, "ImageWidth": 256, "ImageHeight": 256}, {"x": torch.ones(1)}
    )
    with pytest.raises(DefinitionError, match="224 x 224"):
        support.loaded(opened)
