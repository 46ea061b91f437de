"""The desktop side: what a person sees in QGIS's window, one folder per thing."""
