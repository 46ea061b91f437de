"""The loop: resuming to the bit, surviving kills, memory that runs out, numbers that explode."""

import dataclasses
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from deep_raster.engine import events
from deep_raster.engine.errors import OutputError, TrainingError
from deep_raster.engine.package.dlpk import open_package
from deep_raster.engine.training import checkpoint, detection, trainer
from deep_raster.engine.training.checkpoint import BEST, LAST, PREVIOUS, Checkpoints
from training_chips import detection_folder

SMALL = {"width": "8", "channels": "16", "head_convs": "1"}


def members(folder, output, **changes):
    return {
        "inputs": (str(folder),),
        "output": str(output),
        "model_type": "FCOS",
        "epochs": 3,
        "batch_size": 2,
        "validation": 0.3,
        "arguments": SMALL,
        **changes,
    }


def weights(receipt):
    package = open_package(receipt["MODEL"])
    return torch.load(package.file(package.definition.model_file), weights_only=True)


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def break_off(train, monkeypatch):
    """Train, but end with an error after so many steps; each step is saved, in the middle of an epoch as well."""
    learn = trainer.Trainer._learn
    monkeypatch.setattr(trainer, "_SAVE_EVERY", 0.0)

    def run(after, **job):
        steps = []

        def stopping(self, samples):
            if len(steps) == after:
                raise KeyboardInterrupt
            steps.append(1)
            learn(self, samples)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.Trainer, "_learn", stopping)
            with pytest.raises(KeyboardInterrupt):
                train(**job)

    return run


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, train, break_off, stop_after):
    folder = detection_folder(tmp_path / "chips", chips=6)
    whole, _ = train(**members(folder, tmp_path / "whole"))
    break_off(stop_after, **members(folder, tmp_path / "parts"))
    resumed, told = train(**members(folder, tmp_path / "parts"))
    assert any("goes on after epoch" in one.text for one in told if isinstance(one, events.Log))
    assert same(weights(whole), weights(resumed))
    assert resumed["BEST_METRIC"] == whole["BEST_METRIC"] or resumed["BEST_METRIC"] != resumed["BEST_METRIC"]
    # Nothing of the work in progress is left beside the result.
    assert {one.name for one in (tmp_path / "parts").iterdir()} == {"model.dlpk", "model.html"}


def test_another_seed_starts_anew_and_says_why(tmp_path, train, break_off):
    folder = detection_folder(tmp_path / "chips", chips=4)
    break_off(2, **members(folder, tmp_path / "out"))
    resumed, told = train(**members(folder, tmp_path / "out", seed=7))
    fresh, _ = train(**members(folder, tmp_path / "fresh", seed=7))
    assert any("differs in chips, seed" in one.text for one in told if isinstance(one, events.Log))
    assert same(weights(resumed), weights(fresh))


