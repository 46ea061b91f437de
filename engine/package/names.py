"""Which names of files a package may carry: those that mean one and the same file on every system, inside one folder.

Nothing is repaired. A name that some system would read as another place, another file or a device is a reason to
refuse the whole package, because two programs would then see two different packages.
"""

from __future__ import annotations

import unicodedata
from typing import Dict, Iterable, List, Set

MAX_NAME = 200
MAX_PART = 150
MAX_PARTS = 16

_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
_RESERVED |= {f"{device}{number}" for device in ("com", "lpt") for number in "0123456789¹²³"}
_FORBIDDEN = set('<>:"|?*\\')
_LOOK_ALIKES = {"\u2044", "\u2215", "\u29f5", "\u29f8", "\u29f9", "\ufe68", "\uff0f", "\uff3c", "\u2216", "\u2024"}


def name_fault(name: str) -> str:
    """Return why an entry may not be called ``name`` (slashes separate folders), or an empty text."""
    if not name or name.startswith("/"):
        return "is an absolute path" if name else "is empty"
    if "\\" in name:
        return "holds a backslash, which some systems take for a folder separator"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    parts = name.rstrip("/").split("/") if name.endswith("/") and not name.endswith("//") else name.split("/")
    if len(parts) > MAX_PARTS:
        return f"lies more than {MAX_PARTS} folders deep"
    for part in parts:
        fault = _part_fault(part)
        if fault:
            return fault
    return ""


def _part_fault(part: str) -> str:
    if part == "":
        return "has an empty folder name"
    if part in (".", ".."):
        return "leads out of the package’s folder"
    if len(part.encode("utf-8", "surrogatepass")) > MAX_PART:
        return f"has a part longer than {MAX_PART} bytes"
    if len(part) > 1 and part[1] == ":" and part[0].isalpha():
        return "names a drive"
    for character in part:
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"):
            return f"holds the invisible or undefined character U+{ord(character):04X}"
        if character in _FORBIDDEN:
            return f"holds the character {character}, which has a meaning of its own on some systems"
        if character in _LOOK_ALIKES:
            return f"holds U+{ord(character):04X}, which looks like a separator"
    if part[-1] in ". " or part[0] == " ":
        return "has a part that begins or ends with a blank or ends with a dot"
    folded = unicodedata.normalize("NFKC", part)
    if folded in (".", "..") or "/" in folded or "\\" in folded:
        return "turns into a path that leads elsewhere when normalised"
    if folded.split(".")[0].strip().casefold() in _RESERVED:
        return "is the name of a device on Windows"
    return ""


def folded(name: str) -> str:
    """Return the form under which names are compared: systems that ignore case or normal form see one file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def clashes(names: Iterable[str]) -> List[str]:
    """Return sentences on names that would land on one file, or on a file where another name needs a folder."""
    found: List[str] = []
    files: Dict[str, str] = {}
    folders: Dict[str, str] = {}
    listed: Set[str] = set()
    for name in names:
        path = name.rstrip("/")
        parts = path.split("/")
        for depth in range(1, len(parts) + (1 if name.endswith("/") else 0)):
            folder = "/".join(parts[:depth])
            known = folders.setdefault(folded(folder), folder)
            if known != folder:
                found.append(f"the folders “{known}” and “{folder}” are one on some systems")
        key = folded(path)
        if name.endswith("/"):
            if key in listed:
                found.append(f"the folder “{path}” is listed twice")
            listed.add(key)
        elif key in files:
            found.append(
                f"“{files[key]}” and “{path}” are one file" + ("" if files[key] == path else " on some systems")
            )
        else:
            files[key] = path
    found.extend(f"“{files[one]}” is a file and a folder" for one in files if one in folders)
    return found
