"""Logins in the addresses of rasters and layers: kept out of what lies on the disk, and put back for the workers.

The work folder may lie on a shared disk and outlives a job that failed, so its plan holds numbered places instead; what
stood there travels with the payload of each task. The same job with renewed logins has the same places, so unfinished
work goes on with the new ones.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Sequence, Tuple

from .remote import is_credential, shown, without_credentials

_PLACE = re.compile(r" \[login (\d+)\]$")


def hide(members: Any) -> Tuple[Any, List[str]]:
    """Return JSON members with a place in each text that holds a login, and the texts themselves by their places."""
    places: Dict[Tuple[str, bool], int] = {}
    texts: List[str] = []

    def change(text: str, named: str) -> str:
        told = "…" if is_credential(named) else shown(text)
        if not text or told == text:
            return text
        # Two links to one raster share a place, so that the places stay the same when only one link is renewed. What
        # has been stripped already is a name of the raster and no way to it.
        bare = without_credentials(text)
        key = (bare, bare == text)
        if key not in places:
            places[key] = len(texts)
            texts.append(text)
        return f"{told} [login {places[key]}]"

    return _with_texts(members, change), texts


def fill(members: Any, texts: Sequence[str]) -> Any:
    """Return members that :func:`hide` made with the texts in their places; places without a text stay."""

    def change(text: str, _named: str) -> str:
        found = _PLACE.search(text)
        return texts[int(found.group(1))] if found and int(found.group(1)) < len(texts) else text

    return _with_texts(members, change)


def _with_texts(value: Any, change: Callable[[str, str], str], named: str = "") -> Any:
    """Return JSON members with every text, and every name, as ``change`` makes it of text and name of the member."""
    if isinstance(value, str):
        return change(value, named)
    if isinstance(value, dict):
        return {change(name, ""): _with_texts(one, change, name) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_texts(one, change, named) for one in value]
    return value
