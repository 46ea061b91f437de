"""Samples, labels and figures against independent answers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deep_raster.engine.training import augmentation, metrics, segmentation
from deep_raster.engine.training.augmentation import IGNORED, Augmentation, Sample
from deep_raster.engine.training.chips import merged_classes, open_folders, prepare
from deep_raster.engine.training.splitting import Member, split
from hypothesis import given, settings
from hypothesis import strategies as st
from training_chips import detection_folder, pixel_folder, write_definition, write_image


def marked(side=32, boxes=((4, 6, 12, 10), (20, 1, 30, 30))):
    """A sample whose boxes can be found again in its pixels, masks and targets."""
    pixels, targets = np.zeros((2, side, side), np.float32), np.full((side, side), IGNORED, np.int64)
    masks = np.zeros((len(boxes), side, side), bool)
    for place, (a, b, c, d) in enumerate(boxes):
        pixels[:, b:d, a:c] = 10 * (place + 1)
        targets[b:d, a:c] = place
        masks[place, b:d, a:c] = True
    return Sample(
        pixels, np.ones((side, side), bool), np.array(boxes, np.float32), np.arange(len(boxes)), masks, targets
    )


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def check_consistent(sample):
    for box, label, mask in zip(sample.boxes, sample.labels, sample.masks, strict=True):
        assert box_of(mask) == pytest.approx(box.tolist())
        assert box_of(sample.targets == label) == pytest.approx(box.tolist())
        assert (sample.pixels[:, mask] == 10 * (label + 1)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(-10, 20), st.integers(-10, 20), st.integers(8, 40), st.integers(0, 3), st.booleans())
def test_pixels_boxes_masks_and_targets_move_together(row, column, side, turns, mirror):
    sample = augmentation.crop(marked(), row, column, side)
    for _ in range(turns):
        sample = augmentation.turned(sample)
    if mirror:
        sample = augmentation.mirrored(sample)
    check_consistent(sample)


def test_doubling_doubles_everything():
    sample = augmentation.resize(marked(), 64)
    assert sample.boxes.tolist() == [[8, 12, 24, 20], [40, 2, 60, 60]]
    assert box_of(sample.masks[0]) == [8, 12, 24, 20]
    assert box_of(sample.targets == 1) == [40, 2, 60, 60]
    assert sample.pixels[0, 16, 16] == pytest.approx(10)


def test_a_crop_drops_objects_of_which_little_is_left():
    cut = augmentation.crop(marked(), 0, 8, 24)  # half of the first box, all of the second but its lowest rows
    assert cut.boxes.tolist() == [[0, 6, 4, 10], [12, 1, 22, 24]]
    cut = augmentation.crop(marked(), 0, 10, 22)  # a quarter of the first box
    assert cut.labels.tolist() == [1]
    assert cut.masks.shape == (1, 22, 22)


def test_random_samples_depend_on_their_generator_alone():
    made = [
        augmentation.random_sample(marked(), 24, Augmentation(), 255.0, np.random.default_rng([1, 2])) for _ in range(2)
    ]
    assert np.array_equal(made[0].pixels, made[1].pixels)
    other = augmentation.random_sample(marked(), 24, Augmentation(), 255.0, np.random.default_rng([1, 3]))
    assert not np.array_equal(made[0].pixels, other.pixels)
    plain = augmentation.random_sample(marked(), 32, augmentation.NOTHING, 255.0, np.random.default_rng(0))
    assert np.array_equal(plain.pixels, marked().pixels)


def test_unlabelled_pixels_change_neither_loss_nor_gradient():
    torch.manual_seed(1)
    scores = torch.randn(2, 3, 8, 8, requires_grad=True)
    targets = torch.randint(0, 3, (2, 8, 8))
    targets[:, :4] = IGNORED
    for options in ({}, {"focal": True}, {"dice": 0.5}, {"weights": np.array([1.0, 2.0, 0.5])}):
        family = segmentation.SegmentationFamily(["a", "b", "c"], **options)
        total = sum(family._loss(scores, targets).values())
        (gradient,) = torch.autograd.grad(total, scores)
        assert gradient[:, :, :4].abs().max() == 0
        assert gradient[:, :, 4:].abs().max() > 0
        changed = scores.detach().clone()
        changed[:, :, :4] = float("inf")
        assert float(sum(family._loss(changed, targets).values())) == pytest.approx(float(total.detach()))
    plain = segmentation.SegmentationFamily(["a", "b", "c"])
    weighted = segmentation.SegmentationFamily(["a", "b", "c"], weights=np.array([1.0, 2.0, 0.5]))
    assert float(plain._loss(scores, targets)["cross_entropy"]) == pytest.approx(
        float(F.cross_entropy(scores, targets, ignore_index=IGNORED)), rel=1e-5
    )
    assert float(weighted._loss(scores, targets)["cross_entropy"]) == pytest.approx(
        float(F.cross_entropy(scores, targets, torch.tensor([1.0, 2.0, 0.5]), ignore_index=IGNORED)), rel=1e-5
    )


def test_an_unlabelled_image_has_no_loss():
    family = segmentation.SegmentationFamily(["a", "b"], dice=0.5)
    scores = torch.randn(1, 2, 4, 4, requires_grad=True)
    total = sum(family._loss(scores, torch.full((1, 4, 4), IGNORED)).values())
    total.backward()
    assert float(total.detach()) == 0
    assert scores.grad.abs().max() == 0


def test_labels_of_pixels_become_positions(tmp_path):
    folder = pixel_folder(tmp_path / "chips", chips=3, labelled=0.5)
    chips = prepare(open_folders([str(folder)]), "segmentation", 0.0, 1)
    sample = chips.sample(chips.training[0])
    assert (sample.targets[32:] == IGNORED).all()
    assert set(np.unique(sample.targets[:32])) == {0, 1}
    ignoring = prepare(open_folders([str(folder)]), "segmentation", 0.0, 1, ignored_values=[2])
    assert [one.value for one in ignoring.classes] == [1]
    assert set(np.unique(ignoring.sample(ignoring.training[0]).targets)) == {IGNORED, 0}


def test_statistics_are_those_of_numpy_over_valid_pixels(tmp_path):
    folder = tmp_path / "chips"
    rng, values = np.random.default_rng(0), []
    write_definition(folder, "Classified_Tiles")
    for number in range(3):
        pixels = rng.integers(1, 2000, (2, 16, 16)).astype(np.uint16)
        pixels[:, :4] = 0
        write_image(folder / "images" / f"{number}.tif", pixels, nodata=0)
        write_image(folder / "labels" / f"{number}.tif", np.ones((1, 16, 16), np.uint8))
        values.append(pixels[:, 4:].reshape(2, -1))
    chips = prepare(open_folders([str(folder)]), "segmentation", 0.0, 1)
    every = np.concatenate(values, axis=1).astype(float)
    assert chips.statistics.mean == pytest.approx(every.mean(axis=1))
    assert chips.statistics.std == pytest.approx(every.std(axis=1))
    assert (chips.sample(chips.training[0]).targets[:4] == IGNORED).all()


def test_neighbours_are_held_back_together(tmp_path):
    folders = open_folders([str(detection_folder(tmp_path / "chips", chips=24, side=32))])
    members = [Member(folders[0], chip) for chip in folders[0].chips]
    training, held = split(members, 0.25, 3)
    assert len(training) + len(held) == 24
    assert 4 <= len(held) <= 9
    assert {one.chip.stem for one in training}.isdisjoint(one.chip.stem for one in held)
    assert split(members, 0.25, 3)[1] == held
    assert split(members, 0.0, 3) == (members, [])


def test_classes_of_folders_are_merged_by_value(tmp_path):
    one, two = tmp_path / "a", tmp_path / "b"
    for folder, classes in (
        (one, [{"Value": 1, "Name": "tree"}]),
        (two, [{"Value": 3, "Name": "house"}, {"Value": 1, "Name": "tree"}]),
    ):
        write_definition(folder, "Classified_Tiles", classes)
        write_image(folder / "images" / "0.tif", np.ones((1, 16, 16), np.uint8))
        write_image(folder / "labels" / "0.tif", np.ones((1, 16, 16), np.uint8))
    merged = merged_classes(open_folders([str(one), str(two)]))
    assert [(entry.value, entry.name) for entry in merged] == [(1, "tree"), (3, "house")]


def test_confusion_agrees_with_a_count_by_hand():
    confusion = metrics.Confusion(["a", "b", "never"])
    confusion.add(np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 0, 1]))
    rows, figures = confusion.table()
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["miou"] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert figures["f1_score"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert rows[0].figures["precision"] == pytest.approx(2 / 3)
    assert np.isnan(rows[2].figures["recall"])
    assert rows[2].count == 0


def test_box_overlap_agrees_with_torchvision():
    from torchvision.ops import box_iou

    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (2, 20, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 30, (2, 20, 2))], axis=2).astype(np.float32)
    expected = box_iou(torch.from_numpy(boxes[0]), torch.from_numpy(boxes[1])).numpy()
    assert metrics.box_overlap(boxes[0], boxes[1]) == pytest.approx(expected, abs=1e-6)


def test_chips_that_overlap_those_held_back_are_in_neither_part(tmp_path):
    from dataclasses import replace

    folder = open_folders([str(detection_folder(tmp_path / "chips", chips=2, side=32))])[0]
    # A row of chips, each covering half of the next.
    chips = [
        replace(folder.chips[0], stem=str(place), bounds=(place * 8.0, 0.0, place * 8.0 + 16.0, 16.0))
        for place in range(40)
    ]
    training, held = split([Member(folder, chip) for chip in chips], 0.2, 1)
    assert held
    assert len(training) + len(held) < 40
    for one in training:
        for other in held:
            assert one.bounds[2] <= other.bounds[0] or other.bounds[2] <= one.bounds[0]
