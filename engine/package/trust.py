"""Whether a package may run what it brings: by its content hash, decided by the user or an administrator, never asked.

Four sources, in this order: the hash named for this one job (``TRUST``), a refusal or an allowance that was remembered
(:mod:`.consents`), an administrator's list of hashes in the file that ``DEEP_RASTER_TRUSTED_PACKAGES`` names. Whatever
is not allowed is refused with the full hash and the exact way to allow it. One changed byte is another package.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import JobError, TrustError
from .consents import ALLOWED, DENIED, ConsentStore, is_digest
from .lenient import clip
from .opening import ModelPackage, open_package
from .values import to_flag

VARIABLE = "DEEP_RASTER_TRUSTED_PACKAGES"

CODE, TORCHSCRIPT, GRAPH = "code", "torchscript", "graph"
_WORDS = {
    CODE: "run its own Python code",
    TORCHSCRIPT: "load TorchScript, which can write files while it loads",
    GRAPH: "run operations of its network that may touch files",
}


@dataclass(frozen=True)
class Verdict:
    """Whether a package may do what it asks for.

    Attributes:
        allowed: the answer.
        source: "parameter", "remembered", "list", "denied", "nobody", or "nothing" if nothing is asked for.
        sentence: the answer for people; if it is no, with the full hash and how to allow it.
        hint: what to do next.
    """

    allowed: bool
    source: str
    sentence: str
    hint: str = ""


def parse_trust(values: Iterable[str]) -> Tuple[str, ...]:
    """Return the hashes of a TRUST parameter, which must be complete.

    Raises:
        JobError: one of them is not ``sha256:`` and 64 hexadecimal digits.
    """
    found: List[str] = []
    for text in (part for value in values for part in re.split(r"[\s;,]+", value) if part):
        digest = text.casefold()
        if not is_digest(digest):
            raise JobError(
                f"TRUST is “{clip(text, 90)}”, which is not the full hash of a package.",
                hint="It is sha256: and 64 hexadecimal digits; the package's card shows it.",
            )
        found.append(digest)
    return tuple(found)


def needs_of(package: ModelPackage, arguments: Optional[Mapping[str, str]] = None) -> Tuple[str, ...]:
    """Return what of :data:`CODE` and its like the definition itself asks for; loaders may find more.

    Args:
        package: an opened package.
        arguments: model arguments of the job, of which ``own_code`` asks for code that is not needed otherwise.
    """
    asked = package.code_is_optional and to_flag((arguments or {}).get("own_code", "")) is True
    needs = [CODE] if package.has_code or asked else []
    if package.definition.framework == "TorchScript":
        needs.append(TORCHSCRIPT)
    return tuple(needs)


def verdict(
    package: ModelPackage, needs: Sequence[str], *, trust: Sequence[str] = (), store: Optional[ConsentStore] = None
) -> Verdict:
    """Return whether a package may do what ``needs`` lists.

    Args:
        package: an opened package.
        needs: any of "code", "torchscript" and "graph".
        trust: hashes that the job itself names.
        store: the remembered decisions; default the user's.

    Raises:
        JobError: ``trust`` holds something that is no full hash.
    """
    if not needs:
        return Verdict(True, "nothing", "The package brings no code of its own.")
    name = clip(package.path.name)
    if package.digest in parse_trust(trust):
        return Verdict(True, "parameter", f"The package “{name}” is allowed by the hash given with TRUST.")
    known = (store or ConsentStore()).decision(package.digest)
    if known is not None and known.decision == DENIED:
        return _refusal(package, needs, "denied", "you have refused it")
    if known is not None and known.decision == ALLOWED and set(needs) <= set(known.needs):
        return Verdict(True, "remembered", f"The package “{name}” is allowed by an earlier decision.")
    listed, note = _administrators_list()
    if package.digest in listed:
        return Verdict(True, "list", f"The package “{name}” is on the list of allowed packages.")
    return _refusal(package, needs, "nobody", "nobody has allowed it" + note)


def require(
    package: ModelPackage, needs: Sequence[str], *, trust: Sequence[str] = (), store: Optional[ConsentStore] = None
) -> None:
    """Return if a package may do what ``needs`` lists.

    Raises:
        TrustError: it may not; the sentence holds the full hash and how to allow it.
    """
    found = verdict(package, needs, trust=trust, store=store)
    if not found.allowed:
        raise TrustError(found.sentence, stage="checking the trust", file=str(package.path), hint=found.hint)


def open_for_run(
    path: Union[str, Path],
    *,
    trust: Sequence[str] = (),
    cache: Optional[Path] = None,
    store: Optional[ConsentStore] = None,
    digest: str = "",
) -> ModelPackage:
    """Open a package in order to use its model; ``code_allowed`` of the answer holds the decision for its loaders.

    Args:
        path: see :func:`.opening.open_package`.
        trust: hashes that the job itself names.
        cache: folder of unpacked packages; default the user's.
        store: the remembered decisions; default the user's.
        digest: see :func:`.opening.open_package`.

    Raises:
        TrustError: the package needs code of its own and nobody has allowed it; else as :func:`.opening.open_package`.
    """
    package = open_package(path, cache, digest=digest)
    require(package, needs_of(package), trust=trust, store=store)
    found = verdict(package, (CODE, TORCHSCRIPT, GRAPH), trust=trust, store=store)
    return replace(package, code_allowed=found.allowed)


def trust_own(package: ModelPackage, store: Optional[ConsentStore] = None) -> None:
    """Allow a package that this user has just made here, and that brings code."""
    if needs_of(package):
        (store or ConsentStore()).allow(package.digest, package.path.name, (CODE, TORCHSCRIPT, GRAPH))


def _refusal(package: ModelPackage, needs: Sequence[str], source: str, why: str) -> Verdict:
    wants = " and ".join(_WORDS[need] for need in needs)
    files = ", ".join(clip(one, 40) for one in package.code[:5]) if CODE in needs else ""
    files = f" ({files}{', …' if len(package.code) > 5 else ''})" if files else ""
    sentence = (
        f"The package “{clip(package.path.name)}” wants to {wants}{files}, and {why}. Its hash is {package.digest}."
    )
    # The card asks for what every use of the package needs.
    card = "" if package.code_is_optional else ", or allow exactly this package on its card in QGIS"
    hint = (
        f"If you trust its author, run the algorithm again with TRUST={package.digest}, or add that hash as a line to "
        f"the file that the variable {VARIABLE} names{card}."
    )
    if source == "denied":
        hint = (
            f"To change your mind, withdraw the refusal on the settings page of Deep Raster, or run the algorithm once "
            f"with TRUST={package.digest}."
        )
    return Verdict(False, source, sentence, hint)


def _administrators_list() -> Tuple[Tuple[str, ...], str]:
    """Return the hashes of the administrator's file, and what is wrong with the file if it does not count."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        return (), ""
    path = Path(named)
    try:
        state = path.stat()
        if sys.platform != "win32" and (state.st_mode & 0o022 or state.st_uid not in (0, os.getuid())):
            return (), f" (the list {named} does not count, because other users may write to it)"
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return (), f" (the list {named} cannot be read: {clip(getattr(error, 'strerror', None) or error)})"
    words = (line.split("#")[0].split() for line in lines)
    return tuple(one[0].casefold() for one in words if one and is_digest(one[0].casefold())), ""
