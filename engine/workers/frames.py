"""Frames on the pipes between the engine process and its workers: a 4-byte length and that many bytes of JSON.

The length comes first (big-endian, unsigned), so that neither side ever has to guess where a message ends, and both
sides parse the other's bytes as hostile: too long, not JSON or not an object ends the connection.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, Dict, Optional

# Receipts and payloads are small; whatever is larger belongs into a file of the job's scratch folder.
MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class FrameError(ValueError):
    """The other side sent something that is not a frame of this protocol."""


def encode(message: Dict[str, Any]) -> bytes:
    """Return the frame of a JSON object.

    Raises:
        FrameError: the message is larger than :data:`MAX_FRAME`.
    """
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    if len(body) > MAX_FRAME:
        raise FrameError(f"A message of {len(body):,} bytes is larger than the {MAX_FRAME:,} bytes that may cross.")
    return _LENGTH.pack(len(body)) + body


def write(stream: BinaryIO, message: Dict[str, Any]) -> None:
    """Write one frame and flush it."""
    stream.write(encode(message))
    stream.flush()


def read(stream: BinaryIO) -> Optional[Dict[str, Any]]:
    """Return the next message, or None at the end of the stream.

    Raises:
        FrameError: the stream ends inside a frame, or the frame is too long or not a JSON object.
    """
    head = _read_exactly(stream, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise FrameError("The stream ended inside a frame's length.")
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise FrameError(f"A frame claims {length:,} bytes; at most {MAX_FRAME:,} are allowed.")
    body = _read_exactly(stream, length)
    if len(body) < length:
        raise FrameError("The stream ended inside a frame.")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError("A frame does not hold JSON.") from error
    if not isinstance(message, dict):
        raise FrameError("A frame does not hold a JSON object.")
    return message


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Return ``size`` bytes, or fewer if the stream ends."""
    parts = []
    missing = size
    while missing:
        part = stream.read(missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
