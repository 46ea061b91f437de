"""ONNX Runtime behind the interface of a network: devices, threads, memory, and failures as sentences."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import onnxruntime

from ..errors import ModelError
from .network import Array, OutOfDeviceMemory, TensorInfo
from .onnx_file import read_onnx
from .onnx_reach import onnx_reach
from .receptive import Reach

logger = logging.getLogger(__name__)

Provider = Union[str, Tuple[str, dict[str, Any]]]

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_MEMORY_SIGNS = (
    "failed to allocate memory",
    "out of memory",
    "bad allocation",
    "bad_alloc",
    "cudnn_status_alloc_failed",
)
_CPU = "CPUExecutionProvider"
# device kind -> providers to try, best first; the CPU always comes last
_PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
    "dml": ("DmlExecutionProvider",),
    "openvino": ("OpenVINOExecutionProvider",),
    "mps": ("CoreMLExecutionProvider",),
    "coreml": ("CoreMLExecutionProvider",),
}


class OnnxNetwork:
    """An ONNX file loaded by ONNX Runtime.

    Attributes:
        inputs, outputs: the tensors, in the order of the file.
        providers: the execution providers in use, for logs and reports.
    """

    def __init__(self, path: Path, device: str, threads: int) -> None:
        """Load ``path`` on ``device`` ("cpu", "cuda:0", "tensorrt:0", "dml:0", "openvino", "mps").

        Raises:
            ModelError: ONNX Runtime refuses the file.
        """
        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads)
        options.inter_op_num_threads = 1
        # Several single-threaded workers share the cores; waiting in a loop would take them from each other.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # A plan of memory per shape of tile is kept beside the arena and doubles it; reuse within the arena is as fast.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        chosen = choose_providers(device, onnxruntime.get_available_providers())
        self._session = self._start(options, chosen)
        self.providers: Tuple[str, ...] = tuple(self._session.get_providers())
        if device != "cpu" and self.providers == (_CPU,):
            logger.warning("ONNX Runtime of this environment cannot use the device %s: the CPU is used.", device)
        self.inputs: Sequence[TensorInfo] = tuple(_info(item) for item in self._session.get_inputs())
        self.outputs: Sequence[TensorInfo] = tuple(_info(item) for item in self._session.get_outputs())

    def _start(self, options: Any, chosen: Sequence[Tuple[str, dict[str, Any]]]) -> Any:
        """Return a session on the best of the chosen providers that starts; the last of them is the CPU."""
        refusal: Optional[Exception] = None
        for place, (name, _) in enumerate(chosen):
            try:
                return onnxruntime.InferenceSession(str(self._path), options, providers=list(chosen[place:]))
            except Exception as error:  # ONNX Runtime raises classes of its own without a common root
                refusal = error
                if name != _CPU:
                    # A driver or library is missing or too old; the network itself may be sound.
                    logger.info("ONNX Runtime cannot start %s: %s", name, _first_line(error))
        raise ModelError(
            f"ONNX Runtime cannot load the network: {_first_line(refusal or ValueError('no provider'))}",
            stage="loading the model",
            file=str(self._path),
            hint=f"Export the network again, for an operator set that ONNX Runtime {onnxruntime.__version__} knows.",
        ) from refusal

    @property
    def metadata(self) -> dict[str, str]:
        """The texts embedded in the file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def reach(self, image: str, output: str, layout: str, bands: int, limit: int) -> Optional[Reach]:
        """Return how far the network looks, computed from its graph; None if its output is not of the image's size.

        Args:
            image: name of the input that takes images.
            output: name of the output.
            layout: of the input, "NCHW" or "NHWC".
            bands: of the image; the graph knows them.
            limit: largest halo of interest; the graph tells any.
        """
        return onnx_reach(read_onnx(self._path), image, output, layout)

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> Sequence[Array]:
        """Return the wanted outputs as arrays.

        Raises:
            OutOfDeviceMemory: the batch is too large for the device.
            ModelError: the network failed.
        """
        try:
            return [np.asarray(array) for array in self._session.run(list(wanted), dict(feeds))]
        except Exception as error:  # see above
            text = str(error).lower()
            if any(sign in text for sign in _MEMORY_SIGNS):
                raise OutOfDeviceMemory(str(error)) from error
            raise ModelError(
                f"The network failed on a tile: {_first_line(error)}",
                stage="predicting",
                file=str(self._path),
                hint="Check ImageWidth, ImageHeight, ExtractBands and BatchSize of the model definition.",
            ) from error


def choose_providers(device: str, available: Sequence[str]) -> Tuple[Tuple[str, dict[str, Any]], ...]:
    """Return the execution providers for a device, best first, each with its options; the CPU closes the list."""
    kind, _, number = device.partition(":")
    index = int(number) if number.isdigit() else 0
    chosen: list[Tuple[str, dict[str, Any]]] = []
    for name in _PROVIDERS.get(kind, ()):
        if name in available:
            chosen.append((name, _options(name, index)))
            if kind != "tensorrt":  # TensorRT leaves to CUDA what it cannot do; the others leave it to the CPU
                break
    return (*chosen, (_CPU, {}))


def _options(name: str, index: int) -> dict[str, Any]:
    if name == "CUDAExecutionProvider":
        # Trying all convolution algorithms pays: every tile of a job has the same size.
        return {"device_id": index, "cudnn_conv_algo_search": "EXHAUSTIVE", "arena_extend_strategy": "kSameAsRequested"}
    if name in ("TensorrtExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider"):
        return {"device_id": index}
    return {}


def _info(item: Any) -> TensorInfo:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in item.shape)
    return TensorInfo(item.name, _TYPES.get(item.type, "unknown"), shape)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."
