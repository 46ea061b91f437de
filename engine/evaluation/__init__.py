"""How good detections are: matching with reference objects, precision and recall, average precision, the report."""
