import math
from pathlib import Path

import numpy as np
import pytest
import torch
from deep_raster.engine import events
from deep_raster.engine.errors import ChipError, DeepRasterError, JobError, TrainingError
from deep_raster.engine.models import networks
from deep_raster.engine.package.dlpk import open_package
from training_chips import detection_folder, mask_folder, object_folder, pixel_folder, write_definition, write_image

SMALL = {"width": "8", "channels": "16", "head_convs": "1", "precision": "float32"}


def rebuilt(receipt):
    """Build the network of a package from its definition alone, as inference does."""
    package = open_package(receipt["MODEL"])
    definition = package.definition
    network = networks.build(
        definition.configuration_members,
        len(definition.extract_bands),
        len(definition.classes),
        (definition.image_height, definition.image_width),
    )
    state = torch.load(package.file(definition.model_file), weights_only=True)
    network.load_state_dict(state, strict=True)
    return network.eval(), definition, package


def test_a_detector_learns_a_small_scene_by_heart(tmp_path, train):
    folder = detection_folder(tmp_path / "chips")
    receipt, told = train(
        inputs=(str(folder),),
        output=str(tmp_path / "out"),
        model_type="FCOS",
        epochs=12,
        batch_size=4,
        learning_rate=5e-3,
        validation=0.0,
        augmentation="zoom=1;brightness=0;contrast=0;gamma=0;saturation=0;bands=0",
        arguments={**SMALL, "samples_per_chip": "8", "ema": "0.9"},
    )
    network, definition, package = rebuilt(receipt)
    assert [one.name for one in definition.classes] == ["square", "bar"]
    assert definition.model_type == "ObjectDetection"
    assert (definition.min_cell_size.x, definition.max_cell_size.y) == pytest.approx((0.5, 0.5))
    # Judged here by pycocotools, from the package alone.
    assert average_precision(network, definition, folder) > 0.9
    names = {one.name for one in package.files}
    assert {"model.pth", "model_metrics.html", "ModelCharacteristics/show_results.png"} <= names
    page = Path(receipt["REPORT"]).read_text()
    assert "<svg" in page and "data:image/png;base64," in page
    steps = [one.step for one in told if isinstance(one, events.Metric) and one.name == "train_loss"]
    assert steps == list(range(1, 13))
    shares = [one.fraction for one in told if isinstance(one, events.Progress)]
    assert shares == sorted(shares)
    assert shares[-1] <= 1


