"""Whether a package may do what its network asks for: what the job has allowed, or else what is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..package import trust

if TYPE_CHECKING:
    from ..package.dlpk import ModelPackage


def require_consent(package: ModelPackage, need: str) -> None:
    """Go on only if the package may do what it needs.

    Args:
        package: an opened package; ``code_allowed`` says whether the job itself allows it.
        need: "code", "torchscript" or "graph" of :mod:`..package.trust`.

    Raises:
        TrustError: nobody has allowed it; the sentence holds the package's hash and how to allow it.
    """
    if not package.code_allowed:
        trust.require(package, (need,))
