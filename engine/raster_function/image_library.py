"""A stand-in for the one function of scikit-image that the published Keras functions call: ``transform.resize``.

scikit-image brings SciPy and more with it and is no part of the environment; where it is installed, it is used itself.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any, Optional, Sequence

import numpy as np
import numpy.typing as npt

from ..models.keras_resize import scale_images

_LACKS = "which scikit-image offers and its stand-in does not; install it: {} -m pip install scikit-image"


def install() -> None:
    """Let ``import skimage.transform`` give the stand-in where there is no scikit-image."""
    if "skimage" in sys.modules or importlib.util.find_spec("skimage") is not None:
        return
    package, transform = types.ModuleType("skimage"), types.ModuleType("skimage.transform")
    package.__path__ = []
    package.__dict__.update(__version__="0.14.0", transform=transform)  # the version whose ``resize`` is stood in for
    transform.__dict__.update(resize=resize)
    sys.modules.update({"skimage": package, "skimage.transform": transform})


def resize(
    image: npt.NDArray[Any],
    output_shape: Sequence[int],
    order: int = 1,
    mode: str = "reflect",
    cval: float = 0,
    clip: bool = True,
    preserve_range: bool = False,
    anti_aliasing: Optional[bool] = None,
) -> npt.NDArray[np.float64]:
    """Return an image (rows, columns) or (rows, columns, bands) at another size, as floating-point numbers.

    Bilinear, 0 outside, without smoothing before images are made smaller, as functions of that time expect it.

    Raises:
        NotImplementedError: another way of resizing is asked for.
    """
    array = np.asarray(image)
    if order != 1 or mode != "constant" or cval or not clip or anti_aliasing or array.ndim not in (2, 3):
        what = f"resize(order={order}, mode={mode!r}, cval={cval}, clip={clip}, anti_aliasing={anti_aliasing})"
        raise NotImplementedError(f"{what} is asked for, {_LACKS.format(sys.executable)}")
    values = array.astype(np.float64)
    if not preserve_range and array.dtype.kind in "ui":
        values /= np.iinfo(array.dtype).max
    rows, columns = (round(side) for side in output_shape[:2])
    stacked = values[np.newaxis] if array.ndim == 3 else values[np.newaxis, :, :, np.newaxis]
    scaled = np.asarray(scale_images(stacked, rows, columns)[0], dtype=np.float64)
    return scaled if array.ndim == 3 else scaled[:, :, 0]
