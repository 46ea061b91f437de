"""A network trained here gives the same bytes for any number of workers, whatever its first job has converted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
rasterio = pytest.importorskip("rasterio")
pytest.importorskip("onnxruntime")
from deep_raster.engine import client, jobs  # noqa: E402
from deep_raster.engine.environment import Environment  # noqa: E402

_place = Path(__file__).resolve().parent.parent / "engine" / "models" / "test_converted.py"
_spec = importlib.util.spec_from_file_location("converted_support", _place)
support = importlib.util.module_from_spec(_spec)
sys.modules["converted_support"] = support
_spec.loader.exec_module(support)


def test_the_same_bytes_for_one_two_and_four_workers(tmp_path, monkeypatch):
    package, network = support.made(tmp_path / "package", ImageWidth=256, ImageHeight=256)
    pixels = support.support.pixels((1, 3, 512, 640))
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_500_000)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": 512, "width": 640, "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "scene.tif", "w", transform=transform, **profile) as raster:
        raster.write(pixels[0])
    environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
    contents = []
    for workers in (4, 1, 2):
        monkeypatch.setenv("DEEP_RASTER_CACHE", str(tmp_path / f"cache{workers}"))  # each converts anew
        output = tmp_path / f"{workers}.tif"
        options = jobs.RunOptions(processor=jobs.CPU, workers=workers)
        job = jobs.ClassifyPixels(
            (jobs.RasterInput(str(tmp_path / "scene.tif")),), str(package.path), str(output), options
        )
        client.run_job(job, on_event=lambda _: None, is_cancelled=lambda: False, environment=environment)
        assert len(list((tmp_path / f"cache{workers}" / "weights").glob("*.onnx"))) == 1
        contents.append(output.read_bytes())
    assert contents[0] == contents[1] == contents[2]
    images = (pixels - support.np.reshape([90, 100, 110], (1, 3, 1, 1))) / support.np.reshape(
        [40, 50, 60], (1, 3, 1, 1)
    )
    with torch.inference_mode():
        wanted = support.np.array([0, 5, 9])[network(torch.from_numpy(images).float())[0].argmax(0).numpy()]
    with rasterio.open(tmp_path / "1.tif") as raster:
        assert (raster.read(1) == wanted).mean() >= 0.9999
