"""Adapter for ONNX files: any network whose roles the definition states or the file gives away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

from .normalisation import Normalisation
from .onnx_describe import propose
from .onnx_file import check_onnx, read_onnx
from .onnx_session import OnnxNetwork
from .role_models import RoleModel, build
from .roles import NetworkRoles

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition


def _complete(definition: ModelDefinition) -> bool:
    """Whether the definition leaves nothing to be proposed, which saves a look at the whole graph."""
    stated = definition.configuration_members
    normalised = definition.get("Normalization") is not None or definition.data_range is not None
    return normalised and isinstance(stated.get("Input"), dict) and bool((stated.get("Output") or {}).get("Kind"))


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> RoleModel:
    """Load the ONNX file of a package.

    Members of ``ModelConfiguration`` that the definition leaves out are proposed from the file.

    Args:
        package: an opened package whose ``ModelFile`` is an ONNX file.
        device: "cpu", "cuda:0", "tensorrt:0", "dml:0", "openvino" or "mps".
        threads: native threads to use.
        arguments: ``threshold``, ``nms_overlap``, ``padding``, ``tile_size``, ``batch_size``.

    Raises:
        PackageError: the file refers to something outside the package.
        ModelError, DefinitionError: the file is broken, or contradicts the definition.
    """
    definition = package.definition
    path = package.file(definition.model_file)
    model = read_onnx(path)
    check_onnx(model, path, package.file)
    proposal = {} if _complete(definition) else propose(model)
    roles = NetworkRoles.from_definition(definition, proposal.get("ModelConfiguration"))
    normalisation = None
    if definition.get("Normalization") is None and definition.data_range is None:
        proposed = proposal.get("Normalization")
        normalisation = Normalisation.from_members(proposed) if proposed else None
    network = OnnxNetwork(path, device, threads)
    return build(network, roles, definition, arguments, device, normalisation)
