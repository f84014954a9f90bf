"""Grants: the relay's side of ``docs/protocol.md``, shared test vectors in ``tests/vectors``.

Root's decoder is separate code on purpose: neither can drift without a vector failing.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LIFETIME_S: Final = 180
"""Seconds between a grant's ``issued`` and ``expires``."""

_KEY_LABEL: Final = b"mep-key-1\0"
_GRANT_LABEL: Final = b"mep-grant-1\0"
_TOKEN_LABEL: Final = b"mep-token-1\0"


@dataclass(frozen=True)
class Grant:
    """Permission to start one user endpoint, before it is signed."""

    endpoint_id: str
    user_endpoint_id: str
    identities: Sequence[Mapping[str, str]]
    options: bytes
    runtime: bytes
    boot_id: str
    """The warden that may serve it."""
    nonce: str
    """32 hex digits, never used before."""
    issued: int
    """Epoch seconds."""
    key_version: int

    def encode(self) -> bytes:
        """The exact bytes that are signed."""
        return canonical(
            {
                "v": 1,
                "endpoint_id": self.endpoint_id,
                "user_endpoint_id": self.user_endpoint_id,
                "identities": [dict(identity) for identity in self.identities],
                "options_sha256": hashlib.sha256(self.options).hexdigest(),
                "runtime_sha256": hashlib.sha256(self.runtime).hexdigest(),
                "boot_id": self.boot_id,
                "issued": self.issued,
                "expires": self.issued + LIFETIME_S,
                "nonce": self.nonce,
                "key_version": self.key_version,
            }
        )


def canonical(value: Any) -> bytes:
    """Canonical JSON: keys sorted, no blanks, ASCII escapes.

    Raises:
        ValueError: NaN or infinity, or nested too deeply.
        TypeError: something that JSON cannot say.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return text.encode("ascii")


def grant_key(master: bytes, endpoint_id: str, key_version: int) -> bytes:
    """The key of one multi-user endpoint; derived when needed, stored nowhere at the relay."""
    return _mac(master, _KEY_LABEL + f"{endpoint_id}\0{key_version}".encode("ascii"))


def signature(key: bytes, grant: bytes) -> bytes:
    """The signature of encoded grant bytes."""
    return _mac(key, _GRANT_LABEL + grant)


def token(key: bytes, grant: bytes) -> str:
    """The relay token of the user endpoint that this grant starts."""
    return base64.urlsafe_b64encode(_mac(key, _TOKEN_LABEL + grant)).rstrip(b"=").decode("ascii")


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
