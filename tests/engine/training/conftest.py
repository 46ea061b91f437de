import pytest
import torch
from deep_raster.engine.jobs import TrainModel
from deep_raster.engine.training.tasks import train_model
from deep_raster.engine.workers.task import TaskContext


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(tmp_path):
    """Run the task in this process; returns its receipt and the events it sent."""
    import dataclasses

    def run(**members):
        told = []
        context = TaskContext(scratch=tmp_path, device="cpu", threads=1, emit=told.append)
        job = TrainModel(**members)
        return train_model(dataclasses.asdict(job), context), told

    return run
