"""The relay's signed word that a person may have a user endpoint. Format: ``docs/protocol.md``.

Nothing of a grant is parsed before its HMAC holds. Replay is the caller's to remember.
"""

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any

from mep.root.messages import Start
from mep.root.refusal import Refusal

SKEW = 180
"""Seconds that a grant lives at most, and that its issue may lie in this machine's future."""
_UUID, _HEX = '"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"', '"[0-9a-f]{%d}"'
_SHAPE = {
    "v": "1",
    "key_version": "[0-9]{1,9}",
    "issued": "[0-9]{1,12}",
    "expires": "[0-9]{1,12}",
    "endpoint_id": _UUID,
    "user_endpoint_id": _UUID,
    "options_sha256": _HEX % 64,
    "runtime_sha256": _HEX % 64,
    "boot_id": _HEX % 32,
    "nonce": _HEX % 32,
    "identities": r"\[.*\]",
}
"""What the JSON of each value looks like."""


class GrantError(Refusal):
    """The relay's word does not hold. `detail`, for the audit log: signature, shape, key_version,
    endpoint, boot_id, freshness, options, runtime, replay.
    """

    def __init__(self, reason: str) -> None:
        message = "The site did not accept the relay's request to start your user endpoint."
        super().__init__("GRANT_REFUSED", message, reason)


@dataclass(frozen=True)
class Grant:
    """What the relay said. Every identity has `id` and `status`; `token` is the user endpoint's."""

    user_endpoint_id: str
    identities: list[dict[str, str]]
    person: list[str]
    """The ids of the identities."""
    nonce: str
    expires: int
    token: bytes


def verify(start: Start, keys: dict[int, bytes], endpoint: str, boot: str, now: float) -> Grant:
    """The grant in `start`, if one of `keys` (by version) signed it for this warden, just now.

    Raises:
        GrantError: with the reason.
    """
    text = b"mep-grant-1\0" + start.grant
    signatures = {number: hmac.digest(key, text, "sha256") for number, key in keys.items()}
    signers = [n for n, one in signatures.items() if hmac.compare_digest(one, start.signature)]
    if not signers:
        raise GrantError("signature")
    raw = _parse(start.grant)
    born, dies = raw["issued"], raw["expires"]
    rules = {
        "key_version": raw["key_version"] in signers,
        "endpoint": raw["endpoint_id"] == endpoint,
        "boot_id": raw["boot_id"] == boot,
        "freshness": born - SKEW <= now <= dies and born <= dies <= born + SKEW,
        "options": raw["options_sha256"] == hashlib.sha256(start.options).hexdigest(),
        "runtime": raw["runtime_sha256"] == hashlib.sha256(start.runtime).hexdigest(),
    }
    for reason, holds in rules.items():
        if not holds:
            raise GrantError(reason)
    token = hmac.digest(keys[raw["key_version"]], b"mep-token-1\0" + start.grant, "sha256")
    name, people, nonce = raw["user_endpoint_id"], raw["identities"], raw["nonce"]
    person, text = sorted({one["id"] for one in people}), base64.urlsafe_b64encode(token)
    return Grant(name, people, person, nonce, dies, text.rstrip(b"="))


def _parse(data: bytes) -> dict[str, Any]:
    """An object of exactly the documented shape, in canonical form: so no key stands twice."""
    try:
        raw = json.loads(data)
        canonical = json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise GrantError("shape") from error
    if canonical != data or not isinstance(raw, dict) or set(raw) != set(_SHAPE):
        raise GrantError("shape")
    people = raw["identities"]
    whole = all(re.fullmatch(shape, json.dumps(raw[name])) for name, shape in _SHAPE.items())
    if not whole or not 0 < len(people) <= 64 or not all(map(_is_identity, people)):
        raise GrantError("shape")
    return raw


def _is_identity(raw: Any) -> bool:
    if not isinstance(raw, dict) or not {"id", "status"} <= set(raw):
        return False
    texts = [text for pair in raw.items() for text in pair]
    return all(isinstance(t, str) and len(t.encode(errors="surrogatepass")) <= 1024 for t in texts)
