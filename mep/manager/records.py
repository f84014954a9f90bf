"""Lines of ``events.jsonl``: JSON in ASCII, the kernel's word apart from the user's. Pure.

Each has ``received`` (epoch seconds), ``endpoint_id``, ``reported_by`` and ``event``, an object. Of
a user's process it has ``uid``, ``gid``, ``pid`` and ``account`` by the kernel and the account
database; then everything in ``event`` is that process's own word.
"""

import json
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mep.wire.events import REPORT_BYTES, Report

USER: Final = "the user's process"
MANAGER: Final = "the manager"
FIELD: Final = 500
"""Characters of one field that are kept, in lines of more than :data:`LINE` bytes."""
LINE: Final = 2048

_decoder: Final = msgspec.json.Decoder(Report)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Sender:
    """Who sent a packet, by the kernel's word."""

    pid: int
    uid: int
    gid: int
    account: str = ""
    """Of that uid."""


def decode(data: bytes) -> Report:
    """A packet's report.

    Raises:
        ValueError: too large, or none.
    """
    if len(data) > REPORT_BYTES:
        raise ValueError(f"a report of more than {REPORT_BYTES} bytes")
    return _decoder.decode(data)


def reported(report: Report, sender: Sender, endpoint_id: str, received: float) -> bytes:
    """The lines of a user's report; `received` is in epoch seconds."""
    who = {
        "user_endpoint_id": report.user_endpoint_id,
        "identity_id": report.identity_id,
    }
    head = {
        "received": round(received, 3),
        "endpoint_id": endpoint_id,
        "reported_by": USER,
        "account": sender.account,
        "uid": sender.uid,
        "gid": sender.gid,
        "pid": sender.pid,
    }
    events = (msgspec.to_builtins(one) for one in report.events)
    return b"".join(_line({**head, "event": {**who, **event}}) for event in events)


def noted(event: dict[str, Any], endpoint_id: str, received: float) -> bytes:
    """The line of something that the manager itself saw or did."""
    head = {"received": round(received, 3), "endpoint_id": endpoint_id, "reported_by": MANAGER}
    return _line({**head, "event": event})


def _line(record: dict[str, Any]) -> bytes:
    line = _encode(record)
    plain = len(line) <= LINE and line.isascii() and b"\\" not in line and b"\x7f" not in line
    return (line if plain else json.dumps(_harmless(record)).encode("ascii")) + b"\n"


def _harmless(value: Any) -> Any:
    match value:
        case str():
            return harmless(value[:FIELD])
        case dict():
            return {key: _harmless(each) for key, each in value.items()}
        case list() | tuple():
            return [_harmless(each) for each in value]
    return value


def harmless(text: str) -> str:
    """`text` without characters that move cursors, change colours or reverse text."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _obeyed(c) else c for c in text)


def _obeyed(character: str) -> bool:
    # Control, format (among them those that reverse text), surrogate, line and paragraph separator.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
