"""Globus Auth on the loopback, as far as a relay meets it: introspection, and signing in.

Shapes are those of ``POST /v2/oauth2/token/introspect`` with ``include=identity_set_detail,
session_info``.
"""

import base64
import time
import uuid
from typing import Any
from urllib.parse import unquote_plus

from testbed.issuer import Answer, Codes, Server

UNIVERSITY, GLOBUS_ID = (str(uuid.UUID(int=each)) for each in (1, 2))
"""Identity providers."""


def identity(name: str, provider: str = UNIVERSITY, **fields: Any) -> dict[str, Any]:
    """One identity of a set."""
    domain = "example.edu" if provider == UNIVERSITY else "globusid.org"
    return {
        "sub": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{domain}")),
        "username": f"{name}@{domain}",
        "name": name.title(),
        "email": f"{name}@mail.example",
        "organization": None,
        "identity_provider": provider,
        "identity_provider_display_name": f"The provider of {domain}",
        "identity_type": "login",
        "last_authentication": 1700000000,
        **fields,
    }


class GlobusAuth(Server):
    """Knows the tokens that it was told of, until they are revoked."""

    CLIENT, SECRET = "5f6cbbcd-47ee-4a0f-a0b9-3f6c4dfd6d75", "s3cret"
    SCOPE = f"https://auth.globus.org/scopes/{CLIENT}/all"

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {}
        self.down = False
        self.codes = Codes(self.CLIENT)
        self.person: dict[str, Any] | None = None
        """Whoever signs in."""
        self.linked: tuple[dict[str, Any], ...] = ()
        """Their other identities."""
        self.claims: dict[str, Any] = {}
        """What is told of their session besides."""
        super().__init__()

    def token(self, *identities: dict[str, Any], **claims: Any) -> str:
        """A new token of whoever has these identities, the first of which speaks."""
        name, now = f"Ag{uuid.uuid4().hex}", int(time.time())
        first = identities[0]
        told = {
            "active": True,
            "token_type": "Bearer",
            "iss": self.url,
            "aud": [self.CLIENT, "auth.globus.org"],
            "client_id": "some-app",
            "scope": self.SCOPE,
            "sub": first["sub"],
            "username": first["username"],
            "name": first["name"],
            "email": first["email"],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "identity_set": [each["sub"] for each in identities],
            "identity_set_detail": list(identities),
            "session_info": {
                "session_id": str(uuid.uuid4()),
                "authentications": {
                    first["sub"]: {
                        "acr": None,
                        "amr": None,
                        "auth_time": now,
                        "custom_claims": {},
                        "idp": first["identity_provider"],
                    }
                },
            },
            **claims,
        }
        self.tokens[name] = {key: value for key, value in told.items() if value is not None}
        return name

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        """What is said to a request."""
        self.asked[path] += 1
        if self.down:
            return 502, {}
        if path == "/v2/oauth2/authorize":
            return self.codes.authorize(query, {})
        _, _, basic = headers.get("Authorization", "").partition(" ")
        client = [unquote_plus(each) for each in base64.b64decode(basic).decode().split(":")]
        if client != [self.CLIENT, self.SECRET]:
            return 401, {"error": "invalid_client"}
        if path == "/v2/oauth2/token":
            return self._exchange(query)
        if path != "/v2/oauth2/token/introspect":
            return 404, {}
        told = self.tokens.get(query["token"], {"active": False})
        wanted = query.get("include", "").split(",")
        extra = {"identity_set_detail", "session_info"}.difference(wanted)
        return 200, {key: value for key, value in told.items() if key not in extra}

    def _exchange(self, form: dict[str, str]) -> Answer:
        if self.codes.begun(form) is None or self.person is None:
            return 400, {"error": "invalid_grant"}
        return 200, {
            "access_token": self.token(self.person, *self.linked, **self.claims),
            "scope": self.SCOPE,
            "resource_server": self.CLIENT,
            "expires_in": 172800,
            "token_type": "Bearer",
            "other_tokens": [],
        }
