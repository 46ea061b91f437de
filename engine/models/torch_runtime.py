"""Running a PyTorch network over numpy batches: device, memory layout, precision, and memory that runs out."""

from __future__ import annotations

import logging
from typing import Callable, Optional, Sequence, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ModelError
from .normalisation import Normalisation
from .torch_fold import folded

logger = logging.getLogger(__name__)
HALF_TOLERANCE = 1e-3
Result = TypeVar("Result")
Predict = Callable[[torch.Tensor], Sequence[Result]]


class Runner:
    """A network on its device.

    Args:
        network: loaded weights; put into evaluation mode here.
        normalisation: from raster values to network input.
        device: "cpu", "cuda:0" or "mps".
        threads: native threads for the CPU.
    """

    def __init__(self, network: torch.nn.Module, normalisation: Normalisation, device: str, threads: int) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.normalisation = normalisation
        try:
            # Convolutions in channels_last order take 0.5 to 0.7 of the time on a CPU and use tensor cores on a GPU.
            moved = network.eval().to(self.device)
            self.network = moved.to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"The network cannot be moved to the device '{device}': {_first_line(error)}",
                stage="loading the model",
                hint="Set PROCESSOR to CPU, or check the driver and the memory of the GPU.",
            ) from error
        self._limit: Optional[int] = None
        self._half = False

    def fold(self, bands: int, side: int, part: str = "") -> None:
        """Fold batch normalisations, after loading.

        Args:
            bands: of a trial image.
            side: of a trial image that suits the network, in pixels.
            part: the trunk of a detector, whose other parts do not take images.
        """
        generator = torch.Generator().manual_seed(0)
        example = torch.randn((1, bands, side, side), generator=generator).to(self.device)
        if part:
            trunk = folded(self.network.get_submodule(part), example)
            setattr(self.network, part, trunk.to(memory_format=torch.channels_last))
        else:
            self.network = folded(self.network, example).to(memory_format=torch.channels_last)

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on a CUDA device."""
        return self.device.type == "cuda"

    def prepare(self, pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> torch.Tensor:
        """Return the network's input on the device, (N, bands, rows, columns) float32."""
        if self.on_gpu and pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2:
            return self._prepare_on_gpu(pixels, valid)
        images = torch.from_numpy(self.normalisation.apply(pixels, valid)).to(self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _prepare_on_gpu(self, pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> torch.Tensor:
        """Scale on the device: a byte crosses the bus in a quarter of the time of a float."""
        gain, bias = self.normalisation.gain_and_bias(pixels.shape[1], pixels.dtype)
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).to(torch.float32)
        images *= torch.as_tensor(gain, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        images += torch.as_tensor(bias, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
        if not valid.all():
            raw = self.normalisation.fill_value
            fill = np.zeros_like(bias) if raw is None else raw * gain + bias
            outside = torch.from_numpy(~valid).to(self.device).unsqueeze(1)
            filling = torch.as_tensor(fill, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
            images = torch.where(outside, filling, images)
        return images.contiguous(memory_format=torch.channels_last)

    def run(self, images: torch.Tensor, predict: Predict[Result]) -> list[Result]:
        """Return one result per image; a batch that does not fit into memory is halved, down to single images.

        Args:
            images: what :meth:`prepare` returned.
            predict: maps some of the images to as many results.

        Raises:
            ModelError: not even one image fits, or the network fails.
        """
        results: list[Result] = []
        with torch.inference_mode():
            while len(results) < len(images):
                size = min(self._limit or len(images), len(images) - len(results))
                try:
                    results.extend(predict(images[len(results) : len(results) + size]))
                except RuntimeError as error:
                    self._shrink(size, images, error)
        return results

    def precise(self, images: torch.Tensor, predict: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return ``predict(images)``, in half precision if :meth:`try_half` found that to be exact enough."""
        with torch.autocast("cuda", torch.float16, enabled=self._half):
            return predict(images).float()

    def try_half(self, predict: Callable[[torch.Tensor], torch.Tensor], shape: Sequence[int]) -> bool:
        """Use half precision from now on if it changes no score by more than :data:`HALF_TOLERANCE`.

        Args:
            predict: maps images to scores between 0 and 1.
            shape: (N, bands, rows, columns) of the trial; its content is noise with the spread that normalised
                pixels have, the same in every worker, so that all decide alike.
        """
        if not self.on_gpu:
            return False
        noise = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(self.device)
        noise = noise.contiguous(memory_format=torch.channels_last)
        try:
            with torch.inference_mode():
                full = predict(noise).float()
                with torch.autocast("cuda", torch.float16):
                    half = predict(noise).float()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            return False
        self._half = bool(((full - half).abs() <= HALF_TOLERANCE).all())
        return self._half

    def _shrink(self, size: int, images: torch.Tensor, error: RuntimeError) -> None:
        if not is_out_of_memory(error):
            raise ModelError(
                f"The network failed on an image of {images.shape[3]} x {images.shape[2]} pixels with "
                f"{images.shape[1]} bands: {_first_line(error)}",
                stage="predicting",
            ) from error
        if self.on_gpu:
            torch.cuda.empty_cache()
        if size <= 1:
            raise ModelError(
                f"The memory of the device '{self.device}' does not suffice for one image of {images.shape[3]} x "
                f"{images.shape[2]} pixels.",
                stage="predicting",
                hint="Set a smaller tile_size in the model arguments, or PROCESSOR to CPU.",
            ) from error
        self._limit = size // 2
        logger.warning(
            "The memory of the device '%s' does not suffice for %d images at once; going on with %d.",
            self.device,
            size,
            self._limit,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
