"""OAuth2: tokens for service clients and for people, and their end (RFC 6749, 7009, 8628)."""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep_cloud.attempts import origin
from mep_cloud.auth import (
    DEVICE_PREFIX,
    REFRESH_PREFIX,
    USER_PREFIX,
    digest,
    fingerprint,
    new_token,
)
from mep_cloud.errors import Refusal, TooManyLogins
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import JSON, is_https, raw, relay_of
from mep_cloud.store.logins import Poll
from mep_cloud.store.records import DeviceCode, NewTokens

ACCESS_S: Final = 2 * 3600
"""Seconds that an access token is good for."""
REFRESH_S: Final = 30 * 24 * 3600
"""Seconds after its last use at which a login is over."""
DEVICE_S: Final = 600
INTERVAL_S: Final = 2
"""Seconds that a waiting terminal leaves between two questions."""
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
USER_CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words: RFC 8628, 6.1."""
_USER_CODE: Final = 8
_COMPUTE_SCOPE: Final = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
_COMPUTE_SERVER: Final = "funcx_service"
_AUTH_SERVER: Final = "auth.globus.org"
_FIELD: Final = 1024
_FORM: Final = 64 * 1024
"""Bytes of a form: anybody may send one, and to take apart a large one stops everything else."""
BUSY_S: Final = 60
"""When to begin a login again where too many are on their way."""

Form = Mapping[str, str]


class OAuthError(Exception):
    """A refusal in OAuth2's own shape (RFC 6749, 5.2)."""

    def __init__(
        self,
        error: str,
        message: str,
        status: int = HTTPStatus.BAD_REQUEST,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


async def token(request: Request) -> Response:
    """``POST /v2/oauth2/token``."""
    form = await _form(request)
    grant = _GRANTS.get(form.get("grant_type", ""))
    if grant is None:
        known = ", ".join(_GRANTS)
        raise OAuthError("unsupported_grant_type", f"The grant types served here are {known}.")
    return _private(await grant(request, form))


async def revoke(request: Request) -> Response:
    """``POST /v2/oauth2/token/revoke``: whoever has a token may end it, and its whole login.

    The answer does not tell whether there was one.
    """
    form = await _form(request)
    if "token" not in form:
        raise OAuthError("invalid_request", "token=... is missing.")
    relay = relay_of(request)
    token = form["token"]
    ended = await relay.store.sessions.revoke(digest(token))
    if ended is None and (expires := await relay.gatekeeper.expiry(token)) is not None:
        # Its issuer goes on believing it; this relay does not.
        await relay.store.sessions.end(fingerprint(token), expires, time.time())
        ended = {fingerprint(token)}
    _forget(relay, ended or ())
    return _private({"active": False})


async def device_authorization(request: Request) -> Response:
    """``POST /v2/oauth2/device_authorization``: a terminal begins a login."""
    form = await _form(request)
    client_id = form.get("client_id", "")
    if not 0 < len(client_id) <= _FIELD:
        raise OAuthError("invalid_request", "client_id=... is missing: a name for the program.")
    relay = relay_of(request)
    now = time.time()
    address = request.client.host if request.client else ""
    if not relay.attempts.device_codes.allow(origin(address), now):
        raise _busy()
    device_code = new_token(DEVICE_PREFIX)
    user_code = "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(_USER_CODE))
    scope = form.get("scope", _COMPUTE_SCOPE)
    code = DeviceCode(
        digest(device_code), user_code, client_id, scope, now, now + DEVICE_S, INTERVAL_S
    )
    try:
        await relay.store.logins.begin(code)
    except TooManyLogins:
        raise _busy() from None
    page = f"{_address(request)}/device"
    shown = f"{user_code[:4]}-{user_code[4:]}"
    return _private(
        {
            "device_code": device_code,
            "user_code": shown,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={shown}",
            "expires_in": DEVICE_S,
            "interval": INTERVAL_S,
        }
    )


async def on_oauth_error(_request: Request, error: Exception) -> Response:
    """A refusal that OAuth2 libraries and Globus Compute's SDK can both read."""
    assert isinstance(error, OAuthError)
    unauthorized = error.status == HTTPStatus.UNAUTHORIZED
    body = {
        "error": error.error,
        "error_description": error.message,
        "status": "Failed",
        "code": codes.USER_UNAUTHENTICATED if unauthorized else error.error,
        "message": error.message,
        "http_status_code": error.status,
    }
    headers = {"Cache-Control": "no-store"}
    if unauthorized:
        headers["WWW-Authenticate"] = "Basic"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return Response(msgspec.json.encode(body), error.status, headers, JSON)


def _forget(relay: Relay, ended: Collection[bytes | str]) -> None:
    """Requests and streams of these logins and lone tokens are over."""
    if ended:
        relay.gatekeeper.forget_all()
        relay.streams.revoke(ended)


async def _client_credentials(request: Request, form: Form) -> dict[str, Any]:
    relay = relay_of(request)
    client_id, secret = _credentials(request, form)
    client = await relay.store.users.client(client_id)
    # Compared for unknown clients too, so that the time taken tells nothing.
    expected = client[1] if client else bytes(32)
    if not hmac.compare_digest(digest(secret), expected) or client is None:
        message = "Unknown client id, or a wrong client secret."
        raise OAuthError("invalid_client", message, HTTPStatus.UNAUTHORIZED)
    access = new_token(USER_PREFIX)
    now = time.time()
    await relay.store.users.add_token(
        digest(access),
        user_id=client[0].id,
        label="client credentials",
        created=now,
        expires=now + ACCESS_S,
        signed_in=now,
    )
    return _tokens(access, form)


async def _refresh(request: Request, form: Form) -> dict[str, Any]:
    access, refresh, new = new_tokens("refreshed")
    old = digest(form.get("refresh_token", ""))
    relay = relay_of(request)
    refreshed = await relay.store.sessions.refresh(old, new, relay.others.sessions)
    if not isinstance(refreshed, str):
        _forget(relay, refreshed)
        message = "The login is over: expired, or revoked. Log in again with `mep login`."
        raise OAuthError("invalid_grant", message)
    return _tokens(access, form) | {"refresh_token": refresh}


async def _device(request: Request, form: Form) -> dict[str, Any]:
    relay = relay_of(request)
    code = digest(form.get("device_code", ""))
    login = await relay.store.logins.poll(code, form.get("client_id", ""), time.time())
    if isinstance(login, Poll):
        raise OAuthError(login.value, _WHY[login])
    access, refresh, new = new_tokens("login")
    await relay.store.sessions.open(login, new, relay.others.sessions)
    return _tokens(access, form) | {"refresh_token": refresh}


_GRANTS: Final[dict[str, Callable[[Request, Form], Awaitable[dict[str, Any]]]]] = {
    "client_credentials": _client_credentials,
    "refresh_token": _refresh,
    DEVICE_GRANT: _device,
}
_WHY: Final = {
    Poll.PENDING: "Nobody has approved the code yet.",
    Poll.SLOW_DOWN: "Ask less often.",
    Poll.DENIED: "The login was refused on the page.",
    Poll.EXPIRED: "The code has expired. Begin again with `mep login`.",
    Poll.UNKNOWN: "There is no such code, or it has been used. Begin again with `mep login`.",
}


def new_tokens(label: str) -> tuple[str, str, NewTokens]:
    """An access token, a refresh token, and what is stored of them."""
    access, refresh, now = new_token(USER_PREFIX), new_token(REFRESH_PREFIX), time.time()
    new = NewTokens(digest(access), digest(refresh), label, now, now + ACCESS_S, now + REFRESH_S)
    return access, refresh, new


def _tokens(access: str, form: Form) -> dict[str, Any]:
    """The shape that Globus Auth answers in."""
    scope = form.get("scope", _COMPUTE_SCOPE)
    return {
        "access_token": access,
        "expires_in": ACCESS_S,
        "resource_server": _COMPUTE_SERVER if scope == _COMPUTE_SCOPE else _AUTH_SERVER,
        "scope": scope,
        "token_type": "Bearer",
        "other_tokens": [],
    }


def _credentials(request: Request, form: Form) -> tuple[str, str]:
    """A client's id and secret: HTTP Basic, or in the form."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if not scheme and form.get("client_id") and form.get("client_secret"):
        return form["client_id"], form["client_secret"]
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (ValueError, binascii.Error):
        plain = ""
    client_id, colon, secret = plain.partition(":")
    if scheme.lower() != "basic" or not colon or not plain.isprintable():
        message = "A token needs the client's id and secret as HTTP Basic credentials."
        raise OAuthError("invalid_client", message, HTTPStatus.UNAUTHORIZED)
    return client_id, secret


def _address(request: Request) -> str:
    """The relay as a browser knows it: what the operator says, else where the terminal asked."""
    if named := relay_of(request).others.url:
        return named
    asked = request.base_url.replace(scheme="https") if is_https(request) else request.base_url
    return str(asked).rstrip("/")


async def _form(request: Request) -> Form:
    try:
        fields = parse_qs((await raw(request, _FORM)).decode("utf-8"), max_num_fields=50)
    except Refusal as refusal:
        raise OAuthError("invalid_request", refusal.message, refusal.status) from None
    except ValueError as error:
        raise OAuthError("invalid_request", f"The form cannot be read: {error}.") from error
    for name, values in fields.items():
        if len(values) > 1 or len(values[0]) > 8 * _FIELD or not values[0].isprintable():
            message = f"{name[:40]!r} is given twice, too long, or not printable."
            raise OAuthError("invalid_request", message)
    form = {name: values[0] for name, values in fields.items()}
    if len(form.get("scope", "")) > _FIELD:
        raise OAuthError("invalid_scope", "The scope is too long.")
    return form


def _private(body: dict[str, Any]) -> Response:
    return Response(
        msgspec.json.encode(body), headers={"Cache-Control": "no-store"}, media_type=JSON
    )


def _busy() -> OAuthError:
    message = "Too many logins are on their way. Try again in a minute."
    status = HTTPStatus.TOO_MANY_REQUESTS
    return OAuthError("temporarily_unavailable", message, status, retry_after_s=BUSY_S)
