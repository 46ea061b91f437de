"""Statistics of exported chips: per band and per class, exact to add up in any grouping, to and from Esri's JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

Members = Dict[str, Any]


@dataclass
class BandStatistics:
    """Count, extremes, mean and sum of squared deviations of one band's valid pixels."""

    count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0

    def add(self, other: BandStatistics) -> None:
        """Add what another set of pixels holds (Chan, Golub, LeVeque 1983)."""
        if not other.count:
            return
        total = self.count + other.count
        delta = other.mean - self.mean
        self.mean += delta * other.count / total
        self.squares += other.squares + delta * delta * self.count * other.count / total
        self.count = total
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)

    @property
    def deviation(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def to_state(self) -> Members:
        """Return Esri's ``BandStatsState`` entry."""
        low, high = (self.minimum, self.maximum) if self.count else (0.0, 0.0)
        return {"Min": low, "Max": high, "Mean": 0, "StdDev": 0, "M1": self.mean, "M2": self.squares, "Num": self.count}

    @classmethod
    def from_state(cls, members: Mapping[str, Any]) -> BandStatistics:
        """Read Esri's ``BandStatsState`` entry."""
        count = int(members.get("Num", 0))
        if not count:
            return cls()
        low, high, mean, squares = (float(members.get(key, 0)) for key in ("Min", "Max", "M1", "M2"))
        return cls(count, low, high, mean, squares)


def band_statistics(pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> List[BandStatistics]:
    """Return the statistics of each band of (bands, rows, columns) where ``valid`` (rows, columns)."""
    values = pixels.reshape(len(pixels), -1) if valid.all() else pixels[:, valid]
    count = values.shape[1]
    if not count:
        return [BandStatistics() for _ in values]
    if values.dtype == np.uint8:
        sums, squares = _sums_of_bytes(values)
        means = sums / count
        deviations = squares - sums * means
    else:
        exact = values.astype(np.float64)
        means = exact.mean(axis=1)
        exact -= means[:, None]
        deviations = np.einsum("ij,ij->i", exact, exact)
    return [
        BandStatistics(count, float(low), float(high), float(mean), max(0.0, float(deviation)))
        for low, high, mean, deviation in zip(values.min(axis=1), values.max(axis=1), means, deviations)
    ]


def _sums_of_bytes(values: npt.NDArray[np.uint8]) -> Tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return exact sums and sums of squares of rows; 256 squares of bytes still are exact in 32-bit floats."""
    bands, count = values.shape
    whole = count // 256 * 256
    parts = values[:, :whole].reshape(bands, -1, 256).astype(np.float32)
    sums = np.einsum("ijk->ij", parts).sum(axis=1, dtype=np.float64)
    squares = np.einsum("ijk,ijk->ij", parts, parts).sum(axis=1, dtype=np.float64)
    rest = values[:, whole:].astype(np.float64)
    return sums + rest.sum(axis=1), squares + (rest * rest).sum(axis=1)


@dataclass
class Spread:
    """Esri's five-member object of a quantity: minimum, maximum, mean, sum and count."""

    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Add one value."""
        self.merge(Spread(value, value, value, 1))

    def merge(self, other: Spread) -> None:
        """Add all values of another spread."""
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.total += other.total
        self.count += other.count

    @property
    def mean(self) -> float:
        """Mean; 0 without values."""
        return self.total / self.count if self.count else 0.0

    def to_members(self) -> Members:
        """Return Esri's object."""
        low, high = (self.minimum, self.maximum) if self.count else (0.0, 0.0)
        return {"Min": low, "Max": high, "Mean": self.mean, "Sum": self.total, "Count": self.count}

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Spread:
        """Read Esri's object."""
        count = int(members.get("Count", 0))
        if not count:
            return cls()
        return cls(float(members["Min"]), float(members["Max"]), float(members["Sum"]), count)


@dataclass
class ClassStatistics:
    """How often classes occur.

    Attributes:
        images: number of chips, those without labels included.
        per_image: features (or classes) per chip.
        images_of: chips that hold a class.
        number_of: features (or pixels) of a class.
        sizes_of: area of a class' features (or pixels of the class in a chip).
    """

    images: int = 0
    per_image: Spread = field(default_factory=Spread)
    images_of: Dict[int, int] = field(default_factory=dict)
    number_of: Dict[int, int] = field(default_factory=dict)
    sizes_of: Dict[int, Spread] = field(default_factory=dict)

    def add_features(self, values: Sequence[int], areas: Sequence[float]) -> None:
        """Add a chip with its features: class value and area in map units of each."""
        self.images += 1
        self.per_image.add(len(values))
        for value in set(values):
            self.images_of[value] = self.images_of.get(value, 0) + 1
        for value, area in zip(values, areas):
            self.number_of[value] = self.number_of.get(value, 0) + 1
            self.sizes_of.setdefault(value, Spread()).add(area)

    def add_pixels(self, counts: Mapping[int, int]) -> None:
        """Add a chip with its number of pixels of each class that it holds."""
        self.images += 1
        self.per_image.add(len(counts))
        for value, count in counts.items():
            self.images_of[value] = self.images_of.get(value, 0) + 1
            self.number_of[value] = self.number_of.get(value, 0) + count
            self.sizes_of.setdefault(value, Spread()).add(count)

    def merge(self, other: ClassStatistics) -> None:
        """Add all chips of another set."""
        self.images += other.images
        self.per_image.merge(other.per_image)
        for value in other.number_of:
            self.images_of[value] = self.images_of.get(value, 0) + other.images_of.get(value, 0)
            self.number_of[value] = self.number_of.get(value, 0) + other.number_of[value]
            self.sizes_of.setdefault(value, Spread()).merge(other.sizes_of.get(value, Spread()))

    def to_dict(self) -> Members:
        """Return JSON-ready members for our own receipts."""
        return {
            "images": self.images,
            "per_image": self.per_image.to_members(),
            "classes": [
                [value, self.images_of.get(value, 0), self.number_of[value], self.sizes_of[value].to_members()]
                for value in sorted(self.number_of)
            ],
        }

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> ClassStatistics:
        """Read what :meth:`to_dict` returns."""
        result = cls(int(members["images"]), Spread.from_members(members["per_image"]))
        for value, images, number, sizes in members["classes"]:
            result.images_of[int(value)], result.number_of[int(value)] = int(images), int(number)
            result.sizes_of[int(value)] = Spread.from_members(sizes)
        return result

    def to_esri(self, values: Sequence[int], pixels: bool) -> Members:
        """Return Esri's ``FeatureStats`` or ``ClassPixelStats``; arrays follow the order of ``values``."""
        images = [self.images_of.get(one, 0) for one in values]
        numbers = [self.number_of.get(one, 0) for one in values]
        sizes = [self.sizes_of.get(one, Spread()).to_members() for one in values]
        head: Members = {"NumClasses": len(values), "NumImagesTotal": self.images}
        if pixels:
            return head | {
                "NumImagesPerClass": images,
                "NumPixelsPerClass": numbers,
                "NumClassesPerImage": self.per_image.to_members(),
                "PixelsPerClass": sizes,
            }
        return head | {
            "NumFeaturesTotal": sum(numbers),
            "NumImagesPerClass": images,
            "NumFeaturesPerClass": numbers,
            "NumFeaturesPerImage": self.per_image.to_members(),
            "FeatureAreaPerClass": sizes,
        }

    @classmethod
    def from_esri(cls, members: Optional[Mapping[str, Any]], values: Sequence[int], pixels: bool) -> ClassStatistics:
        """Read Esri's ``FeatureStats`` or ``ClassPixelStats`` of classes in the order of ``values``."""
        if not members:
            return cls()
        spread = members.get("NumClassesPerImage" if pixels else "NumFeaturesPerImage", {})
        result = cls(int(members.get("NumImagesTotal", 0)), Spread.from_members(spread))
        numbers = members.get("NumPixelsPerClass" if pixels else "NumFeaturesPerClass", ())
        sizes = members.get("PixelsPerClass" if pixels else "FeatureAreaPerClass", ())
        for value, images, number, size in zip(values, members.get("NumImagesPerClass", ()), numbers, sizes):
            result.images_of[value], result.number_of[value] = int(images), int(number)
            result.sizes_of[value] = Spread.from_members(size)
        return result