def average_precision(network, definition, folder):
    from contextlib import redirect_stdout
    from io import StringIO
    from xml.etree import ElementTree

    import rasterio
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    stated = definition.members["Normalization"]
    truth, found = {"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 2}]}, []
    for number, path in enumerate(sorted((folder / "images").glob("*.tif"))):
        truth["images"].append({"id": number})
        for item in ElementTree.parse(folder / "labels" / f"{path.stem}.xml").iter("object"):
            a, b, c, d = (float(item.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax"))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(item.findtext("name")),
                    "bbox": [a, b, c - a, d - b],
                    "area": (c - a) * (d - b),
                    "iscrowd": 0,
                }
            )
        with rasterio.open(path) as file:
            pixels = file.read().astype(np.float32)
        image = (pixels - np.array(stated["Mean"])[:, None, None]) / np.array(stated["Std"])[:, None, None]
        with torch.no_grad():
            result = network([torch.from_numpy(image.astype(np.float32))])[0]
        for box, score, label in zip(result["boxes"].tolist(), result["scores"].tolist(), result["labels"].tolist()):
            size = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            found.append({"image_id": number, "category_id": label + 1, "bbox": size, "score": score})
    with redirect_stdout(StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][0, :, :, 0, -1]
    return precision[precision > -1].mean()


@pytest.mark.parametrize("model_type", ["RETINANET", "FasterRCNN"])
def test_other_detectors_train_and_load(tmp_path, train, model_type):
    folder = detection_folder(tmp_path / "chips", chips=4, bands=5)
    arguments = {"width": "8", "channels": "16"}
    receipt, told = train(
        inputs=(str(folder),),
        output=str(tmp_path / "out"),
        model_type=model_type,
        backbone="slim",
        epochs=1,
        batch_size=2,
        validation=0.3,
        arguments=arguments,
    )
    network, definition, _ = rebuilt(receipt)
    with torch.no_grad():
        assert set(network([torch.zeros(5, 64, 64)])[0]) >= {"boxes", "scores", "labels"}
    # Anchors follow the labels: sides of the objects are 14 and about 13.9 pixels.
    sizes = definition.configuration_members["AnchorSizes"]
    assert min(sizes) == pytest.approx(13.9, abs=0.6)
    assert {one.name for one in told if isinstance(one, events.Metric)} >= {"train_loss", "valid_loss"}


def test_masks_are_learnt_by_mask_rcnn(tmp_path, train):
    folder = mask_folder(tmp_path / "chips")
    receipt, _ = train(
        inputs=(str(folder),),
        output=str(tmp_path / "out"),
        model_type="",
        backbone="slim",
        epochs=1,
        batch_size=2,
        validation=0.3,
        arguments={"width": "8", "channels": "16"},
    )
    network, definition, _ = rebuilt(receipt)
    assert definition.model_type == "InstanceDetection"
    with torch.no_grad():
        assert "masks" in network([torch.zeros(3, 64, 64)])[0]


def test_pixels_are_learnt_from_half_of_the_labels(tmp_path, train):
    folder = pixel_folder(tmp_path / "chips")
    receipt, _ = train(
        inputs=(str(folder),),
        output=str(tmp_path / "out"),
        model_type="UNET",
        backbone="mobilenet_v2",
        epochs=4,
        batch_size=4,
        learning_rate=1e-2,
        validation=0.25,
        augmentation="NONE",
        arguments={"depth": "3", "decoder_channels": "16,8,8", "samples_per_chip": "4", "precision": "float32"},
    )
    assert receipt["BEST_METRIC"] > 0.9
    _, definition, _ = rebuilt(receipt)
    assert [(one.value, one.name) for one in definition.classes] == [(1, "square"), (2, "bar")]


def test_objects_are_classified(tmp_path, train):
    receipt, _ = train(
        inputs=(str(object_folder(tmp_path / "chips")),),
        output=str(tmp_path / "out"),
        model_type="FEATURE_CLASSIFIER",
        backbone="resnet10t",
        epochs=2,
        batch_size=4,
        validation=0.3,
        augmentation="NONE",
        arguments={"samples_per_chip": "4", "precision": "float32", "class_balancing": "true"},
    )
    network, definition, _ = rebuilt(receipt)
    assert definition.model_type == "ObjectClassification"
    assert receipt["BEST_METRIC"] == 1.0
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_the_same_job_gives_the_same_weights(tmp_path, train):
    folder = detection_folder(tmp_path / "chips", chips=3)
    states = []
    for name in ("one", "two"):
        receipt, _ = train(
            inputs=(str(folder),),
            output=str(tmp_path / name),
            model_type="FCOS",
            epochs=2,
            batch_size=2,
            validation=0.0,
            arguments=SMALL,
        )
        states.append(rebuilt(receipt)[0].state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_further_training_starts_from_a_package(tmp_path, train):
    folder = detection_folder(tmp_path / "chips", chips=3)
    common = {"inputs": (str(folder),), "model_type": "FCOS", "epochs": 1, "batch_size": 2, "validation": 0.0}
    first, _ = train(output=str(tmp_path / "a"), arguments=SMALL, **common)
    # A rate of almost nothing leaves the weights where they were.
    second, told = train(
        output=str(tmp_path / "b"),
        pretrained_model=first["MODEL"],
        learning_rate=1e-12,
        arguments={"weight_decay": "0", "precision": "float32"},
        **common,
    )
    one, two = (
        rebuilt(receipt)[0].get_parameter("head.classification_head.cls_logits.weight") for receipt in (first, second)
    )
    assert torch.allclose(one, two, atol=1e-6)
    assert any("taken over" in one.text for one in told if isinstance(one, events.Log))


def test_backbone_weights_from_a_file_are_used_and_frozen(tmp_path, train):
    import timm

    torch.manual_seed(5)
    source = timm.create_model("resnet10t", pretrained=False)
    path = tmp_path / "backbone.pth"
    torch.save(source.state_dict(), path)
    receipt, _ = train(
        inputs=(str(detection_folder(tmp_path / "chips", chips=2, bands=4)),),
        output=str(tmp_path / "out"),
        model_type="FCOS",
        backbone="resnet10t",
        backbone_weights=str(path),
        freeze=True,
        epochs=1,
        batch_size=2,
        validation=0.0,
        arguments={"channels": "16"},
    )
    mine = rebuilt(receipt)[0].backbone.body.state_dict()
    assert torch.equal(mine["layer1.0.conv1.weight"], source.state_dict()["layer1.0.conv1.weight"])
    assert torch.equal(mine["layer1.0.bn1.running_mean"], source.state_dict()["layer1.0.bn1.running_mean"])


def sentence(error):
    text = str(error.value)
    assert not text[0].islower()
    assert text.rstrip().endswith(".")
    return text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "SSD9"}, "no model type"),
        ({"model_type": "UNET"}, "cannot learn from chips of the format PASCAL_VOC_rectangles"),
        ({"arguments": {"heads": "2"}}, "no argument 'heads'"),
        ({"arguments": {"levels": "7"}}, "strides"),
        ({"arguments": {"nms_overlap": "2"}}, "from 0 to 1"),
        ({"backbone": "resnet19"}, "no backbone called 'resnet19'"),
        ({"backbone_weights": "/nowhere/w.pth"}, "does not exist"),
        ({"freeze": True}, "FREEZE"),
        ({"chip_size": 512}, "512"),
        ({"chip_size": 3}, "at least 32"),
        ({"epochs": 0}, "EPOCHS"),
        ({"validation": 1.5}, "VALIDATION"),
        ({"augmentation": "wobble=3"}, "AUGMENTATION"),
        ({"pretrained_model": "/nowhere/m.dlpk"}, "no model package"),
        ({"name": "a/b"}, "cannot be the name"),
        ({"inputs": ("/nowhere/chips",)}, "/nowhere/chips"),
        ({"batch_size": -1}, "BATCH_SIZE"),
    ],
)
def test_wrong_parameters_are_refused_with_a_sentence(tmp_path, train, changes, expected):
    members = {
        "inputs": (str(detection_folder(tmp_path / "chips", chips=2)),),
        "output": str(tmp_path / "out"),
        "model_type": "FCOS",
        "validation": 0.0,
        **changes,
    }
    with pytest.raises(DeepRasterError) as error:
        train(**members)
    assert expected in sentence(error)
    assert not (tmp_path / "out").exists()


