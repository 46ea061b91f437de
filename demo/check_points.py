"""Compare a class raster with points whose class is known: ``check_points.py RASTER POINTS``."""

from __future__ import annotations

import json
import sys

import pyogrio
import rasterio
import shapely

names = {1: "water", 2: "crop", 3: "tree", 4: "developed"}
_meta, _fids, geometries, (expected,) = pyogrio.raw.read(sys.argv[2], columns=["name"])
with rasterio.open(sys.argv[1]) as source:
    points = [(one.x, one.y) for one in shapely.from_wkb(geometries)]
    found = [names.get(int(value[0]), "nothing") for value in source.sample(points)]
right = sum(one == other for one, other in zip(expected, found))
print(f"    {right} of {len(found)} check points agree: " + json.dumps(list(zip(expected, found))))
