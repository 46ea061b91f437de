"""Files of torch.export: our reader against the eager module, and hostile files of which nothing may be run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")
rasterio = pytest.importorskip("rasterio")
smp = pytest.importorskip("segmentation_models_pytorch")
from deep_raster.engine import jobs  # noqa: E402
from deep_raster.engine.errors import DefinitionError, ModelError  # noqa: E402
from deep_raster.engine.models import torch_export  # noqa: E402
from deep_raster.engine.models.exported_graph import is_allowed  # noqa: E402
from deep_raster.engine.package.card import build_card  # noqa: E402
from deep_raster.engine.package.formats import exported_with_pickles  # noqa: E402
from deep_raster.engine.package.trust import needs_of  # noqa: E402
from torch import nn  # noqa: E402

from . import engine_support as engine  # noqa: E402
from . import network_files as files  # noqa: E402

pytestmark = pytest.mark.torch

MEMBERS = {
    "Framework": "TorchExport",
    "ModelConfiguration": {"Name": "Network"},
    "ModelType": "ImageClassification",
    "ModelFile": "net.pt2",
    "ExtractBands": [0, 1, 2],
    "Normalization": {"Method": "scale", "Scale": 255, "Fill": 0},
    "Classes": files.classes(3, 0),
}
ANY = torch.export.Dim.AUTO


def save(net, path, shape, dynamic=True):
    sizes = ({0: ANY, 2: ANY, 3: ANY},) if dynamic else None
    torch.export.save(torch.export.export(net.eval(), (torch.rand(*shape),), dynamic_shapes=sizes), path)
    return path


def load(folder, arguments=None, **changes):
    return torch_export.load(files.package(folder, MEMBERS, **changes), "cpu", 1, arguments or {})


def small(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, channels, 1)).eval()


class Rich(nn.Module):
    """Buffers, constants, a part without gradients, symbolic sizes, chunks, pooling, and two named outputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Conv2d(3, 6, 3, padding=1)
        self.register_buffer("shift", torch.arange(3.0).view(1, 3, 1, 1))

    def forward(self, x):
        with torch.no_grad():
            found = self.body(x)
        row = torch.arange(x.shape[2], device=x.device).float().view(1, 1, -1, 1)
        one, other = found.chunk(2, 1)
        pooled = nn.functional.interpolate(nn.functional.adaptive_avg_pool2d(other, 1), x.shape[2:], mode="bilinear")
        answer = (one.flatten(2).view(one.shape) + pooled + self.shift * 0.1 + row.sin()).softmax(1)
        return {"aux": other, "out": answer}


