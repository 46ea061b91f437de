"""Adapter for TorchScript files: networks with the same roles as ONNX files, loaded only with consent.

TorchScript is a program: it can write files while it loads. What the definition leaves out of ``Input`` and
``Output`` is told by a trial run and by the last operators.
"""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch

from ..errors import DefinitionError, ModelError
from ..package import trust
from .consent import require_consent
from .network import Array, OutOfDeviceMemory, TensorInfo, integer_argument
from .receptive import Reach, reach_of_network
from .role_guess import Hints, Members, guess_output
from .role_models import RoleModel, build
from .roles import BANDS, InputRole, NetworkRoles
from .torch_runtime import is_out_of_memory
from .torchscript_graph import output_activations

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

_TRIAL_SIDE = 256
_MOST_CODE = 50_000_000


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> RoleModel:
    """Load the TorchScript file of a package.

    Args:
        package: an opened package; its definition may state ``Input`` and ``Output`` (see ``docs/onnx.md``). Outputs
            are called by their keys, or "0", "1" and so on by their places.
        device: "cpu", "cuda:0" or "mps".
        threads: native threads to use.
        arguments: ``threshold``, ``nms_overlap``, ``padding``, ``tile_size``, ``batch_size``.

    Raises:
        TrustError: nobody has allowed the package to load TorchScript.
        ModelError, DefinitionError: the file is broken, or contradicts the definition.
    """
    definition = package.definition
    path = package.file(definition.model_file)
    _check_kind(path)
    stated = NetworkRoles.from_definition(definition, {"Output": {"Kind": BANDS}})
    require_consent(package, trust.TORCHSCRIPT)
    if _uses_torchvision(path):
        importlib.import_module("torchvision")  # brings operators such as suppression, which the file calls by name
    torch.set_num_threads(max(1, threads))
    bands = len(definition.extract_bands)
    if not bands:
        raise DefinitionError(
            "The model definition does not say which bands the network takes.",
            stage="loading the model",
            hint="Add ExtractBands, for example [0, 1, 2].",
        )
    side = integer_argument(arguments, "tile_size") or _TRIAL_SIDE
    size = (definition.image_height or side, definition.image_width or side)
    network = TorchScriptNetwork(path, device, stated.input, bands, size)
    roles = NetworkRoles.from_definition(definition, network.propose(definition))
    return build(network, roles, definition, arguments, device)


