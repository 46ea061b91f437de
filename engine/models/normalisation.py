"""From raster values to what a network was trained on: one affine map per band, stated by the model definition.

Every usual scheme (scaling, min-max, mean and standard deviation, ImageNet statistics, or min-max followed by mean and
standard deviation) is ``value * gain + bias`` per band, so one fused pass over the pixels carries out any of them.
Pixels keep their native type until this point: 16-bit data is never squeezed to 8 bits unless ``DataRange`` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import DefinitionError

if TYPE_CHECKING:
    from ..package.emd import ModelDefinition

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_ARCGIS_LEARN = "arcgis.learn.models._inferencing"
_SERVICE_BANDS = {"LandsatService": 7, "SentinelService": 12}
METHODS = ("none", "scale", "imagenet", "min_max", "mean_std")

Numbers = Tuple[float, ...]


@dataclass(frozen=True)
class Normalisation:
    """How pixels become network input, ``(x - Min) / (Max - Min)``, ``(x - Mean) / Std`` and the like.

    Attributes:
        method: one of :data:`METHODS`.
        mean, std: per band in the order of ``ExtractBands``, in raster values ("mean_std"), or of the values already
            scaled to 0..1 by min-max ("min_max" with both given, as arcgis.learn does it).
        minimum, maximum: per band in raster values ("min_max").
        divisor: what raster values are divided by ("scale"), or the raster value of white ("imagenet": 255 or 1).
        data_range: the range to which values of an integer type are rescaled before everything else; the source
            range is that of the type. Floating-point values have no such range and stay as they are.
        fill_value: raster value that takes the place of pixels without data; None puts zero in after normalisation,
            which is the mean of what the network has seen.
        service: a public image service that the training pixels came from ("LandsatService", "SentinelService"): its
            reflectances are turned back into the digital numbers that the statistics are about.
    """

    method: str = "none"
    mean: Numbers = ()
    std: Numbers = ()
    minimum: Numbers = ()
    maximum: Numbers = ()
    divisor: float = 255.0
    data_range: Optional[Tuple[float, float]] = None
    fill_value: Optional[float] = None
    service: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DefinitionError(
                f"The model definition asks for the normalisation '{self.method}', which is not known.",
                stage="reading the definition",
                hint=f"Known are: {', '.join(METHODS)}.",
            )
        needed = {"min_max": ("minimum", "maximum"), "mean_std": ("mean", "std")}.get(self.method, ())
        lengths = {len(getattr(self, name)) for name in needed}
        if needed and (lengths == {0} or len(lengths) != 1):
            raise DefinitionError(
                f"The normalisation '{self.method}' needs one {needed[0]} and one {needed[1]} per band.",
                stage="reading the definition",
            )
        if self.method == "min_max" and len(self.mean) != len(self.std):
            raise DefinitionError(
                "The normalisation statistics have a different number of means and standard deviations.",
                stage="reading the definition",
            )
        if not self.divisor:
            raise DefinitionError("The normalisation divides by zero.", stage="reading the definition")

    @classmethod
    def imagenet(cls, white: float = 255.0, fill_value: Optional[float] = None) -> Normalisation:
        """Return ImageNet statistics for three bands whose white is ``white`` (255 or 1)."""
        return cls("imagenet", divisor=white, fill_value=fill_value)

    @classmethod
    def from_statistics(
        cls,
        method: str,
        *,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        minimum: Sequence[float] = (),
        maximum: Sequence[float] = (),
        divisor: float = 255.0,
        fill_value: Optional[float] = None,
    ) -> Normalisation:
        """Build a normalisation from statistics of the training pixels, per band, in raster values."""
        use_range = method == "min_max"
        use_moments = method == "mean_std"
        return cls(
            method,
            mean=_numbers(mean) if use_moments else (),
            std=_numbers(std) if use_moments else (),
            minimum=_numbers(minimum) if use_range else (),
            maximum=_numbers(maximum) if use_range else (),
            divisor=float(divisor),
            fill_value=fill_value,
        )

    @classmethod
    def from_definition(cls, definition: ModelDefinition) -> Normalisation:
        """Read what the definition says.

        ``Normalization`` (written by this program) counts first, then ``NormalizationStats`` or the ImageNet
        statistics of packages made by ArcGIS, then ``DataRange`` alone.
        """
        members = definition.get("Normalization", None)
        if isinstance(members, Mapping):
            return cls.from_members(members)
        framework = (definition.framework or "").lower()
        service = str(definition.get("Preprocessing", "")) if framework == _ARCGIS_LEARN else ""
        statistics = definition.get("NormalizationStats", None)
        if isinstance(statistics, Mapping):
            return replace(cls._from_arcgis(statistics, definition), service=service)
        if framework in (_ARCGIS_LEARN, "pytorch"):
            # Packages of both kinds are fed 0..255 and masked pixels arrive there as 0.
            return replace(cls.imagenet(255.0, fill_value=0.0), service=service)
        data_range = definition.data_range
        low_high = (float(data_range[0]), float(data_range[1])) if data_range else None
        return cls("none", data_range=low_high, fill_value=0.0)

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Normalisation:
        """Read a ``Normalization`` member; :meth:`to_members` is the inverse."""
        fill = members.get("Fill")
        data_range = members.get("DataRange")
        return cls(
            str(members.get("Method", "none")).lower(),
            mean=_numbers(members.get("Mean") or ()),
            std=_numbers(members.get("Std") or ()),
            minimum=_numbers(members.get("Min") or ()),
            maximum=_numbers(members.get("Max") or ()),
            divisor=float(members.get("Scale", 255.0)),
            data_range=(float(data_range[0]), float(data_range[1])) if data_range else None,
            fill_value=None if fill is None else float(fill),
        )

    @classmethod
    def _from_arcgis(cls, statistics: Mapping[str, Any], definition: ModelDefinition) -> Normalisation:
        """Pick the statistics of the extracted bands; arcgis.learn lists them for every band of the training raster."""
        bands = definition.get("Bands", None) or ()
        names = [str(band).lower() for band in bands]
        count = len(statistics.get("band_min_values") or ())
        chosen = list(definition.extract_bands or range(count))

        def pick(member: str) -> Numbers:
            values = statistics.get(member)
            if values is None:
                return ()
            picked = []
            for band in chosen:
                place = names.index(band.lower()) if isinstance(band, str) and band.lower() in names else band
                if not isinstance(place, int) or not 0 <= place < len(values):
                    raise DefinitionError(
                        f"NormalizationStats of the model definition has no entry for band {band}.",
                        stage="reading the definition",
                        hint="ExtractBands must name bands of the raster the model was trained on.",
                    )
                picked.append(values[place])
            return _numbers(picked)

        return cls(
            "min_max",
            mean=pick("scaled_mean_values"),
            std=pick("scaled_std_values"),
            minimum=pick("band_min_values"),
            maximum=pick("band_max_values"),
            fill_value=0.0,
        )

    def without_moments(self) -> Normalisation:
        """Return only the part that brings values to 0..1: min-max, or the division by white.

        Networks that normalise again inside (torchvision's detectors) are fed this.
        """
        if self.method == "imagenet":
            return replace(self, method="scale")
        return replace(self, mean=(), std=()) if self.method == "min_max" else self

    def to_members(self) -> dict[str, Any]:
        """Return the ``Normalization`` member of a definition; :meth:`from_definition` reads it back."""
        members: dict[str, Any] = {"Method": self.method}
        lists = {"Mean": self.mean, "Std": self.std, "Min": self.minimum, "Max": self.maximum}
        members.update({name: list(values) for name, values in lists.items() if values})
        if self.method in ("scale", "imagenet"):
            members["Scale"] = self.divisor
        if self.data_range is not None:
            members["DataRange"] = list(self.data_range)
        if self.fill_value is not None:
            members["Fill"] = self.fill_value
        return members

    def gain_and_bias(
        self, bands: int, dtype: npt.DTypeLike
    ) -> Tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the factors and the summands per band for pixels of a type.

        Raises:
            DefinitionError: the statistics are for another number of bands.
        """
        gain, bias = np.ones(bands), np.zeros(bands)
        kind = np.dtype(dtype)
        if self.data_range is not None and kind.kind in "ui":
            low, high = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
            gain *= (self.data_range[1] - self.data_range[0]) / (high - low)
            bias += self.data_range[0] - low * gain
        for offset, divisor in self._steps(bands):
            gain, bias = gain / divisor, (bias - offset) / divisor
        return gain, bias

    def _steps(self, bands: int) -> list[Tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Return (offset, divisor) pairs to be applied one after the other."""
        if self.method == "none":
            return []
        if self.method == "scale":
            return [(np.zeros(bands), np.full(bands, self.divisor))]
        if self.method == "imagenet":
            mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
            return [(self._per_band(mean * self.divisor, bands), self._per_band(std * self.divisor, bands))]
        if self.method == "mean_std":
            return [(self._per_band(self.mean, bands), _not_zero(self._per_band(self.std, bands)))]
        low = self._per_band(self.minimum, bands)
        steps = [(low, _not_zero(self._per_band(self.maximum, bands) - low))]
        if self.mean:
            steps.append((self._per_band(self.mean, bands), _not_zero(self._per_band(self.std, bands))))
        return steps

    def _per_band(self, values: Sequence[float] | npt.NDArray[np.float64], bands: int) -> npt.NDArray[np.float64]:
        if len(values) != bands:
            raise DefinitionError(
                f"The model normalises {len(values)} bands, but it is given {bands}.",
                stage="normalising",
                hint="Choose as many bands as the model was trained on, in the same order.",
            )
        return np.asarray(values, dtype=np.float64)

    def apply(
        self, pixels: npt.NDArray[np.generic], valid: Optional[npt.NDArray[np.bool_]] = None
    ) -> npt.NDArray[np.float32]:
        """Return the network's input.

        Args:
            pixels: (N, bands, rows, columns) in any real type; not changed.
            valid: (N, rows, columns), True where a pixel holds data; None if all do.

        Returns:
            (N, bands, rows, columns) float32, C-contiguous, without NaN where ``valid`` is False.
        """
        pixels = self._digital_numbers(pixels)
        gain, bias = self.gain_and_bias(pixels.shape[1], pixels.dtype)
        # Types with more than 24 significant bits lose their small differences if cast to float32 first.
        wide = (pixels.dtype.kind in "ui" and pixels.dtype.itemsize > 2) or pixels.dtype == np.float64
        work = np.float64 if wide else np.float32
        shape = (1, -1, 1, 1)
        # A source without data may hold NaN or infinities there; they are replaced below.
        with np.errstate(invalid="ignore", over="ignore"):
            result = np.multiply(pixels, gain.astype(work).reshape(shape), dtype=work)
            if bias.any():
                result += bias.astype(work).reshape(shape)
        normalised: npt.NDArray[np.float32] = result.astype(np.float32, copy=False)
        if valid is not None and not valid.all():
            fill = np.zeros_like(bias) if self.fill_value is None else self.fill_value * gain + bias
            for band, value in enumerate(fill):
                normalised[:, band][~valid] = value
        return normalised

    def _digital_numbers(self, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Undo the reflectance scaling of a public image service, for its full set of bands as 32-bit floats only."""
        bands = _SERVICE_BANDS.get(self.service)
        if pixels.dtype != np.float32 or pixels.shape[1] != bands:
            return pixels
        values: npt.NDArray[np.float32] = pixels.astype(np.float32)
        with np.errstate(invalid="ignore"):
            if self.service == "LandsatService":
                values = (np.clip(values, 0, 1) + np.float32(0.2)) / np.float32(0.0000275)
            else:
                values = np.clip(np.rint(values * np.float32(10_000)), 0, 65_535)
        return values


def _numbers(values: Sequence[Any]) -> Numbers:
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"The normalisation statistics of the model definition are not numbers: {values!r}.",
            stage="reading the definition",
        ) from error


def _not_zero(divisor: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Constant bands have no spread: they are centred and left at that."""
    return np.where(divisor == 0, 1.0, divisor)
