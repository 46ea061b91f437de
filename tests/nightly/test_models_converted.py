"""A network trained here gives the same bytes for any number of workers, whatever its first job has converted."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rasterio")
pytest.importorskip("onnxruntime")
from deep_raster.engine import jobs  # noqa: E402
from real_engine import run  # noqa: E402

from ..engine.models import engine_support as engine  # noqa: E402
from ..engine.models import torch_support as support  # noqa: E402
from ..engine.models.test_converted import made  # noqa: E402


def test_the_same_bytes_for_one_two_and_four_workers(tmp_path, monkeypatch):
    package, network = made(tmp_path / "package", ImageWidth=256, ImageHeight=256)
    pixels = support.pixels((1, 3, 512, 640))
    source = engine.write_raster(tmp_path / "scene.tif", pixels[0])
    contents = []
    for workers in (4, 1, 2):
        monkeypatch.setenv("DEEP_RASTER_CACHE", str(tmp_path / f"cache{workers}"))  # each converts anew
        output = tmp_path / f"{workers}.tif"
        options = jobs.RunOptions(processor=jobs.CPU, workers=workers)
        run(jobs.ClassifyPixels((source,), str(package.path), str(output), options))
        assert len(list((tmp_path / f"cache{workers}" / "weights").glob("*.onnx"))) == 1
        contents.append(output.read_bytes())
    assert contents[0] == contents[1] == contents[2]
    with torch.inference_mode():
        wanted = np.array([0, 5, 9])[network(support.normalised(pixels))[0].argmax(0).numpy()]
    assert (engine.read_classes(tmp_path / "1.tif") == wanted).mean() >= 0.9999
