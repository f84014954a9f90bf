"""Tokens for service clients, in OAuth2's client-credentials form."""

import base64
import binascii
import hmac
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep_cloud.auth import USER_PREFIX, digest, new_token
from mep_cloud.errors import Refusal
from mep_cloud.rest.bodies import JSON, answer, raw, relay_of

LIFETIME_S: Final = 48 * 3600
_COMPUTE_SCOPE: Final = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
_COMPUTE_SERVER: Final = "funcx_service"
_AUTH_SERVER: Final = "auth.globus.org"


async def token(request: Request) -> Response:
    """``POST /v2/oauth2/token``: HTTP Basic with client id and secret."""
    form = parse_qs((await raw(request)).decode("latin-1"))
    if form.get("grant_type") != ["client_credentials"]:
        message = "Only grant_type=client_credentials is served here."
        return _oauth_error(400, "unsupported_grant_type", message)
    relay = relay_of(request)
    client_id, secret = _basic(request.headers.get("authorization"))
    client = await relay.store.users.client(client_id)
    # Compared for unknown clients too, so that the time taken tells nothing.
    expected = client[1] if client else bytes(32)
    if not hmac.compare_digest(digest(secret), expected) or client is None:
        message = "Unknown client id, or a wrong client secret."
        return _oauth_error(401, "invalid_client", message)
    access_token = new_token(USER_PREFIX)
    now = time.time()
    await relay.store.users.add_token(
        digest(access_token),
        user_id=client[0].id,
        label="client credentials",
        created=now,
        expires=now + LIFETIME_S,
    )
    scope = form.get("scope", [_COMPUTE_SCOPE])[0]
    body = {
        "access_token": access_token,
        "expires_in": LIFETIME_S,
        "resource_server": _COMPUTE_SERVER if scope == _COMPUTE_SCOPE else _AUTH_SERVER,
        "scope": scope,
        "token_type": "Bearer",
        "other_tokens": [],
    }
    response = answer(request, body)
    response.headers["Cache-Control"] = "no-store"
    return response


def _basic(authorization: str | None) -> tuple[str, str]:
    scheme, _, text = (authorization or "").partition(" ")
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (ValueError, binascii.Error):
        plain = ""
    client_id, colon, secret = plain.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise Refusal(
            401,
            codes.USER_UNAUTHENTICATED,
            "A token needs the client's id and secret as HTTP Basic credentials.",
        )
    return client_id, secret


def _oauth_error(status: int, error: str, message: str) -> Response:
    body = {
        "error": error,
        "error_description": message,
        "status": "Failed",
        "code": codes.USER_UNAUTHENTICATED if status == HTTPStatus.UNAUTHORIZED else error,
        "message": message,
        "http_status_code": status,
    }
    return Response(msgspec.json.encode(body), status, media_type=JSON)
