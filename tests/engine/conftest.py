"""One process runs tests of all frameworks, which the product never does."""

from __future__ import annotations

import contextlib

# PyTorch's compiler brings triton, which aborts the process if TensorFlow was imported before it (both carry an LLVM).
with contextlib.suppress(ImportError):
    import triton  # noqa: F401
