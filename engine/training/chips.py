"""The chips of a training: several folders as one set, checked, split into a training and a validation part.

Every chip is read once before the training starts: broken ones are found then and not after hours, and the pixel
statistics that normalise the network's input come from the training part alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..chips.dataset import Chip, ChipClass, ChipDataset, open_chips
from ..errors import ChipError, DeepRasterError, TrainingError
from .augmentation import IGNORED, Sample
from .settings import CLASSIFICATION, INSTANCE, SEGMENTATION
from .splitting import Member, split

STAGE = "reading the training chips"
# A folder in which more chips than this are broken is a broken folder.
_MOST_BROKEN = 0.2
_CACHE_BYTES = 1 << 30


@dataclass
class Statistics:
    """Sums over valid pixels per band, from which mean and spread follow without a second pass."""

    count: int
    total: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, bands: int) -> Statistics:
        """Return statistics of nothing."""
        zero = np.zeros(bands)
        return cls(0, zero.copy(), zero.copy(), np.full(bands, np.inf), np.full(bands, -np.inf))

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Add (bands, pixels) values."""
        if values.shape[1]:
            self.count += values.shape[1]
            self.total += values.sum(axis=1)
            self.squares += (values * values).sum(axis=1)
            self.minimum = np.minimum(self.minimum, values.min(axis=1))
            self.maximum = np.maximum(self.maximum, values.max(axis=1))

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean per band."""
        return self.total / max(self.count, 1)

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Standard deviation per band; 1 for a constant band."""
        spread = np.sqrt(np.maximum(self.squares / max(self.count, 1) - self.mean**2, 0))
        return np.where(spread > 1e-9, spread, 1.0)


