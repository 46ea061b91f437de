"""The toolbox: one module per algorithm, each a thin translation of parameters into a job of the engine."""
