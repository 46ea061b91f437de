"""Small seeded networks as files, and packages made of them, for the tests of the adapters."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from deep_raster.engine.package.emd import ModelDefinition, build_definition


@dataclass
class Package:
    """What an adapter sees of an opened package: its definition and its files."""

    definition: ModelDefinition
    folder: Path

    def file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(name)
        return path


def package(folder: Path, members: dict, **changes) -> Package:
    return Package(build_definition({**members, **changes}), folder)


def classes(count: int, first: int = 1) -> list[dict]:
    return [{"Value": first + index, "Name": f"kind {first + index}"} for index in range(count)]


def pixels(shape, dtype="uint8", seed=1):
    rng = np.random.default_rng(seed)
    high = {"uint8": 256, "uint16": 4000}.get(dtype, 2)
    return rng.integers(0, high, shape).astype(dtype) if dtype != "float32" else rng.random(shape, np.float32)


def everywhere(batch):
    return np.ones((batch.shape[0], *batch.shape[2:]), bool)


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
