"""Making, finding and checking the engine's Python environment, with the standard library alone (Python 3.9+)."""