@dataclass
class TrainingSet:
    """All chips that are fit for use.

    Attributes:
        task: what the labels are read for.
        classes: of all folders together.
        bands: of every chip.
        training, validation: chips of the two parts.
        statistics: of the pixels of the training part.
        object_sizes: (n,) sides (root of the area) of the objects of the training part, in pixels.
        counts: labelled things (objects, pixels, images) per class position in the training part.
        problems: sentences on what was passed over.
        left_out: number of good chips in neither part: those that share pixels with both, and the export's test part.
        ignored_values: class values that count as unlabelled.
    """

    task: str
    classes: tuple[ChipClass, ...]
    bands: int
    training: list[Member] = field(default_factory=list)
    validation: list[Member] = field(default_factory=list)
    statistics: Statistics = field(default_factory=lambda: Statistics.empty(0))
    object_sizes: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    counts: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    left_out: int = 0
    ignored_values: frozenset[int] = frozenset()
    _kept: dict[Path, Sample] = field(default_factory=dict, repr=False)
    _kept_bytes: int = 0

    @property
    def pixel_space(self) -> bool:
        """Whether images have an up and a down."""
        return any(member.folder.reference_system == "PIXEL_SPACE" for member in self.training)

    @property
    def white(self) -> float:
        """Raster value of white for changes of light; 0 if values may be negative, where light is no factor."""
        return float(self.statistics.maximum.max()) if self.statistics.minimum.min() >= 0 else 0.0

    def digest(self) -> str:
        """Return a hash of which chips are used for what, to tell whether a training may be resumed."""
        lines = [
            f"{part} {member.chip.image.name} {member.chip.image.stat().st_size} "
            + " ".join(str(label.stat().st_size) for label in member.chip.labels)
            for part, members in (("t", self.training), ("v", self.validation))
            for member in members
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def sample(self, member: Member) -> Sample:
        """Return a chip with its labels; chips stay in memory up to a gigabyte.

        Raises:
            DeepRasterError: it cannot be read or does not fit the others.
        """
        kept = self._kept.get(member.chip.image)
        if kept is not None:
            return kept
        sample = _read(member, self.task, self.bands, self.classes, self.ignored_values)
        size = sum(
            array.nbytes for array in (sample.pixels, sample.valid, sample.masks, sample.targets) if array is not None
        )
        if self._kept_bytes + size <= _CACHE_BYTES:
            self._kept[member.chip.image] = sample
            self._kept_bytes += size
        return sample


def open_folders(paths: Sequence[str]) -> list[ChipDataset]:
    """Open all folders and check that they belong together.

    Raises:
        ChipError: a folder is missing or broken, or its chips are of another kind than those of the first.
    """
    folders = [open_chips(path) for path in paths]
    if not folders:
        raise ChipError("No folder of training chips is given.", stage=STAGE)
    first = folders[0]
    for other in folders[1:]:
        for what, mine, its in (
            ("format", first.format, other.format),
            ("number of bands", first.bands, other.bands),
            ("reference system", first.reference_system, other.reference_system),
        ):
            if mine != its:
                raise ChipError(
                    f"The folders cannot be trained together: the {what} is {mine} in “{first.folder}” and {its} "
                    f"in “{other.folder}”.",
                    stage=STAGE,
                    file=str(other.folder),
                )
    return folders


def merged_classes(folders: Sequence[ChipDataset]) -> tuple[ChipClass, ...]:
    """Return the classes of all folders, by value; without the entry of unlabelled ground (value 0 of class maps).

    Raises:
        ChipError: one value has two names.
    """
    found: dict[int, ChipClass] = {}
    for folder in folders:
        for one in folder.classes:
            known = found.setdefault(one.value, one)
            if known.name.lower() != one.name.lower():
                raise ChipError(
                    f"The class value {one.value} is called “{known.name}” in one folder and “{one.name}” in another.",
                    stage=STAGE,
                    file=str(folder.folder),
                    hint="Use one class schema for all folders.",
                )
    return tuple(found[value] for value in sorted(found))


def prepare(
    folders: Sequence[ChipDataset],
    task: str,
    validation: float,
    seed: int,
    *,
    ignored_values: Sequence[float] = (),
    tell: Callable[[float], None] = lambda _share: None,
) -> TrainingSet:
    """Read every chip once and split them.

    Args:
        folders: from :func:`open_folders`.
        task: detection, instance, segmentation or classification.
        validation: share to hold back; 0 to train on everything.
        seed: decides which blocks are held back where the folders do not say it.
        ignored_values: class values that count as unlabelled.
        tell: called with the share done.

    Raises:
        ChipError: too many chips are broken, or too few are left.
        TrainingError: nothing is labelled.
    """
    ignored = frozenset(int(value) for value in ignored_values)
    classes = tuple(
        one
        for one in merged_classes(folders)
        if not (task == SEGMENTATION and (one.value == 0 or one.value in ignored))
    )
    if not classes:
        raise TrainingError(
            "The training chips have no classes.",
            stage=STAGE,
            file=str(folders[0].folder),
            hint="Export the training data with a class field.",
        )
    made = TrainingSet(task, classes, folders[0].bands, ignored_values=ignored)
    made.problems = [sentence for folder in folders for sentence in folder.problems]
    every = [Member(folder, chip) for folder in folders for chip in folder.chips]
    good = []
    for number, member in enumerate(every):
        try:
            made.sample(member)
            good.append(member)
        except DeepRasterError as error:
            made.problems.append(f"{member.chip.image.name}: {error}")
        tell((number + 1) / len(every))
    _refuse_broken(len(every), len(good), made.problems, folders[0].folder)
    made.training, made.validation = split(good, validation, seed)
    made.left_out = len(good) - len(made.training) - len(made.validation)
    _gather(made)
    return made


def _refuse_broken(total: int, good: int, problems: Sequence[str], folder: Path) -> None:
    broken = total - good
    if broken > _MOST_BROKEN * total or good < 2:
        raise ChipError(
            f"{broken} of {total} training chips cannot be used"
            + (f"; the first reasons: {' '.join(problems[:3])}" if problems else "."),
            stage=STAGE,
            file=str(folder),
            hint="Export the training data again; at least two good chips and four fifths of all are needed.",
        )


def _gather(made: TrainingSet) -> None:
    """Fill statistics, sizes and counts from the training part."""
    made.statistics = Statistics.empty(made.bands)
    sizes: list[npt.NDArray[np.float64]] = []
    for member in made.training:
        sample = made.sample(member)
        made.statistics.add(sample.pixels[:, sample.valid].astype(np.float64))
        if made.task == SEGMENTATION and sample.targets is not None:
            values, counts = np.unique(sample.targets[sample.targets != IGNORED], return_counts=True)
            made.counts.update({int(value): int(count) for value, count in zip(values, counts, strict=True)})
        elif made.task == CLASSIFICATION:
            made.counts[sample.label] += 1
        else:
            made.counts.update(int(label) for label in sample.labels)
            edges = sample.boxes.astype(np.float64)
            sizes.append(np.sqrt((edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])))
    made.object_sizes = np.concatenate(sizes) if sizes else np.zeros(0)
    if not made.counts:
        raise TrainingError(
            "Nothing is labelled in the chips for training.",
            stage=STAGE,
            file=str(made.training[0].folder.folder),
            hint="Check that the labels lie on the raster and that their classes are those of the export.",
        )


