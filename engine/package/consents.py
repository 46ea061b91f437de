"""The memory of consents: which packages, by content hash, the user has allowed or refused to run their own code.

One JSON file in the user's data folder, signed with a secret that lies beside it and that only the user can read. The
signature does not stop the user's other programs, which have all his rights anyway; it stops a file that was copied
in, edited or damaged from counting as consent. A file that does not fit its signature counts as empty.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from .. import locks
from ..errors import OutputError
from ..setup.locations import home

ALLOWED, DENIED = "allowed", "denied"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Consent:
    """One decision: the package's hash and name, what for, "allowed" or "denied", and when (seconds since 1970)."""

    digest: str
    name: str
    needs: Tuple[str, ...]
    decision: str
    time: float


def is_digest(text: str) -> bool:
    """Whether a text is a full package hash."""
    return bool(_DIGEST.fullmatch(text))


class ConsentStore:
    """The decisions in ``folder``; default the ``trust`` folder of the user's data."""

    def __init__(self, folder: Optional[Path] = None) -> None:
        self.folder = folder or home() / "trust"
        self._file = self.folder / "consents.json"
        self._key_file = self.folder / "secret"

    def entries(self) -> Tuple[Consent, ...]:
        """Return all decisions, the newest first; none if the file is missing or does not fit its signature."""
        return tuple(sorted(self._read().values(), key=lambda one: (-one.time, one.digest)))

    def decision(self, digest: str) -> Optional[Consent]:
        """Return what was decided for a package, or None."""
        return self._read().get(digest)

    def allow(self, digest: str, name: str, needs: Sequence[str]) -> None:
        """Remember that exactly this package may do what ``needs`` lists."""
        self._decide(Consent(digest, name, tuple(sorted(needs)), ALLOWED, time.time()))

    def deny(self, digest: str, name: str, needs: Sequence[str]) -> None:
        """Remember that exactly this package may not."""
        self._decide(Consent(digest, name, tuple(sorted(needs)), DENIED, time.time()))

    def revoke(self, digest: str) -> bool:
        """Forget what was decided for a package; return whether there was anything."""
        with self._locked():
            found = self._read()
            known = found.pop(digest, None) is not None
            if known:
                self._write(found)
        return known

    def _decide(self, consent: Consent) -> None:
        if not is_digest(consent.digest):
            raise ValueError(f"{consent.digest!r} is not the hash of a package")
        with self._locked():
            found = self._read()
            found[consent.digest] = consent
            self._write(found)

    def _read(self) -> Dict[str, Consent]:
        try:
            members = json.loads(self._file.read_text("utf-8"))
            listed = members["consents"]
            if not hmac.compare_digest(str(members["signature"]), self._signature(listed)):
                return {}
            consents = [
                Consent(str(one["digest"]), str(one["name"]), tuple(one["needs"]), str(one["decision"]), one["time"])
                for one in listed
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {one.digest: one for one in consents}

    def _write(self, consents: Dict[str, Consent]) -> None:
        listed: List[Dict[str, object]] = [asdict(consents[digest]) for digest in sorted(consents)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_secret()
            text = json.dumps({"consents": listed, "signature": self._signature(listed)}, indent=1)
            part = self._file.with_name(f".consents.{os.getpid()}.part")
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._file)
        except OSError as error:
            raise self._unwritable(error) from error

    def _signature(self, listed: object) -> str:
        text = json.dumps(listed, sort_keys=True, separators=(",", ":"))
        return hmac.new(self._key_file.read_bytes(), text.encode("utf-8"), hashlib.sha256).hexdigest()

    def _make_secret(self) -> None:
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(self._key_file, flags, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing at the same time."""
        end = time.monotonic() + _LOCK_SECONDS
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                file = held.enter_context(os.fdopen(descriptor, "r+b"))
                while not locks.take(file):
                    if time.monotonic() > end:
                        raise BlockingIOError(errno.EAGAIN, "another program is writing there")
                    time.sleep(0.02)
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"The decision about a package cannot be remembered: {error.strerror or error}.",
            stage="remembering the consent",
            file=str(self.folder),
            hint="Check the rights of that folder.",
        )
