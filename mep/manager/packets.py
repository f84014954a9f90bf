"""The manager's half of what is spoken with the warden: :mod:`mep.root.messages` has the list."""

import json
from typing import Any, Final, NamedTuple

from mep.root.messages import (
    EXITED,
    REFUSED,
    REPLIES,
    RUNNING,
    START,
    STARTED,
    MessageError,
    Start,
    Stop,
)


class Running(NamedTuple):
    """The state of the warden: bind `boot_id` into grants; these user endpoints live."""

    boot_id: str
    user_endpoint_ids: list[str]


class Started(NamedTuple):
    """The user's process is forked (or was running already)."""

    user_endpoint_id: str
    account: str
    pid: int


class Refused(NamedTuple):
    """No process was started. `user_endpoint_id` is empty where the grant could not be believed;
    `packet` is the SHA-256 of its bytes, hex; `reference` names the record in the warden's log.
    """

    user_endpoint_id: str
    packet: str
    code: str
    reference: str


class Exited(NamedTuple):
    """A user endpoint ended. `status` is negative for a signal, and None where the warden cannot
    know; `said` are the bytes that its process left on descriptor 4: a user's words, or none.
    """

    user_endpoint_id: str
    status: int | None
    said: str


Request = Start | Stop
Reply = Running | Started | Refused | Exited
_REPLIES: Final[dict[bytes, type[Reply]]] = {
    RUNNING: Running,
    STARTED: Started,
    REFUSED: Refused,
    EXITED: Exited,
}


def pack_request(request: Request) -> bytes:
    """The packet of one request."""
    match request:
        case Start(grant, signature, options, runtime):
            head = START.pack(b"S", len(grant), len(options), len(runtime), signature)
            return head + grant + options + runtime
        case Stop(user_endpoint_id):
            return b"P" + user_endpoint_id.encode("ascii")


def parse_reply(packet: bytes) -> Reply:
    """The reply in a packet.

    Raises:
        MessageError: unknown kind, not JSON, not exactly the declared fields.
    """
    kind = _REPLIES.get(packet[:1])
    if kind is None:
        raise MessageError(f"packet of kind {packet[:1]!r}")
    try:
        body = json.loads(packet[1:])
    except ValueError as error:
        raise MessageError(f"reply is not JSON: {error}") from error
    if not isinstance(body, dict) or tuple(body) != REPLIES[packet[:1]]:
        raise MessageError("reply does not have the declared fields")
    return kind(**body)


def report(said: str) -> tuple[str, str]:
    """Code and sentence of what a user's process said of its end; empty where it said neither."""
    try:
        raw: Any = json.loads(said)
        return str(raw["code"]), str(raw["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return "", ""