def save_for_ever(folder, ready):
    """Do nothing but save, in a process of its own."""
    kept, number = Checkpoints(folder), 0
    while True:
        number += 1
        kept.save({"number": number, "tensor": torch.full((50_000,), float(number))})
        os.write(ready, b".")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_a_whole_checkpoint_remains(tmp_path):
    """A process that saves all the time is killed again and again; what it leaves can always be read."""
    rng = random.Random(3)
    for _ in range(12):
        arrived, ready = os.pipe()
        child = os.fork()
        if child == 0:
            save_for_ever(tmp_path, ready)
        os.read(arrived, 1)
        time.sleep(0.05 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(arrived)
        os.close(ready)
        state = Checkpoints(tmp_path).load(pytest.fail)
        assert torch.equal(state["tensor"], torch.full((50_000,), float(state["number"])))


@pytest.mark.parametrize("damage", ["cut", "zeros", "flip"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    kept, told = Checkpoints(tmp_path), []
    for number in (1, 2):
        kept.save({"number": number, "tensor": torch.arange(1000.0)})
    data = bytearray((tmp_path / LAST).read_bytes())
    middle = data.find(torch.arange(1000.0).numpy().tobytes()) + 500
    assert middle > 500
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "zeros":
        data[middle : middle + 200] = bytes(200)
    else:
        data[middle] ^= 4
    (tmp_path / LAST).write_bytes(data)
    state = kept.load(told.append)
    assert state["number"] == 1
    assert "last.pt" in told[0]
    assert "damaged" in told[0]


def test_a_full_disk_while_saving_keeps_the_last_state(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.save({"number": 1})

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OutputError) as error:
        kept.save({"number": 2})
    assert "No space left" in str(error.value)
    monkeypatch.undo()
    assert kept.load(pytest.fail) == {"number": 1}
    assert sorted(one.name for one in tmp_path.iterdir()) == [LAST]


def test_the_files_of_a_checkpoint_need_no_pickle_of_objects(tmp_path, train, monkeypatch):
    folder = detection_folder(tmp_path / "chips", chips=4)
    monkeypatch.setattr(Checkpoints, "remove", lambda self: None)
    train(**members(folder, tmp_path / "out", epochs=2))
    for name in (LAST, PREVIOUS, BEST):
        assert isinstance(torch.load(tmp_path / "out" / ".training" / name, weights_only=True), dict)


def test_memory_that_runs_out_halves_the_batch_and_keeps_the_step(tmp_path, train, monkeypatch):
    folder = detection_folder(tmp_path / "chips", chips=4)
    losses, sizes = detection.DetectionFamily.losses, []

    def scarce(self, network, samples, device):
        sizes.append(len(samples))
        if len(samples) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return losses(self, network, samples, device)

    monkeypatch.setattr(detection.DetectionFamily, "losses", scarce)
    _, told = train(**members(folder, tmp_path / "out", epochs=2, batch_size=4, validation=0.0))
    assert sizes == [4, 2, 2, 2, 2]
    assert any("Memory ran out" in one.text for one in told if isinstance(one, events.Log))


def test_gradients_in_parts_are_those_of_the_whole_batch():
    """With a linear model and a mean loss, the accumulated gradient equals that of the batch."""
    torch.manual_seed(0)
    network, data = torch.nn.Linear(3, 1), torch.randn(6, 3)

    class Mean:
        def losses(self, net, samples, device):
            return {"loss": net(torch.stack(list(samples))).pow(2).mean()}

    class Light:
        _gradients = trainer.Trainer._gradients

    loop = Light()
    loop.network, loop.family, loop.device = network, Mean(), torch.device("cpu")
    loop.optimizer = torch.optim.SGD(network.parameters(), 0.1)
    loop.settings = type("S", (), {"options": {"precision": "float32"}})
    found = []
    for micro in (6, 4, 1):
        loop.at = trainer.Progress(micro=micro)
        total = loop._gradients(list(data))
        found.append((total, network.weight.grad.clone()))
    expected = torch.autograd.grad(network(data).pow(2).mean(), network.weight)[0]
    for total, gradient in found:
        assert total == pytest.approx(float(network(data).pow(2).mean()), rel=1e-5)
        assert torch.allclose(gradient, expected, atol=1e-6)


def test_a_loss_that_is_no_number_goes_back_and_ends_with_the_best(tmp_path, train, monkeypatch):
    folder = detection_folder(tmp_path / "chips", chips=4)
    losses, calls = detection.DetectionFamily.losses, []

    def exploding(self, network, samples, device):
        found = losses(self, network, samples, device)
        calls.append(1)
        return {name: one * float("nan") for name, one in found.items()} if len(calls) > 4 else found

    monkeypatch.setattr(detection.DetectionFamily, "losses", exploding)
    receipt, told = train(**members(folder, tmp_path / "out", epochs=20, batch_size=2, validation=0.0))
    texts = [one.text for one in told if isinstance(one, events.Log)]
    assert any("back to the last state, at half the rate" in text and "000000000" in text for text in texts)
    assert any("ends with its best state" in text for text in texts)
    assert all(torch.isfinite(one).all() for one in weights(receipt).values())
    assert len(calls) <= 4 + 3 + 3
    monkeypatch.setattr(detection.DetectionFamily, "losses", lambda *a: {"x": losses(*a)["classification"] * np.nan})
    with pytest.raises(TrainingError) as error:
        train(**members(folder, tmp_path / "never", epochs=20, batch_size=2, validation=0.0))
    assert "Lower LEARNING_RATE" in str(error.value)


def test_early_stopping_keeps_the_best_epoch(tmp_path, train, monkeypatch):
    folder = detection_folder(tmp_path / "chips", chips=6)
    figures, states = iter([0.2, 0.5, 0.4, 0.5005, 0.3, 0.9]), []

    def judged(self, network, samples, device):
        states.append({name: one.clone() for name, one in network.state_dict().items()})
        return {"valid_loss": 1.0, "average_precision": next(figures)}

    monkeypatch.setattr(detection.DetectionFamily, "evaluate", judged)
    monkeypatch.setattr("deep_raster.engine.training.tasks._finish", lambda *parts: {"trainer": parts[2]})
    receipt, told = train(**members(folder, tmp_path / "out", epochs=6, early_stopping=3))
    assert [one.step for one in told if isinstance(one, events.Metric) and one.name == "train_loss"] == [1, 2, 3, 4, 5]
    # Epoch 4 is better by less than what counts as progress: it is kept, but does not reset the count.
    assert same(receipt["trainer"].average.state_dict(), states[3])


def test_the_runner_asks_for_one_worker_with_all_cores(tmp_path):
    from deep_raster.engine.jobs import TrainModel
    from deep_raster.engine.training import runner

    calls = []

    class Session:
        def call(self, task, payload, placement=None):
            calls.append((task, payload, placement))
            return {"MODEL": "m"}

    job = TrainModel(inputs=("a",), output="b", model_type="UNET", processor="CPU")
    assert runner.run(job, Session()) == {"MODEL": "m"}
    task, payload, placement = calls[0]
    assert (task, placement.processor) == ("train_model", "CPU")
    assert placement.threads == len(os.sched_getaffinity(0))
    assert payload == dataclasses.asdict(job)
