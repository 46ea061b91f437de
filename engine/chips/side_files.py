"""The side files of a data set as ArcGIS writes them: ``map.txt``, ``stats.txt``, the statistics and the definition."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from . import folder
from .classes import LabelClass
from .statistics import BandStatistics, ClassStatistics, Spread

NO_COLOUR = [-1, -1, -1]


@dataclass
class DataSet:
    """Everything that the side files of one root folder tell.

    Attributes:
        format: metadata format.
        tile: width and height of a chip.
        bands: number of bands.
        band_names, band_names2: names, empty strings where bands have none.
        sensors, sensors2: number of rasters.
        cell_size: cell size (x, y) and CRS as WKT.
        classes: in the order of the file.
        instance_classes: of panoptic sets.
        tiles: chips written so far.
        next_index: number of the next chip.
        features: whether class statistics count features, not pixels.
        band_statistics, band_statistics2, class_statistics: of all chips.
        options: further members of the definition.
    """

    format: str
    tile: Tuple[int, int]
    bands: int
    band_names: Sequence[str]
    sensors: int
    cell_size: Tuple[float, float, str]
    classes: List[LabelClass]
    tiles: int
    next_index: int
    features: bool
    band_statistics: List[BandStatistics]
    class_statistics: ClassStatistics
    band_names2: Sequence[str] = ()
    sensors2: int = 0
    band_statistics2: List[BandStatistics] = field(default_factory=list)
    instance_classes: List[LabelClass] = field(default_factory=list)
    options: Dict[str, Any] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether the format has labels at all."""
        return self.format not in ("Export_Tiles", "CycleGAN")


def write_text(path: Path, text: str, newline: str = "\n") -> None:
    """Write a text file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "w", encoding="utf-8", newline=newline) as file:
        file.write(text)
    os.replace(part, path)


def esri_json(members: Mapping[str, Any]) -> str:
    """Return JSON with two spaces of indent and a blank on both sides of colons."""
    return json.dumps(members, indent=2, separators=(",", " : "), ensure_ascii=False) + "\n"


def write_map(path: Path, before: Path, lines: Iterable[Sequence[str]]) -> None:
    """Write ``map.txt``: the lines of ``before``, if there are any, and one line per chip."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8", newline="\r\n") as file:
        if before.is_file():
            for line in before.read_text(encoding="utf-8").splitlines():
                file.write(line + "\n")
        for paths in lines:
            file.write(map_line(paths))
    os.replace(part, path)


def map_line(paths: Sequence[str]) -> str:
    """Return a line: image, two blanks, label, one blank; one blank between images and between labels."""
    text = ""
    for index, one in enumerate(paths):
        first_label = index == 1 and one.startswith("labels")
        text += (" " if first_label else "") + one.replace("/", "\\") + " "
    return text + "\n"


def statistics_text(data: DataSet) -> str:
    """Return ``stats.txt`` in the newer form; for people, no reader parses it strictly."""
    width, height = data.tile
    lines = [f"images = {data.tiles} *{data.bands}*{height}*{width}"]
    found = data.class_statistics
    spread = _per_image(found.per_image)
    if not data.labelled:
        lines += ["features = 0", "features per image = [min = 0, mean = 0.00, max = 0]", "classes = 0"]
        return "\n".join(lines) + "\n"
    lines += ["", "Class feature statistics:" if data.features else "Class pixel statistics:"]
    if data.features:
        lines += [f"features = {sum(found.number_of.values())}", f"features per image = {spread}"]
    lines.append(f"classes = {len(data.classes)}")
    if not data.features:
        lines.append(f"classes per image = {spread}")
    counted = "features" if data.features else "pixels"
    titles = ("cls name", "cls value", "images", counted, "min size", "mean size", "max size")
    head = (
        "{:<20} {:>10} {:>10} {:>10} {:>11} {:>11} {:>11}"
        if data.features
        else ("{:<20} {:>10} {:>10} {:<10} {:>11} {:>11} {:>11}")
    )
    lines.append(head.format(*titles))
    for one in data.classes:
        sizes = found.sizes_of.get(one.value, Spread())
        extremes = sizes.to_members()
        lines.append(
            f"{one.name:<20} {one.value:>10} {found.images_of.get(one.value, 0):>10} "
            f"{found.number_of.get(one.value, 0):>10} {extremes['Min']:>11.2f} {sizes.mean:>11.2f} "
            f"{extremes['Max']:>11.2f}"
        )
    return "\n".join(lines) + "\n"