def test_dictionary_of_outputs_with_symbolic_sizes(tmp_path):
    net = Rich().eval()
    save(net, tmp_path / "net.pt2", (2, 3, 32, 48))
    model = load(tmp_path)
    assert not model.plan.fixed
    batch = files.pixels((3, 3, 40, 56))
    with torch.no_grad():
        wanted = net(files.scaled(batch))["out"].numpy()
    files.same_scores(model, batch, wanted)  # the softmax is in the network and not applied again
    first, second = (model.scores(batch, files.everywhere(batch)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_fixed_sizes_and_contradictions(tmp_path):
    net = small()
    save(net, tmp_path / "net.pt2", (1, 3, 32, 48), dynamic=False)
    model = load(tmp_path)
    assert (model.plan.fixed, model.plan.width, model.plan.height) == (True, 48, 32)
    batch = files.pixels((2, 3, 32, 48))
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(model.scores(batch, files.everywhere(batch)), wanted, atol=1e-4)
    with pytest.raises(DefinitionError, match="32 pixels height only, but the definition says 64"):
        load(tmp_path, ImageHeight=64, ImageWidth=48)
    with pytest.raises(ModelError, match="3 channels, but the definition lists 5 classes"):
        load(tmp_path, Classes=files.classes(5))
    with pytest.raises(DefinitionError, match="takes 3 bands"):
        load(tmp_path, ExtractBands=[0, 1])


def test_classifier_with_the_sigmoid_inside(tmp_path):
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid())
    save(net, tmp_path / "net.pt2", (2, 3, 24, 24))
    model = load(tmp_path, ModelType="ObjectClassification", CropSizeFixed=1, BlackenAroundFeature=0)
    batch = files.pixels((3, 3, 24, 24))
    with torch.no_grad():
        wanted = net(files.scaled(batch)).numpy()
    np.testing.assert_allclose(model.probabilities(batch, files.everywhere(batch)), wanted, atol=1e-5)


def test_class_map_through_the_engine_without_consent(tmp_path):
    torch.manual_seed(3)
    net = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8), classes=3).eval()
    (tmp_path / "model").mkdir()
    save(net, tmp_path / "model" / "net.pt2", (2, 3, 64, 96))
    (tmp_path / "model" / "model.emd").write_text(json.dumps({**MEMBERS, "ImageWidth": 128, "ImageHeight": 128}))
    pixels = files.pixels((3, 136, 208), seed=9)
    source, output = engine.write_raster(tmp_path / "scene.tif", pixels), tmp_path / "classes.tif"
    engine.run(
        jobs.ClassifyPixels((source,), str(tmp_path / "model" / "model.emd"), str(output), engine.options(padding=48))
    )
    with torch.no_grad():
        wanted = net(files.scaled(pixels[np.newaxis])).argmax(1)[0].numpy()
    assert (engine.read_classes(output) == wanted).mean() >= 0.9999
    assert len(np.unique(wanted)) > 1


def test_pickled_weights_are_imported_once_into_the_safe_form(tmp_path, cache, monkeypatch):
    net = small()
    save(net, tmp_path / "raw.pt2", (2, 3, 32, 48))
    state = io.BytesIO()
    torch.save(net.state_dict(), state)
    change = {"data/weights/model.pt": state.getvalue(), "data/weights/model_weights_config.json": None}
    rewritten(tmp_path / "raw.pt2", tmp_path / "net.pt2", change)  # as PyTorch 2.8 wrote them
    assert exported_with_pickles(tmp_path / "net.pt2")
    assert not exported_with_pickles(tmp_path / "raw.pt2")
    batch = files.pixels((1, 3, 32, 48))
    with torch.no_grad():
        wanted = net(files.scaled(batch)).softmax(1).numpy()
    np.testing.assert_allclose(load(tmp_path).scores(batch, files.everywhere(batch)), wanted, atol=1e-4)
    assert len(list((cache / "weights").glob("*.safetensors"))) == 1
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled again"))
    np.testing.assert_allclose(load(tmp_path).scores(batch, files.everywhere(batch)), wanted, atol=1e-4)


def rewritten(source, target, change):
    """Copy an archive; ``change`` maps names (without the root) to new contents, None drops a member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0] + "/"
        names = [*dict.fromkeys([*(one[len(root) :] for one in old.namelist()), *change])]
        for name in names:
            data = change.get(name, b"") if name in change else old.read(root + name)
            if callable(data):
                data = data(old.read(root + name))
            if data is not None:
                new.writestr(root + name, data)
    return target


class Hostile:
    """A pickle that writes a file where it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def hostile_pickle(mark):
    target = io.BytesIO()
    torch.save({"x": Hostile(mark)}, target)
    return target.getvalue()


def edited(change):
    def apply(data):
        program = json.loads(data)
        change(program)
        return json.dumps(program).encode()

    return apply


def target_of_first_node(target, inputs=None):
    def change(program):
        node = program["graph_module"]["graph"]["nodes"][0]
        node["target"] = target
        if inputs is not None:
            node["inputs"] = inputs

    return edited(change)