def _read(member: Member, task: str, bands: int, classes: Sequence[ChipClass], ignored: frozenset[int]) -> Sample:
    """Read one chip and check it against the set."""
    folder, chip = member.folder, member.chip
    pixels, valid = folder.image(chip)
    if len(pixels) != bands:
        raise ChipError(f"The chip has {len(pixels)} bands, the others have {bands}.", file=str(chip.image))
    if not valid.any():
        raise ChipError("The chip holds no data at all.", file=str(chip.image))
    if pixels.dtype.kind == "f":
        valid = valid & np.isfinite(pixels).all(axis=0)
        pixels = np.where(valid, pixels, 0)
    positions = {one.value: place for place, one in enumerate(classes)}
    sample = Sample(pixels, valid, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), name=chip.stem)
    if task == SEGMENTATION:
        sample.targets = _targets(folder.class_map(chip), valid, positions, ignored, chip)
    elif task == CLASSIFICATION:
        names = {one.name: place for place, one in enumerate(classes)}
        known = [names[name] for name in folder.names(chip) if name in names]
        if not known:
            raise ChipError("The chip's class is not among the classes.", file=str(chip.image))
        sample.label = known[0]
    elif task == INSTANCE:
        found = folder.instances(chip)
        if found.masks.shape[1:] != valid.shape:
            raise ChipError("The chip's masks have another size than its image.", file=str(chip.image))
        boxes = found.boxes()
        sample.boxes, sample.labels = _inside(boxes.boxes, valid.shape), _positions(boxes.labels, positions)
        keep = _worth(sample.boxes)
        sample.masks = found.masks[keep]
        sample.boxes, sample.labels = sample.boxes[keep], sample.labels[keep]
    else:
        plain = folder.boxes(chip)
        boxes_inside = _inside(plain.boxes, valid.shape)
        keep = _worth(boxes_inside)
        sample.boxes, sample.labels = boxes_inside[keep], _positions(plain.labels, positions)[keep]
    return sample


def _targets(
    values: npt.NDArray[np.int64],
    valid: npt.NDArray[np.bool_],
    positions: dict[int, int],
    ignored: frozenset[int],
    chip: Chip,
) -> npt.NDArray[np.int64]:
    """Turn class values into positions; 0, ignored classes and pixels without data are not learnt."""
    values = values[0] if values.ndim == 3 else values
    if values.shape != valid.shape:
        raise ChipError(
            f"The label has {values.shape[1]} x {values.shape[0]} pixels, the image {valid.shape[1]} x "
            f"{valid.shape[0]}.",
            file=str(chip.labels[0]),
        )
    targets = np.full(values.shape, IGNORED, dtype=np.int64)
    for value in np.unique(values):
        if int(value) in positions:
            targets[values == value] = positions[int(value)]
        elif value != 0 and int(value) not in ignored:
            raise ChipError(f"The label has the value {value}, which is no class.", file=str(chip.labels[0]))
    targets[~valid] = IGNORED
    return targets


def _inside(boxes: npt.NDArray[np.float32], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.clip(boxes, 0, np.array([size[1], size[0]] * 2, dtype=np.float32)).astype(np.float32)


def _worth(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)


def _positions(values: npt.NDArray[np.int64], positions: dict[int, int]) -> npt.NDArray[np.int64]:
    return np.array([positions.get(int(value), 0) for value in values], dtype=np.int64)
