"""From a model definition to a loaded network; one module per framework and configuration."""

from __future__ import annotations

from .lean_imports import install

install()
