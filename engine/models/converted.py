"""Pixel networks trained here, converted once to ONNX for the CPU, and run without PyTorch from then on.

ONNX Runtime takes 0.75 to 0.9 of PyTorch's time for them on a CPU, and a worker starts without PyTorch, which saves it
seconds and most of its memory. The conversion is checked against the network itself and kept in the cache of weights
under the package's hash and PyTorch's version; what cannot be converted, or answers otherwise, stays with PyTorch.
The planning of a job loads the model before any other worker does, so all workers of a job find the same answer.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional

from ..caches import weights_cache
from ..errors import ModelError
from .arguments import Arguments
from .normalisation import Normalisation
from .own_plan import PIXEL_TASKS, excluded_channels, pixel_plan, task_of
from .roles import BANDS, PIXEL_SCORES, InputRole, NetworkRoles, OutputRole

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage
    from ..package.emd import ModelDefinition
    from .own import TorchModel
    from .role_models import RolePixelClassifier
    from .torch_models import TorchPixelClassifier

logger = logging.getLogger(__name__)

_FORMAT = 1  # of what is kept; another number makes everything anew
_KNOWN = "deep_raster"
_OPERATORS = 17
_TOLERANCE = 1e-4  # of scores, or of the largest value of a regression


def load(package: ModelPackage, device: str, threads: int, arguments: Mapping[str, str]) -> Any:
    """Load a network that this program trained, converted if it is to run on the CPU and that is possible.

    Raises:
        ModelError: the configuration is unknown or the weights do not fit.
        DefinitionError: the definition does not say how many bands or classes there are.
    """
    path = _place(package) if device == "cpu" and task_of(package.definition) in PIXEL_TASKS else None
    if path is not None and path.is_file():
        found = _load_converted(package, path, threads, arguments)
        if found is not None:
            return found
    own = importlib.import_module(".own", __package__)
    model: TorchModel = own.load(package, device, threads, arguments)
    if path is None or not _convert(package.definition, model, path):
        return model
    return _load_converted(package, path, threads, arguments) or model


def _place(package: ModelPackage) -> Optional[Path]:
    """Return where the converted network is kept; None where it cannot be made or run."""
    try:
        versions = [importlib.metadata.version(name) for name in ("torch", "onnx", "onnxruntime")]
    except importlib.metadata.PackageNotFoundError:
        return None
    version = versions[0].partition("+")[0]
    return weights_cache() / f"{package.digest.partition(':')[2]}.torch-{version}.{_FORMAT}.onnx"


def _load_converted(
    package: ModelPackage, path: Path, threads: int, arguments: Mapping[str, str]
) -> Optional[RolePixelClassifier]:
    from .network import Feeder
    from .onnx_session import OnnxNetwork
    from .role_models import RolePixelClassifier

    definition, given = package.definition, Arguments(arguments)
    try:
        network = OnnxNetwork(path, "cpu", threads)
        known = json.loads(network.metadata[_KNOWN])
        multiple, reach = int(known["multiple"]), known["halo"]
    except (ModelError, KeyError, TypeError, ValueError) as error:
        logger.debug("The converted network %s cannot be used: %s", path.name, error)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    batch = given.integer("batch_size", definition.batch_size or 1, 1)
    plan = pixel_plan(
        definition, given, multiple, batch, lambda limit: reach if reach is not None and reach <= limit else None
    )
    regression = task_of(definition) == "regression"
    answer = OutputRole(BANDS) if regression else OutputRole(PIXEL_SCORES, activation="softmax")
    feeder = Feeder(network, NetworkRoles(InputRole(), answer), Normalisation.from_definition(definition), batch)
    excluded = () if regression else tuple(excluded_channels(definition, given))
    return RolePixelClassifier(feeder, plan, definition, arguments, excluded)


def _convert(definition: ModelDefinition, model: TorchModel, path: Path) -> bool:
    """Write the converted network if it answers as the original does."""
    from .torch_models import TorchPixelClassifier

    if not isinstance(model, TorchPixelClassifier):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
    except OSError as error:
        logger.debug("Nothing can be kept in the cache: %s", error)
        return False
    part = Path(name)
    try:
        _export(definition, model, part)
        os.replace(part, path)
    except Exception as error:  # exporters raise classes of many kinds, and the original network still runs
        logger.debug("The network runs in PyTorch, because it cannot be converted: %s", str(error).partition("\n")[0])
        return False
    finally:
        part.unlink(missing_ok=True)
    logger.debug("The network was converted to ONNX, which is faster on this processor.")
    return True


def _export(definition: ModelDefinition, model: TorchPixelClassifier, part: Path) -> None:
    import warnings

    import onnx
    import torch

    from .onnx_session import OnnxNetwork
    from .own import band_count, measured_halo
    from .torch_models import main_output

    class Plain(torch.nn.Module):
        """The network with its one tensor of scores."""

        def __init__(self) -> None:
            super().__init__()
            self.network = model.runner.network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return main_output(self.network(images))

    network, plan = Plain().eval(), model.plan
    bands = band_count(definition, model.runner.normalisation)
    axes = {0: "images", 2: "rows", 3: "columns"}
    example = _noise(bands, plan.height, plan.width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sides that are checked while tracing are checked by the tiles as well
        torch.onnx.export(
            network,
            (example,),
            str(part),
            dynamo=False,
            opset_version=_OPERATORS,
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": axes, "scores": axes},
        )
    halo = plan.halo if plan.exact else measured_halo(model.runner, bands, plan.multiple, max(plan.width // 4, 96))
    proto = onnx.load_model(str(part))
    onnx.helper.set_model_props(proto, {_KNOWN: json.dumps({"multiple": plan.multiple, "halo": halo})})
    onnx.save_model(proto, str(part))
    session = OnnxNetwork(part, "cpu", 1)
    step = plan.multiple
    for images in (example, _noise(bands, plan.height + step, plan.width + 2 * step)):
        with torch.inference_mode():
            wanted = network(images)
            found = torch.from_numpy(session.run({"images": images.numpy()}, ["scores"])[0])
            scale = 1.0
            if model.values is None:
                scale = max(1.0, float(wanted.abs().max()))
            else:
                wanted, found = wanted.softmax(dim=1), found.softmax(dim=1)
        if wanted.shape != found.shape or float((wanted - found).abs().max()) > _TOLERANCE * scale:
            raise ValueError("its answers differ")


def _noise(bands: int, rows: int, columns: int) -> Any:
    """Return an image with the spread that normalised pixels have, the same everywhere."""
    import torch

    return torch.randn((1, bands, rows, columns), generator=torch.Generator().manual_seed(0))
