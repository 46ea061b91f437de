"""Pixel and feature classifiers of arcgis.learn against compositions of torchvision, timm and plain formulas."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
from deep_raster.engine.errors import DefinitionError, ModelError  # noqa: E402
from deep_raster.engine.models import weights  # noqa: E402
from deep_raster.engine.models.arcgis_segmentation import build  # noqa: E402
from deep_raster.engine.package.emd import build_definition  # noqa: E402
from torch.nn import functional  # noqa: E402

from . import torch_support as support  # noqa: E402
from .torch_support import convolve, load, normalise  # noqa: E402

pytestmark = pytest.mark.torch


def convolve_pair(images, state, name, norm):
    """fastai's conv_layer: convolution, ReLU, batch normalisation if any."""
    result = convolve(images, state, f"{name}.0").relu()
    return normalise(result, state, f"{name}.2") if norm else result


def shuffle(images, state, name):
    weight = state.get(f"{name}.weight")
    if weight is None:
        direction, length = state[f"{name}.weight_v"], state[f"{name}.weight_g"]
        weight = direction * length / direction.pow(2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return functional.pixel_shuffle(functional.conv2d(images, weight, state[f"{name}.bias"]).relu(), 2)


def decode(deep, skipped, state, prefix, norm):
    """fastai's U-Net decoder, from the deepest map and the skipped ones, deepest first."""
    result = normalise(deep, state, f"{prefix}1").relu()
    result = convolve_pair(convolve_pair(result, state, f"{prefix}3.0", norm), state, f"{prefix}3.1", norm)
    for number, other in enumerate(skipped, start=4):
        name = f"{prefix}{number}"
        up = functional.interpolate(shuffle(result, state, f"{name}.shuf.conv.0"), other.shape[-2:], mode="nearest")
        joined = torch.cat([up, normalise(other, state, f"{name}.bn")], dim=1).relu()
        result = convolve_pair(convolve_pair(joined, state, f"{name}.conv1", norm), state, f"{name}.conv2", norm)
    return shuffle(result, state, f"{prefix}{4 + len(skipped)}.conv.0")


def cross(result, images, state, residual, last):
    joined = torch.cat([result, images], dim=1)
    inner = convolve(convolve(joined, state, f"{residual}.layers.0.0").relu(), state, f"{residual}.layers.1.0").relu()
    return convolve(joined + inner, state, last, padding=0)


def expect(scores, logits, values, found):
    """Class maps equal on 99.99 % of the pixels, probabilities within 1e-4."""
    wanted = logits.softmax(dim=1).numpy()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.9999
    assert scores.values == values
    assert len(np.unique(wanted.argmax(axis=1))) > 1, "a constant map proves nothing"
    assert wanted.max(axis=1).mean() < 0.99, "certainty hides differences"


LAYOUTS = ["unet_resnet18", "unet_4band_mobilenetv3", "deeplab_resnet18", "psp_resnet18"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_networks_have_exactly_the_listed_tensors_in_order(name):
    definition, listed = build_definition(support.members(name)), support.layout(name)
    bands = len(definition.extract_bands)
    network = build(definition, {key: torch.empty(shape) for key, (shape, _) in listed.items()}, bands, 3)
    assert {key: (tuple(one.shape), one.dtype) for key, one in network.state_dict().items()} == listed
    assert list(network.state_dict()) == list(listed)


def test_unet_is_fastais_over_torchvision(tmp_path):
    model, state, _ = load(tmp_path, "unet_resnet18", arguments={"predict_background": "True"})
    pixels = support.pixels((2, 3, 96, 128))
    images = support.imagenet(pixels)
    with torch.inference_mode():
        maps = support.stages(support.torchvision_trunk(state, "layers.0.", "resnet18", 3), images)
        skipped = [maps[one] for one in ("layer3", "layer2", "layer1", "relu")]
        result = decode(maps["layer4"], skipped, state, "layers.", norm=False)
        logits = cross(result, images, state, "layers.10", "layers.11.0")
    expect(model, logits, (0, 1, 2), model.scores(pixels, support.everywhere(pixels)))


def test_unet_over_timm_with_four_bands_and_their_statistics(tmp_path):
    import timm

    model, state, definition = load(tmp_path, "unet_4band_mobilenetv3", arguments={"predict_background": "True"})
    pixels = support.pixels((1, 4, 128, 128))
    images = support.arcgis_stats(pixels, definition)
    trunk = timm.create_model("tf_mobilenetv3_small_minimal_100", pretrained=False, in_chans=4).eval()
    names = ("conv_stem", "bn1", "blocks")
    own = {key[9:]: value for key, value in state.items() if key.startswith("layers.0.")}
    own = {f"{names[int(key[0])]}{key[1:]}": value for key, value in own.items()}
    _, surplus = trunk.load_state_dict(own, strict=False)
    assert not surplus
    with torch.inference_mode():
        stem = trunk.bn1(trunk.conv_stem(images))
        result = decode(trunk.blocks(stem), [stem], state, "layers.", norm=False)
        logits = cross(result, images, state, "layers.8", "layers.9.0")
    expect(model, logits, (0, 1, 2), model.scores(pixels, support.everywhere(pixels)))


def test_deeplab_is_torchvisions_head_on_a_trunk_of_stride_eight(tmp_path):
    from torchvision.models.segmentation import DeepLabV3
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead

    model, state, _ = load(tmp_path, "deeplab_resnet18", arguments={"predict_background": "True"})
    pixels = support.pixels((1, 3, 128, 128))

    class Trunk(torch.nn.Module):
        network = support.timm_trunk(state, "backbone.", "resnet18", 3, output_stride=8)

        def forward(self, images):
            return {"out": support.stages(self.network, images)["layer4"]}

    head = DeepLabHead(512, 3)
    head.load_state_dict({key[11:]: value for key, value in state.items() if key.startswith("classifier.")})
    with torch.inference_mode():
        logits = DeepLabV3(Trunk(), head).eval()(support.imagenet(pixels))["out"]
    expect(model, logits, (0, 1, 2), model.scores(pixels, support.everywhere(pixels)))


def test_pspnet_pools_on_four_grids_and_decodes_as_a_unet(tmp_path):
    model, state, _ = load(tmp_path, "psp_resnet18", arguments={"predict_background": "True"})
    pixels = support.pixels((1, 3, 128, 128))
    with torch.inference_mode():
        trunk = support.timm_trunk(state, "model.layers.0.", "resnet18", 3, output_stride=8)
        maps = support.stages(trunk, support.imagenet(pixels))
        deep = maps["layer4"]
        parts = [deep]
        for number, grid in enumerate((1, 2, 3, 6)):
            name = f"model.layers.0.8.features.{number}"
            pooled = convolve(functional.adaptive_avg_pool2d(deep, grid), state, f"{name}.1", padding=0)
            pooled = normalise(pooled, state, f"{name}.2").relu()
            parts.append(functional.interpolate(pooled, deep.shape[-2:], mode="bilinear", align_corners=False))
        deep = convolve(torch.cat(parts, dim=1), state, "model.layers.0.9")
        result = decode(deep, [maps["layer1"], maps["relu"]], state, "model.layers.", norm=True)
        logits = normalise(convolve(result, state, "model.layers.7.0", padding=0), state, "model.layers.7.1")
    expect(model, logits, (0, 1, 2), model.scores(pixels, support.everywhere(pixels)))


def test_bottlenecks_are_dilated_as_torchvision_does_it():
    import torchvision
    from deep_raster.engine.models.arcgis_encoders import build_encoder

    ours = build_encoder("resnet50", 3, dilated=True)
    theirs = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    wanted = [
        (one.stride, one.dilation, one.padding)
        for stage in (theirs.layer3, theirs.layer4)
        for one in stage.modules()
        if isinstance(one, torch.nn.Conv2d)
    ]
    found = [
        (one.stride, one.dilation, one.padding)
        for stage in ours[6:]
        for one in stage.modules()
        if isinstance(one, torch.nn.Conv2d)
    ]
    assert found == wanted


def test_background_and_ignored_classes_never_win(tmp_path):
    model, *_ = load(tmp_path, "unet_4band_mobilenetv3")  # two classes, none of value 0: no background by default
    pixels = support.pixels((1, 4, 64, 64))
    scores = model.scores(pixels, support.everywhere(pixels))
    assert (scores[:, 0] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    model, *_ = load(
        tmp_path, "unet_4band_mobilenetv3", {"ignore_mapped_class": [1]}, arguments={"predict_background": "True"}
    )
    scores = model.scores(pixels, support.everywhere(pixels))
    assert (scores[:, 1] == 0).all()
    assert (scores[:, 0] > 0).all()


def test_class_values_are_those_of_the_definition(tmp_path):
    far = [{"Value": 10, "Name": "Water"}, {"Value": 40, "Name": "Forest"}]
    model, *_ = load(tmp_path, "unet_4band_mobilenetv3", {"Classes": far})
    assert model.values == (0, 10, 40)
    with_zero = [{"Value": 0, "Name": "Nothing"}, *far]
    model, *_ = load(tmp_path, "unet_4band_mobilenetv3", {"Classes": with_zero})
    assert model.values == (0, 10, 40)


def test_masked_pixels_count_as_zero_before_normalisation(tmp_path):
    model, *_ = load(tmp_path, "deeplab_resnet18")
    pixels = support.pixels((1, 3, 128, 128))
    valid = support.everywhere(pixels)
    valid[:, 40:90, 20:70] = False
    blackened = np.where(valid[:, np.newaxis], pixels, 0).astype(pixels.dtype)
    np.testing.assert_array_equal(model.scores(pixels, valid), model.scores(blackened, np.ones_like(valid)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("classes", "another number of classes"),
        ("missing", "1 of 134 tensors are missing (the first is '1.2.bias')"),
        ("surplus", "1 have no place in the network (the first is '1.99.weight')"),
        ("bands", "trained on 4 bands, the definition extracts 3"),
        ("nan", "not numbers"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, sentence):
    state = dict(support.seeded_state("fc_resnet18"))
    if change == "classes":
        state["1.8.weight"], state["1.8.bias"] = torch.zeros(6, 512), torch.zeros(6)
    elif change == "missing":
        del state["1.2.bias"]
    elif change == "surplus":
        state["1.99.weight"] = torch.zeros(3)
    elif change == "bands":
        state["0.0.weight"] = torch.zeros(64, 4, 7, 7)
    else:
        state["1.2.bias"] = torch.full((1024,), float("nan"))
    with pytest.raises(ModelError) as caught:
        load(tmp_path, "fc_resnet18", state=state)
    assert sentence in str(caught.value)
    assert caught.value.stage == weights.STAGE


def test_variants_that_cannot_be_rebuilt_say_so(tmp_path):
    state = {"x": torch.zeros(1)}

    def refuse(name, changes, sentence, kind=ModelError):
        with pytest.raises(kind, match=sentence):
            load(tmp_path, name, changes, state)

    refuse("deeplab_resnet18", {"ModelParameters": {"backbone": "resnet18", "pointrend": True}}, "PointRend")
    refuse("psp_resnet18", {"ModelParameters": {"backbone": "resnet18", "use_unet": False}}, "no U-Net decoder")
    refuse("unet_resnet18", {"ModelParameters": {"backbone": "resnet19"}}, "names the backbone 'resnet19'")
    roads = {"ModelConfiguration": "_road_infrencing", "ModelName": "ConnectNet"}
    refuse("unet_resnet18", roads, r"type ConnectNet of arcgis\.learn, which this program cannot rebuild")
    refuse("unet_resnet18", {"Classes": []}, "lists no classes", DefinitionError)


def test_feature_classifier_is_fastais_head_on_torchvision(tmp_path):
    model, state, _ = load(tmp_path, "fc_resnet18")
    pixels = support.pixels((3, 3, 128, 128))
    with torch.inference_mode():
        features = support.stages(support.torchvision_trunk(state, "0.", "resnet18", 3), support.imagenet(pixels))
        deep = features["layer4"]
        flat = torch.cat([deep.amax(dim=(2, 3)), deep.mean(dim=(2, 3))], dim=1)
        hidden = functional.linear(normalise(flat, state, "1.2"), state["1.4.weight"], state["1.4.bias"]).relu()
        logits = functional.linear(normalise(hidden, state, "1.6"), state["1.8.weight"], state["1.8.bias"])
    found = model.probabilities(pixels, support.everywhere(pixels))
    np.testing.assert_allclose(found, logits.softmax(dim=1).numpy(), atol=1e-4)
    assert (model.blacken, model.fixed_crop) == (False, True)
    assert (model.plan.width, model.plan.height) == (128, 128)


def test_feature_classifier_of_the_pytorch_framework_reads_the_same_weights(tmp_path):
    changes = {"Framework": "PyTorch", "ModelConfiguration": "FeatureClassifier"}
    first, state, _ = load(tmp_path / "one", "fc_resnet18")
    second, *_ = load(tmp_path / "two", "fc_resnet18", changes, {"model": state, "opt": {"lr": 0.1}})
    pixels = support.pixels((1, 3, 128, 128))
    everywhere = support.everywhere(pixels)
    np.testing.assert_array_equal(first.probabilities(pixels, everywhere), second.probabilities(pixels, everywhere))


def test_several_labels_per_chip_do_not_exclude_each_other(tmp_path):
    model, *_ = load(tmp_path, "fc_resnet18", {"MetaDataMode": "MultiLabeled_Tiles"})
    plain, *_ = load(tmp_path, "fc_resnet18")
    pixels = support.pixels((2, 3, 128, 128))
    many = model.probabilities(pixels, support.everywhere(pixels)).astype(np.float64)
    one = plain.probabilities(pixels, support.everywhere(pixels)).astype(np.float64)
    odds = np.log(many / (1 - many))
    np.testing.assert_allclose(odds[:, 1] - odds[:, 0], np.log(one[:, 1] / one[:, 0]), atol=1e-3)
    assert (np.abs(many.sum(axis=1) - 1) > 1e-3).all()
