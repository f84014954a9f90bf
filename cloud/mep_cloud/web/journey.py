"""A browser's way to an identity provider and back: pure, nothing is stored on the way.

State, nonce and PKCE verifier are derived from a secret of the relay and the browser's own cookie:
another browser that is handed the answer has another cookie, and another relay another secret.
"""

import hmac
import secrets
from dataclasses import dataclass
from typing import Final

JOURNEY_S: Final = 600
_LABEL: Final = b"mep-journey-1\0"
_PARTS: Final = 5


@dataclass(frozen=True, slots=True)
class Journey:
    """One way there and back."""

    provider: str
    """Name of the table ``[oidc.NAME]``."""
    user_code: str
    """What a terminal waits with, or empty."""
    state: str
    nonce: str
    verifier: str


def begin(master: bytes, cookie: str, provider: str, user_code: str, now: float) -> Journey:
    """A new one, by the browser that has `cookie`."""
    body = f"{provider}.{user_code}.{int(now)}.{secrets.token_hex(16)}"
    return _journey(master, cookie, body)


def back(master: bytes, cookie: str, provider: str, state: str, now: float) -> Journey | None:
    """The one that ends with `state`; None: this browser began none like it, or long ago."""
    body, _, _ = state.rpartition(".")
    parts = body.split(".")
    if len(parts) != _PARTS - 1 or not (parts[2].isascii() and parts[2].isdecimal()):
        return None
    made = _journey(master, cookie, body)
    same = hmac.compare_digest(made.state.encode(), state.encode("utf-8", "replace"))
    late = not 0 <= now - int(parts[2]) <= JOURNEY_S
    return made if same and not late and parts[0] == provider else None


def _journey(master: bytes, cookie: str, body: str) -> Journey:
    provider, user_code, _, _ = body.split(".")

    def mac(kind: str) -> str:
        message = f"{kind}\0{cookie}\0{body}".encode("utf-8", "surrogatepass")
        return hmac.digest(master, _LABEL + message, "sha256").hex()

    return Journey(provider, user_code, f"{body}.{mac('state')}", mac("nonce"), mac("verifier"))
