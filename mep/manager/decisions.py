"""Starts, for the audit log: what one is about, by which the manager decides nothing; and what it
refuses itself.
"""

from typing import Any

import msgspec

from mep.wire.to_manager import START_TASKS, Refused, Start


class _Identity(msgspec.Struct):
    id: str = ""
    username: str = ""


class _Grant(msgspec.Struct):
    identities: list[_Identity] = []


def asked(start: Start) -> dict[str, Any]:
    """Whom the relay asks to start a user endpoint for, and which; whether the relay's word holds
    is for the warden to find.
    """
    try:
        people = msgspec.json.decode(start.grant, type=_Grant).identities
    except msgspec.DecodeError:
        people = []
    return {
        "user_endpoint_id": start.user_endpoint_id,
        "nonce": start.nonce,
        "identities": [{"id": one.id, "username": one.username} for one in people[:64]],
        "tasks": list(start.tasks[:START_TASKS]),
    }


def refused(answer: Refused) -> dict[str, Any]:
    """A start that the warden does not get to see: what it is answered, and why."""
    return {
        "user_endpoint_id": answer.user_endpoint_id,
        "nonce": answer.nonce,
        "code": answer.code,
        "why": answer.message,
    }