def test_hostile_files_run_nothing(tmp_path):
    good = save(small(), tmp_path / "good.pt2", (2, 3, 32, 48))
    mark = tmp_path / "mark"
    evil = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    batch = files.pixels((1, 3, 32, 48))

    # Sample inputs are never opened, expressions never evaluated: such a file runs, and runs nothing of its own.
    def expressions(program):
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = evil
        program["guards_code"] = [evil]

    change = {"data/sample_inputs/model.pt": hostile_pickle(mark), "models/model.json": edited(expressions)}
    rewritten(good, tmp_path / "net.pt2", change)
    assert load(tmp_path).scores(batch, files.everywhere(batch)).shape == (1, 3, 32, 48)
    assert not mark.exists()

    def pickled(program):
        program["config"]["0.weight"]["use_pickle"] = True

    def opaque(program):
        program["config"]["thing"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}

    name = [{"name": "filename", "arg": {"as_string": str(mark)}, "kind": 1}]
    name += [{"name": "shared", "arg": {"as_bool": True}, "kind": 1}, {"name": "size", "arg": {"as_int": 9}, "kind": 1}]
    attacks = {
        "a pickle that builds something else than tensors": {
            "data/weights/model_weights_config.json": edited(pickled),
            "data/weights/weight_0": hostile_pickle(mark),
        },
        "an object called 'thing'": {
            "data/constants/model_constants_config.json": edited(opaque),
            "data/constants/opaque_obj_0": pickle.dumps(Hostile(mark)),
        },
        "the operation torch.ops.aten.from_file": {
            "models/model.json": target_of_first_node("torch.ops.aten.from_file.default", name)
        },
        "the operation torch.hub.load": {"models/model.json": target_of_first_node("torch.hub.load")},
        "the operation builtins.exec": {"models/model.json": target_of_first_node("builtins.exec")},
        "holds native code": {"data/aotinductor/model/model.so": b"\x7fELF"},
        "export format \\(9\\)": {"models/model.json": edited(lambda one: one["schema_version"].update(major=9))},
        "no exported program": {"models/model.json": None},
        "contradicts itself": {"models/model.json": edited(lambda one: one["graph_module"].pop("graph"))},
        "damaged, truncated": {"data/weights/weight_0": b"\0" * 100},
        "lacks its tensor": {
            "data/weights/model_weights_config.json": edited(lambda one: one["config"].pop("0.weight"))
        },
    }
    for sentence, attack in attacks.items():
        rewritten(good, tmp_path / "net.pt2", attack)
        with pytest.raises(ModelError, match=sentence):
            load(tmp_path)
        assert not mark.exists(), sentence
    (tmp_path / "net.pt2").write_bytes(good.read_bytes()[:-3000])
    with pytest.raises(ModelError, match="damaged, truncated"):
        load(tmp_path)


def test_only_operators_that_compute_are_allowed():
    allowed = (
        "aten.conv2d.default aten.relu_.default aten._softmax.default aten._unsafe_view.default torchvision.nms.default"
    )
    denied = "aten.from_file.default aten.set_.source_Tensor aten._unsafe_index.Tensor aten.resize_.default "
    denied += (
        "aten._sparse_coo_tensor_unsafe.default image.read_file.default prims.add.default torchvision.load.default"
    )
    assert all(is_allowed(f"torch.ops.{one}") for one in allowed.split())
    assert not any(is_allowed(f"torch.ops.{one}") for one in denied.split())
    for one in (
        "torch.load",
        "_operator.attrgetter",
        "math.__dict__",
        "torch.ops.aten.conv2d",
        "torch.ops.load_library",
    ):
        assert not is_allowed(one)


def test_card_and_consent_tell_the_same(tmp_path):
    save(small(), tmp_path / "net.pt2", (2, 3, 32, 48))
    package = files.package(tmp_path, MEMBERS)
    assert needs_of(package) == ()
    texts = [one["text"] for one in build_card(package)["findings"]]
    assert "The exported program is read as data; no code of it is run." in texts
    rewritten(tmp_path / "net.pt2", tmp_path / "aot.pt2", {"data/aotinductor/model/model.so": b"\x7fELF"})
    texts = [one["text"] for one in build_card(files.package(tmp_path, MEMBERS, ModelFile="aot.pt2"))["findings"]]
    assert any("AOTInductor" in one and "never loaded" in one for one in texts)
