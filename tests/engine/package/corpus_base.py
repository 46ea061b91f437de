"""Packages as attackers, careless people and good tools make them, each with the verdict that it must get.

Every payload is harmless: it would create the file that the variable CANARY names, and no test may ever find it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Union

from .zips import Item, build

MODEL: Dict[str, Any] = {
    "Framework": "PyTorch",
    "ModelConfiguration": {"Name": "DeepRaster", "Task": "detection"},
    "ModelType": "ObjectDetection",
    "ModelFile": "net.pth",
    "ImageWidth": 256,
    "ImageHeight": 256,
    "ExtractBands": [0, 1, 2],
    "Classes": [{"Value": 1, "Name": "Tree", "Color": [0, 128, 0]}],
}
CUSTOM = {"InferenceFunction": "Finder.py", "ModelType": "ObjectDetection", "ImageHeight": 64, "ImageWidth": 64}
WEIGHTS = b"\x89HDF\r\n\x1a\n" + bytes(range(256))
OK, REFUSED, DEFINITION = "accepted", "PackageError", "DefinitionError"


def emd(**changes: Any) -> bytes:
    members = {key: value for key, value in {**MODEL, **changes}.items() if value is not ...}
    return json.dumps(members, indent=4).encode()


def good(*more: Item, **changes: Any) -> List[Item]:
    return [Item("tree.emd", emd(**changes), 8), Item("net.pth", WEIGHTS), *more]


@dataclass
class Case:
    """A package, its verdict, a part of the message (or of the warnings), and whether it asks for code."""

    name: str
    make: Callable[[], bytes]
    verdict: str = REFUSED
    says: str = ""
    code: bool = False
    suffix: str = ".dlpk"


CASES: List[Case] = []


def case(
    name: str,
    content: Union[bytes, List[Item], Callable[[], bytes]],
    verdict: str = REFUSED,
    says: str = "",
    **more: Any,
) -> None:
    def make() -> bytes:
        made = content() if callable(content) else content
        return build(made) if isinstance(made, list) else made

    CASES.append(Case(name, make, verdict, says, **more))
