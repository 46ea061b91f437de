"""A raster function that finds bright corners of each tile; packaged by the nightly tests for jobs over objects."""

import json


class GeometryType:
    Point = 1
    Polygon = 4


class Finder:
    def initialize(self, **kwargs):
        pass

    def getParameterInfo(self):
        return [
            {"name": "raster", "dataType": "raster", "required": True},
            {"name": "model", "dataType": "string", "required": True},
        ]

    def getConfiguration(self, **scalars):
        return {"extractBands": (0, 1, 2), "padding": 16, "tx": 224, "ty": 224, "fixedTileSize": 1, "inputMask": True}

    def getFields(self):
        names = (("OID", "esriFieldTypeOID"), ("Class", "esriFieldTypeString"), ("Confidence", "esriFieldTypeDouble"))
        return json.dumps({"fields": [{"name": name, "type": kind, "alias": name} for name, kind in names]})

    def getGeometryType(self):
        return GeometryType.Polygon

    def vectorize(self, **pixelBlocks):
        pixels = pixelBlocks["raster_pixels"].mean(0)
        found = []
        for row in range(0, pixels.shape[0] - 7, 8):
            for column in range(0, pixels.shape[1] - 7, 8):
                value = float(pixels[row : row + 8, column : column + 8].mean())
                if value > 100:
                    box = [(column, row), (column + 7, row), (column + 7, row + 7), (column, row + 7), (column, row)]
                    found.append({"attributes": {"OID": len(found) + 1, "Class": "k1", "Confidence": value / 2.55},
                                  "geometry": {"rings": [box]}})  # fmt: skip
        members = {"displayFieldName": "", "fieldAliases": {}, "geometryType": "esriGeometryPolygon", "fields": []}
        return {"output_vectors": json.dumps({**members, "features": found})}
