"""The whole job through a real engine process and its worker."""

import os
from pathlib import Path

import pytest
from deep_raster.engine import events
from deep_raster.engine.client import run_job
from deep_raster.engine.errors import ChipError
from deep_raster.engine.jobs import TrainModel
from deep_raster.engine.models.loader import load_model
from deep_raster.engine.package.dlpk import open_package
from training_chips import detection_folder


def test_a_model_is_trained_by_an_engine_process(tmp_path):
    chips = detection_folder(tmp_path / "chips", chips=8)
    told = []
    job = TrainModel(
        inputs=(str(chips),),
        output=str(tmp_path / "out"),
        model_type="FCOS",
        epochs=2,
        batch_size=2,
        validation=0.25,
        processor="CPU",
        arguments={"width": "8", "channels": "16", "head_convs": "1"},
        name="trees",
    )
    values = run_job(job, on_event=told.append, is_cancelled=lambda: False)
    assert set(values) == {"OUTPUT", "MODEL", "REPORT", "BEST_METRIC"}
    assert Path(values["MODEL"]) == tmp_path / "out" / "trees.dlpk"
    figures = {(one.name, one.step) for one in told if isinstance(one, events.Metric)}
    assert {("train_loss", 1), ("train_loss", 2), ("valid_loss", 2)} <= figures
    package = open_package(values["MODEL"])
    assert not package.has_code
    model = load_model(package, device="cpu", threads=1, arguments={})
    assert model.plan.width == 64
    broken = TrainModel(inputs=(str(tmp_path / "none"),), output=str(tmp_path / "no"), model_type="FCOS")
    with pytest.raises(ChipError) as error:
        run_job(broken, on_event=told.append, is_cancelled=lambda: False)
    assert "There is no folder" in str(error.value)
    assert not os.path.exists(tmp_path / "no")
