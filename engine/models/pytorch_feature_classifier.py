"""The PyTorch configuration FeatureClassifier: the published function runs arcgis.learn's network of that name."""

from __future__ import annotations

from .arcgis_classifier import load

__all__ = ["load"]
