"""From a model definition to a loaded network; one module per framework and configuration."""
