"""Seeded weights with the names and shapes that arcgis.learn wrote, and packages made of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch
from deep_raster.engine.models.loader import load_model
from deep_raster.engine.package.dlpk import ModelPackage, open_package
from torch.nn import functional

DATA = Path(__file__).with_name("data") / "arcgis_learn"
MEAN, STD = [90, 100, 110], [40, 50, 60]
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])


def layout(name: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Names with shape and type, in file order; a ``norm`` line stands for the five tensors of a normalisation."""
    found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for line in (DATA / f"{name}.layout").read_text("utf-8").splitlines():
        stem, *rest = line.split()
        if rest[0] == "norm":
            for member in ("weight", "bias", "running_mean", "running_var"):
                found[f"{stem}.{member}"] = ((int(rest[1]),), torch.float32)
            found[f"{stem}.num_batches_tracked"] = ((), torch.int64)
        else:
            found[stem] = (tuple(int(side) for side in rest[0].split("x")), torch.float32)
    return found


# Last layers that would answer with certainty, which hides differences.
_SOFTENED = {"1.8.weight": 0.05, "layers.11.0.weight": 0.2, "layers.9.0.weight": 0.2}


@functools.lru_cache(maxsize=2)
def seeded_state(layout_name: str) -> dict[str, torch.Tensor]:
    """Weights for a layout of arcgis.learn."""
    return seeded(layout(layout_name))


def seeded(shapes: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, torch.Tensor]:
    """Numbers that keep activations in range and differ everywhere: nothing may cancel or stay at its default."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, (shape, kind) in shapes.items():
        if kind == torch.int64:
            state[name] = torch.tensor(7)
        elif name.endswith(("running_var", "weight_g")):
            state[name] = torch.rand(shape, generator=generator) * 0.6 + 0.7
        elif len(shape) > 1:
            inputs = int(np.prod(shape[1:]))
            state[name] = torch.randn(shape, generator=generator) * (1.6 / inputs) ** 0.5
        elif name.endswith("weight"):
            state[name] = torch.rand(shape, generator=generator) * 0.4 + 0.8
        else:
            state[name] = torch.randn(shape, generator=generator) * 0.1
        if name.endswith("bn2.weight") or ".oconv" in name:
            state[name] *= 0.3  # residual sums stay small, scores away from 0 and 1
        state[name] *= _SOFTENED.get(name, 1)
    return state


def members(name: str) -> dict:
    """A definition that arcgis.learn wrote."""
    return json.loads((DATA / f"{name}.emd").read_text("utf-8"))


def package(folder: Path, definition: dict, state: object) -> ModelPackage:
    """Write a definition and its weights, and open them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / definition["ModelFile"])
    (folder / "model.emd").write_text(json.dumps(definition), "utf-8")
    return open_package(folder / "model.emd", cache=folder.parent / f"{folder.name}_cache")


def loaded(opened: ModelPackage, arguments: dict[str, str] | None = None):
    """The network of a package, on the CPU with one thread."""
    return load_model(opened, device="cpu", threads=1, arguments=arguments or {})


def load(folder: Path, name: str, changes: dict | None = None, state: object = None, arguments: dict | None = None):
    """The network of a layout with seeded weights (or ``state``), its weights, and its definition with ``changes``."""
    definition = {**members(name), **(changes or {})}
    state = seeded_state(name) if state is None else state
    return loaded(package(folder / "package", definition, state), arguments), state, definition


def convolve(images: torch.Tensor, state: dict[str, torch.Tensor], name: str, stride=1, padding=1) -> torch.Tensor:
    return functional.conv2d(images, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)


