"""An empty raster attribute table, as raster functions import it (Esri JSON) and fill it."""

attribute_table = {
    "displayFieldName": "",
    "fieldAliases": {"OID": "OID", "Value": "Value", "Class": "Class", "Red": "Red", "Green": "Green", "Blue": "Blue"},
    "fields": [
        {"name": "OID", "type": "esriFieldTypeOID", "alias": "OID"},
        {"name": "Value", "type": "esriFieldTypeInteger", "alias": "Value"},
        {"name": "Class", "type": "esriFieldTypeString", "alias": "Class"},
        {"name": "Red", "type": "esriFieldTypeInteger", "alias": "Red"},
        {"name": "Green", "type": "esriFieldTypeInteger", "alias": "Green"},
        {"name": "Blue", "type": "esriFieldTypeInteger", "alias": "Blue"},
    ],
    "features": [],
}
