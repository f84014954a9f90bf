"""The relay's signed word that a person may have a user endpoint. Format: ``docs/protocol.md``.

Nothing of a grant is parsed before its HMAC holds; then it is its canonical form that is matched,
so nothing can stand there twice or in another place.
"""

import base64
import hashlib
import json
import re
from collections.abc import Container
from hmac import compare_digest, digest
from typing import NamedTuple

from mep.root.messages import Start
from mep.root.refusal import Refusal

Keys = dict[int, bytes]
SKEW = 180
"""Seconds that a grant lives at most, and that its issue may lie in this machine's future."""
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GRANT = re.compile(
    f'{{"boot_id":"(?P<boot>[0-9a-f]{{32}})","endpoint_id":"(?P<endpoint>{_UUID})",'
    r'"expires":(?P<dies>[1-9][0-9]{,11}),"identities":(?P<people>\[.*\]),'
    r'"issued":(?P<born>[1-9][0-9]{,11}),"key_version":(?P<version>[1-9][0-9]{,8}),'
    '"nonce":"(?P<nonce>[0-9a-f]{32})","options_sha256":"(?P<options>[0-9a-f]{64})",'
    f'"runtime_sha256":"(?P<runtime>[0-9a-f]{{64}})","user_endpoint_id":"(?P<name>{_UUID})","v":1}}'
)


class Grant(NamedTuple):
    """What the relay said. Every identity has `id` and `status`; `person` are the ids."""

    user_endpoint_id: str
    identities: list[dict[str, str]]
    person: list[str]
    nonce: str
    expires: int
    token: bytes
    """Of the user endpoint, for the relay."""


def verify(start: Start, keys: Keys, me: tuple[str, str], used: Container[str], at: float) -> Grant:
    """The grant in `start`, if one of `keys` (by version) signed it for `me` (endpoint id, boot
    id), just now, `at` epoch seconds, and its nonce is not one of `used`.

    Raises:
        Refusal: GRANT_REFUSED. `detail` is signature, shape, key_version, endpoint, boot_id,
            freshness, options, runtime or replay.
    """
    text, mark = b"mep-grant-1\0" + start.grant, start.signature
    signers = [n for n, key in keys.items() if compare_digest(digest(key, text, "sha256"), mark)]
    if not signers:
        raise Refusal("GRANT_REFUSED", "signature")
    said = _GRANT.fullmatch(start.grant.decode("ascii", "replace"))
    people = _people(said["people"]) if said else []
    if said is None or not people:
        raise Refusal("GRANT_REFUSED", "shape")
    born, dies, version = int(said["born"]), int(said["dies"]), int(said["version"])
    rules = {
        "key_version": version in signers,
        "endpoint": said["endpoint"] == me[0],
        "boot_id": said["boot"] == me[1],
        "freshness": born - SKEW <= at <= dies and born <= dies <= born + SKEW,
        "options": said["options"] == hashlib.sha256(start.options).hexdigest(),
        "runtime": said["runtime"] == hashlib.sha256(start.runtime).hexdigest(),
        "replay": said["nonce"] not in used,
    }
    if broken := [rule for rule, holds in rules.items() if not holds]:
        raise Refusal("GRANT_REFUSED", broken[0])
    token = digest(keys[version], b"mep-token-1\0" + start.grant, "sha256")
    person, token = sorted({one["id"] for one in people}), base64.urlsafe_b64encode(token)
    return Grant(said["name"], people, person, said["nonce"], dies, token.rstrip(b"="))


def _people(text: str) -> list[dict[str, str]]:
    """1 to 64 identity records in canonical JSON; nothing where one of them is none."""
    try:
        raw = json.loads(text)
        size = len(raw) if json.dumps(raw, sort_keys=True, separators=(",", ":")) == text else 0
        whole = all({"id", "status"} <= one.keys() for one in raw)
        words = [len(w.encode(errors="surrogatepass")) for o in raw for kv in o.items() for w in kv]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return []
    return raw if 0 < size <= 64 and whole and max(words) <= 1024 else []
