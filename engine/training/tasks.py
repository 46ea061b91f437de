"""The worker's part of training a model: from folders of chips to a model package with its report."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, Iterator

import torch

from .. import jobs
from ..errors import JobError, OutputError
from ..events import INFO, WARNING, Log, Progress
from ..jobs import TrainModel
from ..package.writing import write_package
from ..workers.task import TaskContext
from . import packaging, pictures, report
from .augmentation import central, padded, parse
from .checkpoint import Checkpoints
from .chips import TrainingSet, open_folders, prepare
from .settings import CLASSIFICATION, SEGMENTATION, Settings, settle, training_options
from .start import Start, parameters, start
from .trainer import Progress as Reached
from .trainer import Trainer

_STATE = ".training"
_EXAMPLES = 4
_MANY_PROBLEMS = 10


def train_model(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """Carry out a :class:`~..jobs.TrainModel` job; the receipt holds its named outputs."""
    job = jobs.value_from_dict(TrainModel, payload, "trainmodel")
    name = _checked_name(job)
    context.emit(Progress(0.0, "Reading the training chips"))
    folders = open_folders(job.inputs)
    settings = settle(job, folders[0].format, min(min(one.width, one.height) for one in folders))
    changes = parse(job.augmentation, pixel_space=folders[0].reference_system == "PIXEL_SPACE")
    chips = prepare(
        folders,
        settings.task,
        settings.validation,
        settings.seed,
        ignored_values=settings.options.get("ignore_classes") or (),
        tell=lambda share: context.emit(Progress(0.04 * share, "Reading the training chips")),
    )
    _tell_chips(chips, context)
    device = torch.device(context.device)
    with _reproducible(context.threads):
        begun = start(job, settings, chips, lambda text: context.emit(Log(INFO, text)))
        settings = begun.settings
        network = begun.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainer = Trainer(
            network=network,
            family=begun.family,
            chips=chips,
            settings=settings,
            normalisation=begun.normalisation,
            changes=changes,
            device=device,
            checkpoints=Checkpoints(Path(job.output) / _STATE),
            emit=context.emit,
            resumable=_identity(job, settings, chips),
            frozen=begun.frozen,
            span=(0.04, 0.95),
        )
        started = time.monotonic()
        reached = trainer.run(job.resume)
        context.emit(Progress(0.95, "Writing the model package"))
        return _finish(job, name, trainer, begun, reached, time.monotonic() - started)


def _checked_name(job: TrainModel) -> str:
    name = job.name.strip()
    if not name or any(letter in '<>:"/\\|?*' or ord(letter) < 32 for letter in name) or name.strip(".") == "":
        raise JobError(
            f"The name of the model, “{job.name}”, cannot be the name of a file.", stage="checking the training"
        )
    if not job.output:
        raise JobError("No output folder is given.", stage="checking the training")
    if Path(job.output).exists() and not Path(job.output).is_dir():
        raise JobError(
            "The output is a file, but a folder is expected.", file=job.output, stage="checking the training"
        )
    return name


def _tell_chips(chips: TrainingSet, context: TaskContext) -> None:
    names = [one.name for one in chips.classes]
    counts = ", ".join(f"{name} {chips.counts.get(place, 0)}" for place, name in enumerate(names))
    what = {SEGMENTATION: "labelled pixels", CLASSIFICATION: "chips"}.get(chips.task, "objects")
    context.emit(
        Log(INFO, f"{len(chips.training)} chips to learn from, {len(chips.validation)} held back; {what}: {counts}.")
    )
    if chips.left_out:
        context.emit(
            Log(
                INFO,
                f"{chips.left_out} chips are not used: they overlap those held back, or the export keeps them for "
                "tests. VALIDATION=0 learns from all chips.",
            )
        )
    absent = [name for place, name in enumerate(names) if not chips.counts.get(place)]
    if absent:
        context.emit(Log(WARNING, f"There is nothing to learn from for the classes {', '.join(absent)}."))
    for sentence in chips.problems[:_MANY_PROBLEMS]:
        context.emit(Log(WARNING, sentence))
    if len(chips.problems) > _MANY_PROBLEMS:
        context.emit(
            Log(WARNING, f"{len(chips.problems) - _MANY_PROBLEMS} more chips were passed over; see the report.")
        )
    if not chips.validation:
        context.emit(Log(WARNING, "No chips are held back, so nothing says how well the model will do elsewhere."))


@contextlib.contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Use the worker's threads, and only algorithms that give the same result each time where there are such."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(max(1, threads))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(before)


def _identity(job: TrainModel, settings: Settings, chips: TrainingSet) -> dict[str, Any]:
    """Return what must not have changed for an interrupted training to be gone on with."""
    members = settings.to_members()
    defaults = {option.name for option in training_options(settings.task)}
    flat = {key: value for key, value in members.items() if key not in ("network", "options")}
    flat |= {f"network.{key}": value for key, value in members["network"].items()}
    flat |= {f"options.{key}": value for key, value in members["options"].items() if key in defaults}
    flat |= {
        "chips": chips.digest(),
        "classes": [[one.value, one.name] for one in chips.classes],
        "backbone_weights": job.backbone_weights,
        "pretrained_model": job.pretrained_model,
    }
    return {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}


def _finish(
    job: TrainModel, name: str, trainer: Trainer, begun: Start, reached: Reached, seconds: float
) -> dict[str, Any]:
    """Judge the best weights once more, and write package, report and what belongs to them."""
    settings, chips, family, network = begun.settings, trainer.chips, begun.family, trainer.average
    figures = dict(reached.history[-1]) if reached.history else {}
    if chips.validation:
        figures |= family.evaluate(network, trainer.validation_samples(), trainer.device)
    content = report.ReportContent(
        name=name,
        facts=_facts(settings, chips, trainer, reached, seconds),
        history=reached.history,
        monitor=settings.monitor,
        best_epoch=reached.best_epoch,
        rows=family.rows,
        examples=_examples(trainer, begun),
        problems=chips.problems,
    )
    members = packaging.definition(settings, chips, begun.normalisation, name=name, figures=figures, rows=family.rows)
    files: dict[str, Any] = {
        f"{name}.pth": packaging.weights(network),
        "model_metrics.html": report.fragment(content).encode("utf-8"),
        "ModelCharacteristics/loss_graph.svg": _standalone_svg(reached),
    }
    if content.examples:
        files["ModelCharacteristics/show_results.png"] = content.examples
    folder = Path(job.output)
    package = write_package(folder / f"{name}.dlpk", members, files)
    page = folder / f"{name}.html"
    _write_whole(page, report.render(content).encode("utf-8"))
    trainer.checkpoints.remove()
    best = figures.get(settings.monitor)
    if best is None:
        best = figures.get("train_loss")
    known = best is not None and best == best
    return {
        "OUTPUT": job.output,
        "MODEL": str(package.path),
        "REPORT": str(page),
        "BEST_METRIC": best if known else None,
    }


def _standalone_svg(reached: Reached) -> bytes:
    drawing = report.chart(reached.history, ("train_loss", "valid_loss"))
    return drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode("utf-8")


def _facts(
    settings: Settings, chips: TrainingSet, trainer: Trainer, reached: Reached, seconds: float
) -> dict[str, str]:
    return {
        "Model type": f"{settings.architecture} ({settings.task})",
        "Backbone": settings.backbone,
        "Weights": f"{parameters(trainer.network):,}",
        "Chips": f"{len(chips.training)} to learn from, {len(chips.validation)} held back",
        "Epochs": f"{len(reached.history)} of {settings.epochs}; best: {reached.best_epoch}",
        "Steps": f"{trainer.steps} per epoch, {settings.batch} images of {settings.chip_size} px each",
        "Learning Rate": f"{settings.rate:g}",
        "Augmentation": settings.augmentation,
        "Seed": str(settings.seed),
        "Time": f"{seconds / 60:.1f} min on {trainer.device.type}",
    }


def _examples(trainer: Trainer, begun: Start) -> bytes:
    """Draw some chips that were held back (without any: some that were learnt from)."""
    members = trainer.chips.validation or trainer.chips.training
    step = max(1, len(members) // _EXAMPLES)
    palette = pictures.colors([one.color for one in trainer.chips.classes])
    drawn = []
    for member in members[::step][:_EXAMPLES]:
        whole = trainer.chips.sample(member)
        whole = central(whole, begun.settings.chip_size) if begun.settings.task == CLASSIFICATION else padded(whole, 64)
        found = begun.family.predict(trainer.average, trainer.normalised(whole), trainer.device)
        drawn.append(pictures.small(pictures.truth_and_prediction(whole, found, palette)))
    return pictures.stacked(drawn)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears complete or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"The report cannot be written: {error.strerror}.", stage="writing the report", file=str(path)
        ) from error
