"""What a job is refused for before its network is loaded or its weights are imported."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from deep_raster.engine import jobs
from deep_raster.engine.errors import DeepRasterError
from deep_raster.engine.inference import classify_objects, classify_pixels, detect, loading
from inference_support import InProcessSession, write_raster

NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)


class Noting(InProcessSession):
    """Notes the tasks in the order in which they are called."""

    def __init__(self, scratch):
        super().__init__(scratch)
        self.tasks = []

    def call(self, task, payload, *args, **more):
        self.tasks.append(task + ("?" if payload.get("check") else ""))
        return super().call(task, payload, *args, **more)


@pytest.fixture
def raster(tmp_path):
    return jobs.RasterInput(str(write_raster(tmp_path / "image.tif", np.ones((1, 80, 80), np.uint8), NORTH_UP)))


@pytest.fixture
def never_loaded(monkeypatch):
    def load(*_):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(loading, "_load", load)


MISSING = jobs.VectorInput("/nowhere/at/all.gpkg")
PIXELS = {
    "a raster that is not there": ({"inputs": (jobs.RasterInput("/nowhere/at/all.tif"),)}, {}, "all.tif"),
    "a mask that is not there": ({}, {"mask": MISSING}, "all.gpkg"),
    "an argument nobody knows": ({}, {"arguments": {"colour": "blue"}}, "colour"),
    "a value that is none": ({}, {"arguments": {"tta_scales": "wide"}}, "tta_scales"),
    "no room": ({}, {"cell_size": 1e-5}, "are free on the disk"),
    "no room for another output": ({"confidence_output": "c.tif"}, {"cell_size": 1e-5}, "are free on the disk"),
    "an ending nobody knows": ({"polygons_output": "p.xyz"}, {}, "p.xyz"),
}


@pytest.mark.parametrize("case", PIXELS)
def test_refused_without_loading(tmp_path, raster, make_package, never_loaded, case):
    members, options, words = PIXELS[case]
    members = {name: str(tmp_path / one) if name.endswith("_output") else one for name, one in members.items()}
    package = make_package("ImageClassification")
    asked = {"inputs": (raster,), "output": str(tmp_path / "out" / "o.tif"), "options": jobs.RunOptions(**options)}
    session = Noting(tmp_path)
    with pytest.raises(DeepRasterError) as caught:
        classify_pixels.run(jobs.ClassifyPixels(model=package, **{**asked, **members}), session)
    assert words in str(caught.value)
    assert not any((tmp_path / "out").iterdir())
    assert "import_weights" not in session.tasks


@pytest.mark.parametrize("output", ["objects.xyz", "folder", "objects"])
def test_outputs_that_cannot_be(tmp_path, raster, make_package, never_loaded, output):
    (tmp_path / "folder").mkdir()
    job = jobs.DetectObjects((raster,), make_package(), str(tmp_path / output))
    with pytest.raises(DeepRasterError, match=output):
        detect.run(job, InProcessSession(tmp_path))


@pytest.mark.parametrize("features", [MISSING, None])
def test_objects_refused_without_loading(tmp_path, raster, make_package, never_loaded, features):
    output = tmp_path / ("o.gpkg" if features else "o.xyz")
    job = jobs.ClassifyObjects((raster,), make_package("ObjectClassification"), str(output), features)
    with pytest.raises(DeepRasterError, match=r"all\.gpkg" if features else r"o\.xyz"):
        classify_objects.run(job, InProcessSession(tmp_path))


@pytest.mark.parametrize("ending", [".gpkg", ".xyz"])
def test_weights_are_imported_only_for_what_can_be_done(
    tmp_path, raster, make_package, never_loaded, monkeypatch, ending
):
    """Weights that are a pickle inside take a process of their own to import, and long if they are large."""
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("DEEP_RASTER_CACHE", str(tmp_path / "cache"))
    package = make_package()
    torch.save({"weight": torch.ones(3)}, tmp_path / "model" / "weights.pth")
    session = Noting(tmp_path)
    with pytest.raises(DeepRasterError if ending == ".xyz" else AssertionError):
        detect.run(jobs.DetectObjects((raster,), package, str(tmp_path / f"o{ending}")), session)
    expected = ["open_model", "plan_inference?"]
    assert session.tasks == (expected if ending == ".xyz" else [*expected, "import_weights", "plan_inference"])
