"""The authorization code grant with PKCE (RFC 6749, 4.1; RFC 7636): pure."""

import base64
import hashlib
from urllib.parse import urlencode


def address(endpoint: str, verifier: str, **query: str) -> str:
    """Where a browser goes to get a code."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    every = {
        "response_type": "code",
        **query,
        "code_challenge": challenge.rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(every)}"


def form(code: str, verifier: str, client_id: str, redirect: str) -> dict[str, str]:
    """What the token endpoint is sent for a code."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect,
        "client_id": client_id,
        "code_verifier": verifier,
    }
