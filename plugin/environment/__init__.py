"""The engine's environment in the window: set-up dialog and options page."""
