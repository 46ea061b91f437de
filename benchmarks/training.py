"""The training loop against forward, backward and step alone, on chips exported from a scene."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import engines
import models
import numpy as np
import rasterio
import scenes
import torch
from deep_raster.engine import events, jobs
from deep_raster.engine.models import networks
from deep_raster.engine.training.tasks import train_model
from deep_raster.engine.workers.task import TaskContext
from measure import Table, progress, spread
from torch import nn

_BATCH, _EPOCHS, _STEPS = 8, 2, 4


def loop(asked: argparse.Namespace) -> None:
    """Compare the second epoch of a training in this process, loading included, with the steps alone."""
    torch.set_num_threads(1)
    chips = _chips(asked.scratch, asked.side)
    rounds = []
    for number in range(asked.rounds + 1):
        limit = _steps_alone(asked.side)
        ours, images = _training(asked.scratch, chips, asked.side)
        progress(f"steps alone {limit:.2f}, training {ours:.2f} images per CPU second ({images} images)")
        if number:
            rounds.append((limit, ours))
    table = Table(
        f"Training, {models.NAMES['resnet18']}, {asked.side} px, batch {_BATCH}, one thread (images per CPU second)",
        "forward, backward, step alone (channels_last)", "training, second epoch", "ratio",
    )  # fmt: skip
    ratios = [ours / limit for limit, ours in rounds]
    table.row(spread(one for one, _ in rounds), spread(one for _, one in rounds), f"**{spread(ratios)}**")


def _chips(scratch: Path, side: int) -> Path:
    """Return a folder of 36 classified tiles with their image chips."""
    folder = scratch / f"chips_{side}"
    if (folder / "esri_model_definition.emd").exists():
        return folder
    extent = 6 * side
    raster = scenes.make(scratch / f"chips_{side}.tif", extent, extent)
    labels = scratch / f"labels_{side}.tif"
    with rasterio.open(raster) as data:
        profile = {**data.profile, "count": 1, "dtype": "uint8", "interleave": "band", "predictor": 1}
    with rasterio.open(labels, "w", **profile) as out:
        out.write(scenes.classes(np.arange(extent), np.arange(extent)).astype(np.uint8) + 1, 1)
    job = jobs.ExportTrainingData(
        inputs=(jobs.RasterInput(str(raster)),),
        output=str(folder),
        format="Classified_Tiles",
        label_raster=jobs.RasterInput(str(labels)),
        tile_size_x=side,
        tile_size_y=side,
        split=(1.0, 0.0, 0.0),
    )
    with engines.WarmEngine(scratch) as engine:
        engine.run(job)
    return folder


def _training(scratch: Path, chips: Path, side: int) -> tuple[float, int]:
    """Return images per CPU second of the last epoch, and how many images it has."""
    output = scratch / "trained"
    shutil.rmtree(output, ignore_errors=True)
    job = jobs.TrainModel(
        inputs=(str(chips),),
        output=str(output),
        model_type="UNET",
        backbone="resnet18",
        epochs=_EPOCHS,
        batch_size=_BATCH,
        chip_size=side,
        validation=0.0,
        processor=jobs.CPU,
        resume=False,
    )
    marks: list[float] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.Metric) and event.name == "train_loss":
            marks.append(time.process_time())

    members: dict[str, Any] = jobs.to_dict(job)
    members.pop("job")
    train_model(members, TaskContext(scratch, "cpu", 1, listen))
    images = len(list((chips / "images").glob("*.tif"))) // _BATCH * _BATCH
    return images / (marks[-1] - marks[-2]), images


def _steps_alone(side: int) -> float:
    """Return images per CPU second of the same network on one batch in memory."""
    network = networks.build(models.OWN, 3, 3, (side, side)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    pixels = torch.from_numpy(scenes.rows_of(2048, 0, side)).float() / 255
    columns = [(2048 - side) // _BATCH * number for number in range(_BATCH)]
    batch = torch.stack([pixels[:, :, column : column + side] for column in columns])
    batch = batch.contiguous(memory_format=torch.channels_last)
    truth = torch.from_numpy(scenes.classes(np.arange(side), np.arange(2048)))
    wanted = torch.stack([truth[:, column : column + side] for column in columns])
    start = 0.0
    for step in range(_STEPS + 1):
        if step == 1:
            start = time.process_time()
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batch), wanted).backward()
        optimizer.step()
    return _STEPS * _BATCH / (time.process_time() - start)
