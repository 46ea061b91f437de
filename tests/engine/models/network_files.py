"""Small seeded networks as files, and packages made of them, for the tests of the adapters."""

from __future__ import annotations

import json
import warnings

import numpy as np
from deep_raster.engine.package.dlpk import ModelPackage, open_package

# What the definitions of networks saved by PyTorch itself have in common: pixel classes from bands scaled to 0..1.
SAVED_BY_TORCH = {
    "ModelConfiguration": {"Name": "Network", "Output": {"Kind": "PixelScores", "Activation": "softmax"}},
    "ModelType": "ImageClassification",
    "ExtractBands": [0, 1, 2],
    "Normalization": {"Method": "scale", "Scale": 255, "Fill": 0},
}


def package(folder, members: dict, **changes) -> ModelPackage:
    """Write the definition beside the files that are there, and open it."""
    (folder / "model.emd").write_text(json.dumps({**members, **changes}), "utf-8")
    return open_package(folder / "model.emd", cache=folder.parent / f"{folder.name}_cache")


def classes(count: int, first: int = 1) -> list[dict]:
    return [{"Value": first + index, "Name": f"kind {first + index}"} for index in range(count)]


def pixels(shape, dtype="uint8", seed=1):
    rng = np.random.default_rng(seed)
    high = {"uint8": 256, "uint16": 4000}.get(dtype, 2)
    return rng.integers(0, high, shape).astype(dtype) if dtype != "float32" else rng.random(shape, np.float32)


def everywhere(batch):
    return np.ones((batch.shape[0], *batch.shape[2:]), bool)


def same_scores(model, batch, wanted) -> None:
    """Probabilities within 1e-4 of the network's own, the same class on all but one of 10,000 pixels."""
    found = model.scores(batch, everywhere(batch))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.9999
    assert len(np.unique(wanted.argmax(1))) > 1


def export(module, path, shape, names=("output",), dynamic=(), inputs=("images",), extra=()):
    """Export a torch module with the framework's own exporter."""
    import torch

    module.eval()
    axes = {name: {axis: f"{name}_{axis}" for axis in dynamic} for name in (*inputs[:1], *names)} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.rand(*shape), *extra),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=list(inputs),
            output_names=list(names),
            dynamic_axes=axes,
        )
    return path


def scaled(batch):
    """What a network fed with 0..1 gets, as the framework's users write it."""
    import torch

    return torch.from_numpy(batch.astype("float32")) / 255