def _check_kind(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise _broken(path) from error
    if any(
        name.endswith(("/archive_format", "/models/model.json", "serialized_exported_program.json")) for name in names
    ):
        raise ModelError(
            "The file was written by torch.export and holds no TorchScript.",
            stage="loading the model",
            file=str(path),
            hint="Set Framework to TorchExport in the model definition; such files need no consent.",
        )
    if not any("/code/" in name for name in names):
        raise ModelError(
            "The file holds no TorchScript; it may hold weights only.",
            stage="loading the model",
            file=str(path),
            hint="Save the network with torch.jit.save, or export it to ONNX.",
        )


def _uses_torchvision(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        code = (entry for entry in archive.infolist() if "/code/" in entry.filename and entry.filename.endswith(".py"))
        return any(b"ops.torchvision" in archive.read(entry) for entry in code if entry.file_size < _MOST_CODE)


class TorchScriptNetwork:
    """A loaded TorchScript module; one trial run tells its outputs."""

    def __init__(self, path: Path, device: str, role: InputRole, bands: int, size: Tuple[int, int]) -> None:
        """Load ``path`` and run it once on an empty image of ``bands`` and ``size`` (rows, columns).

        Raises:
            ModelError: the file is broken, or does not take such images.
        """
        self._path, self._device = path, torch.device(device)
        try:
            self._module = torch.jit.load(str(path), map_location=self._device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise _broken(path) from error
        arguments = [entry for entry in self._module.forward.schema.arguments if entry.name != "self"]
        self._takes_list = bool(arguments) and str(arguments[0].type).startswith("List")
        names = [entry.name for entry in arguments if not entry.has_default_value() or entry.name in role.extra]
        shape = (bands, *size) if role.layout == "NCHW" else (*size, bands)
        open_shape = (bands, None, None) if role.layout == "NCHW" else (None, None, bands)
        batched = role.batched and not self._takes_list
        image_shape = (None, *open_shape) if batched else open_shape
        self.inputs: Sequence[TensorInfo] = tuple(
            TensorInfo(name, role.type if index == 0 else "int64", image_shape if index == 0 else (None, 2))
            for index, name in enumerate(names)
        )
        trial = {info.name: np.zeros((1, len(role.extra.get(info.name, ()))), np.int64) for info in self.inputs[1:]}
        image = np.zeros((1, *shape) if batched else shape, role.type)
        self._trial = TensorInfo(self.inputs[0].name, role.type, image.shape if batched else (None, *image.shape))
        self._layout = role.layout
        found = dict(self._named(self._call({self.inputs[0].name: image, **trial})))
        self.outputs: Sequence[TensorInfo] = tuple(_info(name, tensor, size) for name, tensor in found.items())
        self._answers = tuple(
            TensorInfo(name, str(tensor.dtype).rpartition(".")[2], tuple(tensor.shape))
            for name, tensor in found.items()
        )

    def propose(self, definition: ModelDefinition) -> Members:
        """Return the proposed ``ModelConfiguration``, from the trial run and the last operators."""
        try:
            activations = output_activations(self._module)
        except (RuntimeError, ValueError, AttributeError):  # a module without a graph of its own
            activations = {}
        image: Members = {"Batched": False} if self._takes_list else {}
        answer = guess_output(
            lambda name: activations.get(name, ""), self._answers, self._trial, self._layout, Hints.of(definition)
        )
        return {"Input": image, "Output": answer}

    def reach(self, image: str, output: str, layout: str, bands: int, limit: int) -> Optional[Reach]:
        """Return how far the network looks, measured; None if that is not told by images of other sizes.

        Args:
            image: name of the input that takes images.
            output: name of the output.
            layout: of the input, "NCHW" or "NHWC".
            bands: of the image.
            limit: largest halo of interest, in pixels.
        """
        if layout != "NCHW" or len(self.inputs) != 1 or self.inputs[0].dtype != "float32" or self._takes_list:
            return None
        return reach_of_network(self, image, output, bands, limit)

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> Sequence[Array]:
        """Return the wanted outputs as arrays.

        Raises:
            OutOfDeviceMemory: the batch is too large for the device.
            ModelError: the network failed.
        """
        found = dict(self._named(self._call(feeds)))
        return [found[name].detach().cpu().numpy() for name in wanted]

    def _call(self, feeds: Mapping[str, Array]) -> Any:
        tensors: list[Any] = [torch.from_numpy(feeds[info.name]).to(self._device) for info in self.inputs]
        if self._takes_list:
            tensors[0] = [tensors[0]] if tensors[0].ndim == 3 else list(tensors[0])
        try:
            with torch.inference_mode():
                return self._module(*tensors)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise OutOfDeviceMemory(str(error)) from error
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ModelError(
                f"The TorchScript network failed on an image: {lines[-1].strip()}",
                stage="predicting",
                file=str(self._path),
                hint="Check ImageWidth, ImageHeight, ExtractBands and Input of the model definition.",
            ) from error

    def _named(self, answer: Any) -> Iterator[Tuple[str, torch.Tensor]]:
        """Yield outputs by name: keys of dictionaries, places of tuples; torchvision's pair with losses is undone."""
        if isinstance(answer, torch.Tensor):
            yield "0", answer
        elif isinstance(answer, dict):
            yield from ((str(key), value) for key, value in answer.items() if isinstance(value, torch.Tensor))
        elif isinstance(answer, (tuple, list)):
            inner = answer[-1] if answer and isinstance(answer[0], dict) else None
            if isinstance(inner, (list, tuple)) and inner and isinstance(inner[0], dict):
                yield from self._named(inner[0])
            elif isinstance(inner, dict):
                yield from self._named(inner)
            else:
                yield from ((str(place), one) for place, one in enumerate(answer) if isinstance(one, torch.Tensor))


def _info(name: str, tensor: torch.Tensor, size: Tuple[int, int]) -> TensorInfo:
    """Describe an output; axes as long as the image's sides, and the first, may have any length."""
    shape = [side if place and side not in size else None for place, side in enumerate(tensor.shape)]
    if tensor.ndim == 4:
        shape[1], shape[3] = tensor.shape[1], None if tensor.shape[3] in size else tensor.shape[3]
    return TensorInfo(name, str(tensor.dtype).rpartition(".")[2], tuple(shape))


def _broken(path: Path) -> ModelError:
    return ModelError(
        "The file is no complete TorchScript file; it is damaged, truncated or of another format.",
        stage="loading the model",
        file=str(path),
        hint="Save it again with torch.jit.save.",
    )
