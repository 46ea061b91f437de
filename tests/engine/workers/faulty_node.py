"""Preloaded by the Dask workers of the tests: the product's node module, with the misbehaving worker as its child."""

from __future__ import annotations

import sys
from pathlib import Path

from deep_raster.engine.workers import node
from deep_raster.engine.workers.pool import WorkerPool

FAULTY = Path(__file__).with_name("faulty_worker.py")
node._pools.append(WorkerPool([sys.executable, "-B", "-u", str(FAULTY)]))
