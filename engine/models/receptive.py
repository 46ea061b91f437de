"""How far a network looks: measured, so that tiles with the right halo give the very pixels of one whole image.

A block of NaN in the input marks every output pixel that depends on it. Networks that look everywhere (global
pooling, attention) or whose grid depends on the image's size show themselves and are not called exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional, Sequence

import numpy as np

from ..errors import ModelError
from .network import Network, OutOfDeviceMemory

if TYPE_CHECKING:
    import torch

    Forward = Callable[[torch.Tensor], torch.Tensor]
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Reach:
    """How far a network looks.

    Attributes:
        halo: pixels on each side that cover the receptive field, a multiple of ``multiple``; None for networks that
            look at the whole image (attention, global pooling, normalisation by the image).
        multiple: tiles must begin at multiples of this, the stride of the network's coarsest grid.
    """

    halo: Optional[int]
    multiple: int


def reach_of_network(network: Network, image: str, output: str, bands: int, limit: int) -> Optional[Reach]:
    """Return the reach of a PyTorch network behind arrays; None if images of other sizes do not tell it.

    Args:
        network: takes one float32 tensor, (N, bands, rows, columns).
        image: name of its input.
        output: name of the output, (N, rows, columns) or (N, channels, rows, columns).
        bands: bands of the input.
        limit: largest halo of interest, in pixels.
    """
    import torch

    def forward(images: torch.Tensor) -> torch.Tensor:
        answer = torch.from_numpy(np.asarray(network.run({image: images.cpu().numpy()}, [output])[0], np.float32))
        return answer if answer.ndim == 4 else answer.unsqueeze(1)

    try:
        return measure_reach(forward, bands, limit, torch.device("cpu"))
    except (ModelError, OutOfDeviceMemory, ValueError):
        return None  # a network of one size alone


def measure_reach(
    forward: Forward, bands: int, limit: int, device: torch.device, multiples: Sequence[int] = MULTIPLES
) -> Optional[Reach]:
    """Return the reach of a network; None above ``limit`` pixels.

    The marked region is taken block by block: a halo of k blocks suffices when a block changes at most k blocks on
    either side, because an output in one block then depends on no block further away. A cut at that halo is compared
    with the whole image, because resizing by corners, for example, shifts with the size.

    Args:
        forward: (1, bands, rows, columns) to (1, channels, rows, columns).
        bands: bands of the input.
        limit: largest halo of interest, in pixels.
        device: where the network is.
        multiples: strides that the network may have, in rising order.
    """
    import torch

    coarsest = multiples[-1]
    # Every side is a multiple of every stride, because some networks take no others.
    window = -(-(2 * limit + coarsest) // coarsest) * coarsest
    side, start = window + coarsest, window // 2 // coarsest * coarsest
    image = torch.rand((1, bands, side, side), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        whole = forward(image)
        if whole.shape[-2:] != image.shape[-2:]:
            return None
        for multiple in multiples:
            marked = image.clone()
            marked[:, :, start : start + multiple, start : start + multiple] = float("nan")
            touched = torch.isnan(forward(marked)).any(dim=1)[0]
            if bool(touched.all()):
                return Reach(None, 1)
            blocks = _reach_in_blocks(touched, start, multiple)
            if blocks is None or blocks * multiple > limit:
                return None
            halo = blocks * multiple
            cut = forward(image[:, :, multiple : multiple + window, multiple : multiple + window].contiguous())
            inner = slice(halo, window - halo)
            place = slice(multiple + halo, multiple + window - halo)
            if torch.allclose(
                cut[:, :, inner, inner], whole[:, :, place, place], rtol=1e-4, atol=1e-4 * float(whole.abs().max())
            ):
                return Reach(halo, multiple)
    return None


def _reach_in_blocks(touched: torch.Tensor, start: int, multiple: int) -> Optional[int]:
    rows, columns = touched.any(dim=1).nonzero(), touched.any(dim=0).nonzero()
    if not len(rows):
        return None
    first = min(int(rows[0]), int(columns[0]))
    last = max(int(rows[-1]), int(columns[-1]))
    if first == 0 or last == len(touched) - 1:
        return None
    pixels = max(start - first, last - (start + multiple - 1), 0)
    return -(-pixels // multiple)
