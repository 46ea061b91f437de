"""The loop of a training, the same for every kind of network.

What differs between kinds (how samples become a batch, what the loss is, how the result is judged) is a
:class:`Family`. The loop knows seeds, learning rate, running average of the weights, memory that runs out, numbers
that explode, checkpoints and stopping. On a CPU the same job gives the same weights to the bit, also if it was
interrupted: samples depend on seed, epoch and position only, and everything else is in the checkpoint.
"""

from __future__ import annotations

import copy
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping, Protocol, Sequence

import numpy as np
import torch
from torch import nn

from .. import events
from ..errors import TrainingError
from ..models.normalisation import Normalisation
from .augmentation import Augmentation, Sample, random_sample
from .checkpoint import Checkpoints
from .chips import TrainingSet
from .precision import autocast
from .settings import Settings

STAGE = "training"
_SAVE_EVERY = 600.0
_TELL_EVERY = 1.0
_MOST_EXPLOSIONS = 3
_LEAST_GAIN = 1e-3


class Family(Protocol):
    """What a kind of network brings to the loop."""

    def losses(self, network: nn.Module, samples: Sequence[Sample], device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the parts of the loss, each the mean over the batch."""
        ...

    def evaluate(self, network: nn.Module, samples: Iterator[Sample], device: torch.device) -> dict[str, float]:
        """Return figures of the validation part, among them ``valid_loss`` and the monitored one; NaN if undefined."""
        ...


@dataclass
class Progress:
    """Where a training stands; everything that a checkpoint needs beside the networks."""

    epoch: int = 0
    step: int = 0
    best: float = math.nan
    best_epoch: int = 0
    stale: int = 0
    rate_factor: float = 1.0
    micro: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trainer:
    """One training.

    Attributes:
        network: to be trained, on the device.
        family: its kind.
        chips: what it learns from.
        settings: how.
        normalisation: of its input.
        changes: of its samples.
        device: where it runs.
        checkpoints: where its state is kept.
        emit: sends events.
        resumable: members that must be the same for a checkpoint to be gone on with.
    """

    network: nn.Module
    family: Family
    chips: TrainingSet
    settings: Settings
    normalisation: Normalisation
    changes: Augmentation
    device: torch.device
    checkpoints: Checkpoints
    emit: Callable[[events.Event], None]
    resumable: dict[str, Any]
    frozen: Sequence[nn.Module] = ()
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        options = self.settings.options
        self.at = Progress(micro=self.settings.batch)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        learnt = [one for one in self.network.parameters() if one.requires_grad]
        # Scales and shifts of normalisation layers are not pulled towards zero.
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [one for one in learnt if one.ndim > 1], "weight_decay": options["weight_decay"]},
                {"params": [one for one in learnt if one.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.settings.rate,
        )
        repeats = options["samples_per_chip"] or self._covering()
        self.order_size = repeats * len(self.chips.training)
        self.steps = max(1, self.order_size // self.settings.batch)
        self._explosions: list[str] = []
        self._jumped = False  # whether a step has moved to another place of the training
        self._told = 0.0
        self._started = time.monotonic()
        self._start_position = 0.0

    def _covering(self) -> int:
        """Return how many crops cover a chip."""
        rows, columns = self.chips.sample(self.chips.training[0]).size
        return max(1, round(rows * columns / self.settings.chip_size**2))

    def run(self, resume: bool) -> Progress:
        """Train to the end and leave the best weights in ``average``.

        Raises:
            TrainingError: the loss is not a number from the start.
        """
        torch.manual_seed(self.settings.seed)
        if not (resume and self._resume()):
            self.checkpoints.clear()
        self._started, self._start_position = time.monotonic(), self._position()
        saved = time.monotonic()
        while self.at.epoch < self.settings.epochs:
            self._jumped = False
            for samples in self._batches(self.at.epoch, self.at.step):
                self._learn(samples)
                if self._jumped:
                    break
                self.at.step += 1
                self._tell()
                if time.monotonic() - saved > _SAVE_EVERY:
                    self.checkpoints.save(self._state())
                    saved = time.monotonic()
            if self._jumped:
                continue
            self._finish_epoch()
            self.checkpoints.save(self._state())
            saved = time.monotonic()
            if self.settings.patience and self.at.stale >= self.settings.patience:
                self._log(
                    f"No progress in {self.at.stale} epochs: the training ends after epoch {self.at.epoch}, "
                    f"the best was {self.at.best_epoch}."
                )
                break
        best = self.checkpoints.load_best(self._warn)
        if best is not None:
            self.average.load_state_dict(best["average"])
        return self.at

    # one step

    def _learn(self, samples: Sequence[Sample]) -> None:
        """Take one step of the optimiser, in as many parts as memory asks for."""
        position = self.at.epoch * self.steps + self.at.step
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * self.at.rate_factor * self._schedule(position)
        self.network.train()
        for module in self.frozen:
            module.eval()
        while True:
            try:
                loss = self._gradients(samples)
                break
            except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not self._halve(error):
                    raise
        length = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.options["clip_norm"])
        if not math.isfinite(loss) or not math.isfinite(float(length)):
            self._explode(samples)
            return
        self._explosions.clear()
        self.optimizer.step()
        self._follow(position)
        self.at.loss_sum += loss
        self.at.loss_count += 1

    def _gradients(self, samples: Sequence[Sample]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(samples), self.at.micro):
            part = samples[start : start + self.at.micro]
            with autocast(self.settings.options["precision"], self.device):
                losses = self.family.losses(self.network, part, self.device)
                loss = torch.stack([one.float() for one in losses.values()]).sum() * (len(part) / len(samples))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _halve(self, error: BaseException) -> bool:
        """After memory ran out, work in smaller parts; the step stays the same size."""
        words = str(error).lower()
        out_of_memory = isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
            "memory" in words and ("alloc" in words or "out of" in words)
        )
        if not out_of_memory or self.at.micro <= 1:
            return False
        self.at.micro = max(1, self.at.micro // 2)
        self._warn(f"Memory ran out: from now on {self.at.micro} images are worked on at once, in steps as before.")
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _explode(self, samples: Sequence[Sample]) -> None:
        """Leave out a step whose loss is no number; after three in a row go back and halve the learning rate once."""
        self._explosions += [sample.name for sample in samples]
        if len(self._explosions) < _MOST_EXPLOSIONS * len(samples):
            return
        names = ", ".join(sorted(set(self._explosions))[:8])
        self._explosions.clear()
        state = self.checkpoints.load(self._warn)
        if self.at.rate_factor == 1.0 and state is not None:
            self._restore(state)
            self.at.rate_factor, self._jumped = 0.5, True
            self._warn(f"The loss is not a number any more (chips {names}): back to the last state, at half the rate.")
            return
        if state is None and self.at.rate_factor == 1.0:
            self.at.rate_factor = 0.5
            self._warn(f"The loss is not a number (chips {names}): the learning rate is halved.")
            return
        if self.at.best_epoch == 0:
            raise TrainingError(
                f"The loss is not a number; the last chips were {names}.",
                stage=STAGE,
                hint="Lower LEARNING_RATE, and look at these chips for extreme values.",
            )
        self._warn(f"The loss is not a number again (chips {names}): the training ends with its best state.")
        self.at.epoch, self._jumped = self.settings.epochs, True

    def _schedule(self, position: int) -> float:
        """Return the share of the highest learning rate: up along half a cosine, then down to nearly nothing."""
        total = max(1, self.settings.epochs * self.steps - 1)
        warm = self.settings.options["warm_up"] * total
        if position < warm:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * position / warm)) / 2
        left = (position - warm) / max(1e-9, total - warm)
        return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * min(1.0, left))) / 2

    @torch.no_grad()
    def _follow(self, position: int) -> None:
        """Move the average towards the network; at first quickly, so that it forgets the random start."""
        keep = min(self.settings.options["ema"], (1 + position) / (10 + position))
        for mine, its in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(its, 1 - keep)
            else:
                mine.copy_(its)

    # samples

    def _batches(self, epoch: int, first: int) -> Iterator[list[Sample]]:
        """Give the batches of an epoch from step ``first``; the next one is made while one is learnt."""
        order = np.random.default_rng([self.settings.seed, 2, epoch]).permutation(self.order_size)
        size = self.settings.batch

        def make(step: int) -> list[Sample]:
            places = [order[number % len(order)] for number in range(step * size, (step + 1) * size)]
            return [self._random(epoch, step * size + number, int(place)) for number, place in enumerate(places)]

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(make, first) if first < self.steps else None
            for step in range(first, self.steps):
                samples = coming.result() if coming is not None else make(step)
                coming = pool.submit(make, step + 1) if step + 1 < self.steps else None
                yield samples

    def _random(self, epoch: int, number: int, place: int) -> Sample:
        whole = self.chips.sample(self.chips.training[place % len(self.chips.training)])
        rng = np.random.default_rng([self.settings.seed, 3, epoch, number])
        sample = random_sample(whole, self.settings.chip_size, self.changes, self.chips.white, rng)
        return self.normalised(sample)

    def normalised(self, sample: Sample) -> Sample:
        """Return the sample as the network takes it."""
        pixels = self.normalisation.apply(sample.pixels[None], sample.valid[None])[0]
        return Sample(
            pixels, sample.valid, sample.boxes, sample.labels, sample.masks, sample.targets, sample.label, sample.name
        )

    def validation_samples(self) -> Iterator[Sample]:
        """Give the chips of the validation part, whole and unchanged."""
        for member in self.chips.validation:
            yield self.normalised(self.chips.sample(member))

    # epochs

    def _finish_epoch(self) -> None:
        figures = {"train_loss": self.at.loss_sum / self.at.loss_count if self.at.loss_count else math.nan}
        if self.chips.validation:
            figures |= self.family.evaluate(self.average, self.validation_samples(), self.device)
        self.at.epoch += 1
        self.at.step, self.at.loss_sum, self.at.loss_count = 0, 0.0, 0
        figures["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        self.at.history.append(figures)
        for name, value in figures.items():
            if math.isfinite(value):
                self.emit(events.Metric(name, value, self.at.epoch))
        self._judge(figures)
        self._tell(force=True)

    def _judge(self, figures: Mapping[str, float]) -> None:
        """Keep the epoch if it is the best so far; without figures the latest is the best."""
        monitor, higher = self.settings.monitor, self.settings.higher_is_better
        value = figures.get(monitor, math.nan)
        if not math.isfinite(figures["train_loss"]):
            return  # no step of this epoch was taken
        known = math.isfinite(value)
        gain = (value - self.at.best) * (1 if higher else -1) if known and math.isfinite(self.at.best) else math.inf
        if not known and math.isfinite(self.at.best):
            self.at.stale += 1
            return
        self.at.stale = 0 if gain >= _LEAST_GAIN and known else self.at.stale + 1
        if gain >= 0:
            self.at.best, self.at.best_epoch = value, self.at.epoch
            self.checkpoints.save_best({"average": self.average.state_dict(), "epoch": self.at.epoch})

    # state

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_random": torch.get_rng_state(),
            "progress": dict(vars(self.at)),
            "resumable": self.resumable,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_random"])
        self.at = Progress(**state["progress"])

    def _resume(self) -> bool:
        """Go on where an interrupted training of the same kind stopped; return whether there was one."""
        state = self.checkpoints.load(self._warn)
        if state is None:
            return False
        before, now = state.get("resumable", {}), self.resumable
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if changed:
            self._warn(
                f"A training that was interrupted cannot be gone on with, because this one differs in "
                f"{', '.join(changed)}; it starts anew."
            )
            return False
        self._restore(state)
        self._log(f"The training goes on after epoch {self.at.epoch}, step {self.at.step}.")
        return True

    # telling

    def _position(self) -> float:
        return (self.at.epoch + self.at.step / self.steps) / self.settings.epochs

    def _tell(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._told < _TELL_EVERY:
            return
        self._told = now
        share = min(1.0, self._position())
        done = share - self._start_position
        text = f"Epoch {min(self.at.epoch + 1, self.settings.epochs)} of {self.settings.epochs}"
        if self.at.history:
            latest = self.at.history[-1]
            for name, label in (("train_loss", "loss"), (self.settings.monitor, self.settings.monitor)):
                if math.isfinite(latest.get(name, math.nan)):
                    text += f", {label.replace('_', ' ')} {latest[name]:.3f}"
        if done > 0.01:
            text += f", about {math.ceil((now - self._started) / done * (1 - share) / 60)} min left"
        self.emit(events.Progress(self.span[0] + (self.span[1] - self.span[0]) * share, text))

    def _log(self, text: str) -> None:
        self.emit(events.Log(events.INFO, text))

    def _warn(self, text: str) -> None:
        self.emit(events.Log(events.WARNING, text))