def _per_image(spread: Spread) -> str:
    members = spread.to_members()
    return f"[min = {members['Min']:.0f}, mean = {spread.mean:.2f}, max = {members['Max']:.0f}]"


def accumulated(data: DataSet) -> Dict[str, Any]:
    """Return the members of ``esri_accumulated_stats.json``."""
    values = [one.value for one in data.classes]
    size = _cell_size(data)
    members: Dict[str, Any] = {
        "Version": 1,
        "NumBands": data.bands,
        "TileSizeX": data.tile[0],
        "TileSizeY": data.tile[1],
        "NumClasses": len(values),
        "NumTiles": data.tiles,
        "NumTilesAsDouble": float(data.tiles),
        "NextTileIndex": data.next_index,
        "OutputFeatures": data.features or not data.labelled,
        "MetaDataMode": data.format,
        "MinCellSize": size,
        "MaxCellSize": size,
        "Classes": [{"ClassValue": one.value, "ClassName": one.name} for one in data.classes],
    }
    if data.labelled:
        key = "FeatureStats" if data.features else "ClassPixelStats"
        members[key] = data.class_statistics.to_esri(values, not data.features)
    members |= _rasters(data)
    members["BandStatsState"] = [one.to_state() for one in data.band_statistics]
    if data.sensors2:
        members["BandStatsState2"] = [one.to_state() for one in data.band_statistics2]
    return members


def _rasters(data: DataSet) -> Dict[str, Any]:
    members = {"InputRastersProps": _raster(data.sensors, data.band_names)}
    if data.sensors2:
        members["InputRastersProps2"] = _raster(data.sensors2, data.band_names2)
    return members


def _raster(count: int, names: Sequence[str]) -> Dict[str, Any]:
    return {"RasterCount": count, "SensorName": "Raster Dataset", "BandNames": list(names)}


def _cell_size(data: DataSet) -> Dict[str, Any]:
    x, y, crs = data.cell_size
    return {"x": x, "y": y, "spatialReference": {"wkt": crs} if crs else {}}


def definition(data: DataSet) -> Dict[str, Any]:
    """Return the members of ``esri_model_definition.emd``: a template with facts about the data."""
    example = {"Framework": "TensorFlow", "ModelConfiguration": "ObjectDetectionAPI", "ModelType": "ObjectDetection"}
    members: Dict[str, Any] = {key: f"e.g. {value}" for key, value in example.items()}
    members |= {
        "ModelFile": "e.g. .\\frozen_inference_graph.pb",
        "Description": "e.g. what the model does",
        "ImageHeight": data.tile[1],
        "ImageWidth": data.tile[0],
        "ExtractBands": list(range(data.bands)),
        "DataRange": "e.g. [0.1, 1.0]",
        "ModelPadding": "e.g. 64",
        "BatchSize": "e.g. 8",
        "PerProcessGPUMemoryFraction": "e.g. 0.8",
        "MetaDataMode": data.format,
    }
    members |= data.options
    size = _cell_size(data)
    members |= {"MinCellSize": size, "MaxCellSize": size}
    if data.labelled:
        members["Classes"] = [_class(one) for one in data.classes]
    if data.format == "Panoptic_Segmentation":
        members["Panoptic_Segmentation_Instance_Classes"] = [_class(one) for one in data.instance_classes]
    members |= _rasters(data)
    members["AllTilesStats"] = _summaries(data.band_names, data.band_statistics)
    if data.sensors2:
        members["AllTilesStats2"] = _summaries(data.band_names2, data.band_statistics2)
    return members


def _class(one: LabelClass) -> Dict[str, Any]:
    return {"Value": one.value, "Name": one.name, "Color": list(one.color) if one.color else NO_COLOUR}


def _summaries(names: Sequence[str], bands: Sequence[BandStatistics]) -> List[Dict[str, Any]]:
    found = []
    for name, one in zip(names, bands):
        low, high = (one.minimum, one.maximum) if one.count else (0.0, 0.0)
        found.append({"BandName": name, "Min": low, "Max": high, "Mean": one.mean, "StdDev": one.deviation})
    return found


def write_all(root: Path, data: DataSet) -> None:
    """Write the statistics and the definition below ``root``."""
    write_text(root / folder.STATS_TEXT, statistics_text(data), "\r\n")
    write_text(root / folder.STATISTICS, esri_json(accumulated(data)))
    write_text(root / folder.DEFINITION, esri_json(definition(data)))
