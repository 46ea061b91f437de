"""Small training folders in the layout that ArcGIS exports, written with rasterio and the standard library alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

CLASSES = [
    {"Value": 1, "Name": "square", "Color": [255, 0, 0]},
    {"Value": 2, "Name": "bar", "Color": [0, 255, 0]},
]


def write_image(path: Path, pixels, transform=None, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=columns,
        height=rows,
        count=bands,
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=transform or from_origin(500_000, 0, 0.5, 0.5),
        **profile,
    ) as file:
        file.write(pixels)


def write_definition(folder: Path, mode: str, classes=CLASSES, **members):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"MetaDataMode": mode, "Classes": classes, **members})
    (folder / "esri_model_definition.emd").write_text(text)
    (folder / "esri_accumulated_stats.json").write_text(json.dumps({"MetaDataMode": mode}))


def ground(rng, side, bands=3):
    return rng.integers(60, 90, (bands, side, side)).astype(np.uint8)


def objects(rng, pixels, count=3):
    """Paint bright squares and dark bars that do not touch; return (class value, box)."""
    side, placed = pixels.shape[1], []
    taken = np.zeros((side, side), bool)
    for _ in range(50 * count):
        value = int(rng.integers(1, 3))
        height, width = (14, 14) if value == 1 else (8, 24)
        y, x = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
        if taken[max(0, y - 2) : y + height + 2, max(0, x - 2) : x + width + 2].any():
            continue
        taken[y : y + height, x : x + width] = True
        pixels[:, y : y + height, x : x + width] = 220 if value == 1 else 5
        placed.append((value, (x, y, x + width, y + height)))
        if len(placed) == count:
            break
    return placed


def voc(boxes, size):
    items = "".join(
        f"<object><name>{value}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for value, (a, b, c, d) in boxes
    )
    return f"<annotation><size><width>{size}</width><height>{size}</height><depth>3</depth></size>{items}</annotation>"


def detection_folder(folder: Path, chips=6, side=64, bands=3, seed=0):
    rng = np.random.default_rng(seed)
    write_definition(folder, "PASCAL_VOC_rectangles")
    (folder / "labels").mkdir()
    for number in range(chips):
        pixels = ground(rng, side, bands)
        boxes = objects(rng, pixels)
        transform = from_origin(500_000 + number * side / 2, 0, 0.5, 0.5)
        write_image(folder / "images" / f"{number:012d}.tif", pixels, transform)
        (folder / "labels" / f"{number:012d}.xml").write_text(voc(boxes, side))
    return folder


def mask_folder(folder: Path, chips=3, side=64, seed=0):
    rng = np.random.default_rng(seed)
    write_definition(folder, "RCNN_Masks")
    for number in range(chips):
        pixels = ground(rng, side)
        boxes = objects(rng, pixels)
        write_image(folder / "images" / f"{number:012d}.tif", pixels)
        for entry in CLASSES:
            label = np.zeros((1, side, side), np.uint16)
            for place, (value, (a, b, c, d)) in enumerate(boxes, 1):
                if value == entry["Value"]:
                    label[0, b:d, a:c] = place
            write_image(folder / "labels" / entry["Name"] / f"{number:012d}.tif", label)
    return folder


def pixel_folder(folder: Path, chips=4, side=64, seed=0, labelled=0.5):
    """Left half dark (class 1), right half bright (class 2), with a share of the rows labelled."""
    rng = np.random.default_rng(seed)
    write_definition(folder, "Classified_Tiles")
    for number in range(chips):
        pixels, truth = ground(rng, side), np.full((1, side, side), 1, np.uint8)
        border = int(rng.integers(side // 4, 3 * side // 4))
        pixels[:, :, border:] += 100
        truth[:, :, border:] = 2
        truth[:, int(side * labelled) :] = 0
        write_image(folder / "images" / f"{number:012d}.tif", pixels)
        write_image(folder / "labels" / f"{number:012d}.tif", truth)
    return folder


def object_folder(folder: Path, chips=12, side=32, seed=0):
    rng = np.random.default_rng(seed)
    write_definition(folder, "Imagenet")
    for number in range(chips):
        pixels = ground(rng, side)
        entry = CLASSES[number % 2]
        pixels += np.uint8(100 * (number % 2))
        write_image(folder / "images" / entry["Name"] / f"{number:012d}.tif", pixels)
    return folder