def normalise(images: torch.Tensor, state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    statistics = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
    return functional.batch_norm(images, *statistics, state[f"{name}.weight"], state[f"{name}.bias"])


def pixels(shape: tuple[int, ...], high: int = 256, seed: int = 1) -> np.ndarray:
    """Coarse blobs with noise, so that networks see edges."""
    rng = np.random.default_rng(seed)
    images, bands, rows, columns = shape
    coarse = rng.integers(0, high, (images, bands, -(-rows // 8), -(-columns // 8)))
    big = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :rows, :columns]
    noise = rng.integers(-high // 8, high // 8, shape)
    return np.clip(big + noise, 0, high - 1).astype(np.uint8 if high <= 256 else np.uint16)


def everywhere(batch: np.ndarray) -> np.ndarray:
    return np.ones((len(batch), *batch.shape[2:]), bool)


def normalised(batch: np.ndarray) -> torch.Tensor:
    """Normalise by MEAN and STD, in double precision."""
    return torch.from_numpy((batch - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))).float()


def imagenet(batch: np.ndarray) -> torch.Tensor:
    """Normalise 0..255 by ImageNet's statistics, in double precision."""
    shape = (1, 3, 1, 1)
    scaled = (batch - 255 * IMAGENET_MEAN.reshape(shape)) / (255 * IMAGENET_STD.reshape(shape))
    return torch.from_numpy(scaled).float()


def arcgis_stats(batch: np.ndarray, definition: dict) -> torch.Tensor:
    """Normalise by the statistics of a definition: min-max, then mean and standard deviation."""
    values = {key: np.array(value).reshape(1, -1, 1, 1) for key, value in definition["NormalizationStats"].items()}
    low, high = values["band_min_values"], values["band_max_values"]
    scaled = (batch - low) / (high - low)
    return torch.from_numpy((scaled - values["scaled_mean_values"]) / values["scaled_std_values"]).float()


def torchvision_trunk(state: dict[str, torch.Tensor], prefix: str, name: str, bands: int) -> torch.nn.Module:
    """A whole torchvision ResNet with the trunk's weights, renamed from positions to torchvision's own names."""
    import torchvision

    network = torchvision.models.get_model(name, weights=None)
    if bands != 3:
        network.conv1 = torch.nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
    return _filled(network, state, prefix)


def timm_trunk(state: dict[str, torch.Tensor], prefix: str, name: str, bands: int, **options) -> torch.nn.Module:
    """A timm ResNet with the trunk's weights."""
    import timm

    return _filled(timm.create_model(name, pretrained=False, in_chans=bands, **options), state, prefix)


def _filled(network: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str) -> torch.nn.Module:
    places = ["conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4"]
    renamed = {}
    for key, value in state.items():
        if key.startswith(prefix):
            place, _, rest = key[len(prefix) :].partition(".")
            if int(place) < len(places):
                renamed[f"{places[int(place)]}.{rest}"] = value
    missing, surplus = network.load_state_dict(renamed, strict=False)
    assert not surplus
    assert all(key.startswith("fc.") for key in missing)
    return network.eval()


def stages(network: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The maps of a torchvision or timm ResNet after each stage, by the names of torchvision."""
    maps = {}
    activate = getattr(network, "relu", None) or network.act1
    maps["relu"] = activate(network.bn1(network.conv1(images)))
    result = network.maxpool(maps["relu"])
    for name in ("layer1", "layer2", "layer3", "layer4"):
        result = maps[name] = getattr(network, name)(result)
    return maps


def hundredths(found):
    """Detections of arcgis.learn, whose scores are percentages, with scores on the scale 0..1."""
    return type(found)(found.boxes, found.scores / np.float32(100), found.labels, found.rings)


def iou(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    low, high = np.maximum(one[:2], many[:, :2]), np.minimum(one[2:], many[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    return common / ((one[2:] - one[:2]).prod() + (many[:, 2:] - many[:, :2]).prod(axis=1) - common)


def greedy(boxes: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> list[int]:
    """Non-maximum suppression as a plain loop."""
    kept: list[int] = []
    for place in np.argsort(-scores, kind="stable")[:most]:
        if not kept or (iou(boxes[place], boxes[kept]) <= overlap).all():
            kept.append(int(place))
    return kept


def assert_same_objects(found, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
    """Objects in any order: scores within 1e-4, boxes within 0.01 pixels, labels equal."""
    assert len(found.scores) == len(scores) > 0
    assert scores.max() < 0.9999, "certainty hides differences"
    ours = np.lexsort((found.boxes[:, 0].round(1), -found.scores.round(5), found.labels))
    theirs = np.lexsort((boxes[:, 0].round(1), -scores.round(5), labels))
    np.testing.assert_array_equal(found.labels[ours], labels[theirs])
    np.testing.assert_allclose(found.scores[ours], scores[theirs], atol=1e-4)
    np.testing.assert_allclose(found.boxes[ours], boxes[theirs], atol=0.01)
