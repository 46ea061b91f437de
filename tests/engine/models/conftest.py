"""torchvision crashes the interpreter if it is loaded after TensorFlow; the other order is safe."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import torchvision  # noqa: F401
