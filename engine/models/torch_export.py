"""Adapter for files of ``torch.export`` (``.pt2``): networks with the roles of ONNX files, and no code of the file.

The program is read as data and its operators are run one by one from a list (:mod:`.exported_graph`), so a package
needs no consent for it. Files that AOTInductor compiled hold native code and are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple

import torch

from ..errors import ModelError
from .exported_archive import read_archive
from .exported_graph import ExportedProgram
from .network import Array, OutOfDeviceMemory, TensorInfo
from .receptive import Reach, reach_of_network
from .role_guess import Hints, Members, guess_input, guess_output
from .role_models import RoleModel, build
from .roles import NetworkRoles
from .torch_runtime import is_out_of_memory

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition

_ACTIVATIONS = {
    "sigmoid": "is sigmoid", "sigmoid_": "is sigmoid", "softmax": "is softmax", "_softmax": "is softmax",
    "argmax": "is argmax", "max": "is argmax", "clamp": "is clip",
}  # fmt: skip
_PASSED_THROUGH = (
    "to", "_to_copy", "contiguous", "clone", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "permute",
    "transpose", "slice", "select", "upsample_bilinear2d", "upsample_nearest2d", "flatten", "alias", "detach",
)  # fmt: skip


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> RoleModel:
    """Load the exported program of a package.

    What the definition leaves out of ``Input`` and ``Output`` is proposed from the program itself.

    Args:
        package: an opened package whose ``ModelFile`` is a ``.pt2`` file (see ``docs/onnx.md``). Outputs are called by
            their keys, or "0", "1" and so on by their places.
        device: "cpu", "cuda:0" or "mps".
        threads: native threads to use.
        arguments: ``threshold``, ``nms_overlap``, ``padding``, ``tile_size``, ``batch_size``.

    Raises:
        ModelError, DefinitionError: the file is broken, holds more than tensors and operators, or contradicts the
            definition.
    """
    definition = package.definition
    torch.set_num_threads(max(1, threads))
    network = ExportedNetwork(package.file(definition.model_file), device)
    roles = NetworkRoles.from_definition(definition, network.propose(definition))
    return build(network, roles, definition, arguments, device)


class ExportedNetwork:
    """A loaded exported program.

    Attributes:
        inputs, outputs: the tensors, in the order of the program.
    """

    def __init__(self, path: Path, device: str) -> None:
        """Read ``path`` and put its weights on ``device``.

        Raises:
            ModelError: the file is broken or asks for what is not run.
        """
        self._path, self._device = path, torch.device(device)
        archive = read_archive(path)
        try:
            self._program = ExportedProgram(archive, self._device, str(path))
            self._names = _output_names(archive.program, len(self._program.outputs))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ModelError(
                "The exported program contradicts itself; the file is damaged.",
                stage="loading the model",
                file=str(path),
                hint="Save the network again with torch.export.save.",
            ) from error
        inside = self._program
        self.inputs: Sequence[TensorInfo] = tuple(
            TensorInfo(name, inside.dtypes[name], inside.shapes[name]) for name in inside.inputs
        )
        self.outputs: Sequence[TensorInfo] = tuple(
            TensorInfo(called, inside.dtypes[name], inside.shapes[name])
            for called, name in zip(self._names, inside.outputs)
        )
        if not self.inputs or not self.outputs:
            raise ModelError(
                "The exported program takes or gives no tensors.", stage="loading the model", file=str(path)
            )

    def propose(self, definition: ModelDefinition) -> Members:
        """Return the proposed ``ModelConfiguration``, from shapes, names and the last operators."""
        inside = self._program
        inputs = [TensorInfo(one.name, one.dtype, inside.examples[one.name]) for one in self.inputs]
        image, source = guess_input(inputs)
        outputs = [
            TensorInfo(one.name, one.dtype, inside.examples[name]) for one, name in zip(self.outputs, inside.outputs)
        ]
        multiples = inside.multiples[image.name]
        if max(multiples) > 1:
            source["Multiple"] = max(multiples)
        answer = guess_output(self._made_by, outputs, image, source.get("Layout", "NCHW"), Hints.of(definition))
        return {"Input": source, "Output": answer}

    def _made_by(self, called: str) -> str:
        name = dict(zip(self._names, self._program.outputs))[called]
        while name:
            operator, name = self._program.maker(name)
            if operator in _ACTIVATIONS:
                return _ACTIVATIONS[operator]
            if operator not in _PASSED_THROUGH:
                break
        return ""

    def reach(self, image: str, output: str, layout: str, bands: int, limit: int) -> Optional[Reach]:
        """Return how far the network looks, measured; None if that is not told by images of other sizes.

        Args:
            image: name of the input that takes images.
            output: name of the output.
            layout: of the input, "NCHW" or "NHWC".
            bands: of the image.
            limit: largest halo of interest, in pixels.
        """
        if (
            layout != "NCHW"
            or len(self.inputs) != 1
            or self.inputs[0].dtype != "float32"
            or self.inputs[0].shape[2] is not None
        ):
            return None
        return reach_of_network(self, image, output, bands, limit)

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str]) -> Sequence[Array]:
        """Return the wanted outputs as arrays.

        Raises:
            OutOfDeviceMemory: the batch is too large for the device.
            ModelError: the network failed.
        """
        tensors = [torch.from_numpy(feeds[info.name]).to(self._device) for info in self.inputs]
        try:
            with torch.inference_mode():
                found = dict(zip(self._names, self._program(tensors)))
        except (RuntimeError, TypeError, KeyError, ValueError, IndexError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise OutOfDeviceMemory(str(error)) from error
            raise ModelError(
                f"The exported program failed on an image: {str(error).strip().partition(chr(10))[0]}",
                stage="predicting",
                file=str(self._path),
                hint="Check ImageWidth, ImageHeight, ExtractBands and Input of the model definition.",
            ) from error
        return [_array(found[name]) for name in wanted]


def _array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array; NumPy lacks one of the types."""
    result: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
    return result


def _output_names(program: Mapping[str, Any], count: int) -> Tuple[str, ...]:
    """Return the names of outputs: keys where the network answers with a dictionary, else places."""
    entries = program["graph_module"]["module_call_graph"]
    signature = next((one["signature"] for one in entries if one["fqn"] == "" and one.get("signature")), None)
    tree: Any = json.loads(signature["out_spec"])[1] if signature else {}
    keys = tree.get("context")
    try:
        keys = json.loads(keys) if isinstance(keys, str) else keys
    except ValueError:
        keys = None
    children = tree.get("children_spec") or []
    flat = len(children) == count and not any(one.get("children_spec") for one in children)
    if flat and isinstance(keys, list) and len(keys) == count and all(isinstance(key, str) for key in keys):
        return tuple(keys)
    return tuple(str(place) for place in range(count))
