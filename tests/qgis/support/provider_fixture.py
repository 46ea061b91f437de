"""The provider in the registry of this process."""

from __future__ import annotations

import pytest


@pytest.fixture
def provider(qgis_app, qgis_processing):
    from deep_raster.engine.client import shutdown_engines
    from deep_raster.processing_provider import environments
    from deep_raster.processing_provider.provider import DeepRasterProvider
    from qgis.core import QgsApplication

    provider = DeepRasterProvider()
    QgsApplication.processingRegistry().addProvider(provider)
    yield provider
    QgsApplication.processingRegistry().removeProvider(provider)
    environments.forget()
    shutdown_engines()
