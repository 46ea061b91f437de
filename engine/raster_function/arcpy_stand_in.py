"""A stand-in for ``arcpy``: the little that inference code asks of it, and a sentence for all the rest."""

from __future__ import annotations

import sys
import tempfile
import types
from typing import Any, Callable

from .. import events

Emit = Callable[[events.Event], None]


class _Environment(types.SimpleNamespace):
    """``arcpy.env``: a place to read and write settings; those that nobody set are None, as in ArcGIS."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class _Arcpy(types.ModuleType):
    """The module object; whatever it lacks is named when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"arcpy.{name} exists in ArcGIS alone; this host offers arcpy.env, AddMessage, AddWarning and AddError"
        )


def make_arcpy(device: str, emit: Emit) -> types.ModuleType:
    """Return the stand-in; messages become lines of the job's log."""
    arcpy = _Arcpy("arcpy")
    arcpy.__file__ = __file__
    gpu = device != "cpu"
    arcpy.env = _Environment(  # type: ignore[attr-defined]
        processorType="GPU" if gpu else "CPU",
        gpuId="0" if gpu else "",
        scratchFolder=tempfile.gettempdir(),
        scratchWorkspace=tempfile.gettempdir(),
    )

    def teller(level: str) -> Callable[..., None]:
        return lambda message="", *_: emit(events.Log(level, str(message)))

    arcpy.AddMessage = teller(events.INFO)  # type: ignore[attr-defined]
    arcpy.AddWarning = teller(events.WARNING)  # type: ignore[attr-defined]
    arcpy.AddError = teller(events.ERROR)  # type: ignore[attr-defined]
    return arcpy


def install(device: str, emit: Emit) -> types.ModuleType:
    """Put the stand-in into ``sys.modules`` and the built-ins.

    Some published templates use the name ``arcpy`` without importing it, because ArcGIS's host has done so.
    """
    import builtins

    arcpy = make_arcpy(device, emit)
    sys.modules["arcpy"] = arcpy
    builtins.arcpy = arcpy  # type: ignore[attr-defined]
    return arcpy