def test_the_imagenet_download_without_network_is_a_sentence(tmp_path, train, monkeypatch):
    import timm

    def offline(*_args, **_kwargs):
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr("deep_raster.engine.models.networks.pretrained._published", offline)
    assert timm.is_model("resnet10t")
    with pytest.raises(DeepRasterError) as error:
        train(
            inputs=(str(detection_folder(tmp_path / "chips", chips=2)),),
            output=str(tmp_path / "out"),
            model_type="FCOS",
            backbone="resnet10t",
            backbone_weights="IMAGENET",
            validation=0.0,
        )
    assert "cannot be downloaded: Name or service not known." in sentence(error)


def test_broken_chips_are_passed_over_up_to_a_fifth(tmp_path, train):
    folder = detection_folder(tmp_path / "chips", chips=10)
    (folder / "images" / "000000000003.tif").write_bytes(b"II*\x00 cut")
    (folder / "labels" / "000000000004.xml").write_text("<annotation><object>")
    receipt, told = train(
        inputs=(str(folder),),
        output=str(tmp_path / "out"),
        model_type="FCOS",
        epochs=1,
        validation=0.0,
        arguments=SMALL,
    )
    warned = " ".join(one.text for one in told if isinstance(one, events.Log) and one.level == "warning")
    assert "000000000003.tif" in warned
    assert "000000000004" in warned
    assert math.isfinite(receipt["BEST_METRIC"])
    (folder / "images" / "000000000005.tif").write_bytes(b"")
    with pytest.raises(ChipError) as error:
        train(inputs=(str(folder),), output=str(tmp_path / "other"), model_type="FCOS", validation=0.0)
    assert "3 of 10" in sentence(error)


def test_chips_without_any_label_are_refused(tmp_path, train):
    folder = tmp_path / "chips"
    write_definition(folder, "Classified_Tiles")
    for number in range(3):
        write_image(folder / "images" / f"{number}.tif", np.full((3, 64, 64), 7, np.uint8))
        write_image(folder / "labels" / f"{number}.tif", np.zeros((1, 64, 64), np.uint8))
    with pytest.raises(TrainingError) as error:
        train(inputs=(str(folder),), output=str(tmp_path / "out"), model_type="UNET", validation=0.0)
    assert "Nothing is labelled" in sentence(error)


def test_folders_of_different_kinds_are_not_mixed(tmp_path, train):
    one, two = detection_folder(tmp_path / "a", chips=2), detection_folder(tmp_path / "b", chips=2, bands=4)
    with pytest.raises(ChipError) as error:
        train(inputs=(str(one), str(two)), output=str(tmp_path / "out"), model_type="FCOS")
    assert "number of bands is 3" in sentence(error)
    with pytest.raises(JobError):
        train(inputs=(str(one),), output=str(one / "images" / "000000000000.tif"), model_type="FCOS")
