"""OAuth2 at the relay: tokens for a service client, logins of people, their renewal and end.

The standard library is enough for these few requests; redirects are refused, since what is sent is
for one relay.
"""

import base64
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import msgspec

from mep import __version__
from mep.link import Peer
from mep_sdk.auth import Credentials
from mep_sdk.errors import CredentialsError, RelayUnreachable

CLIENT_ID: Final = "mep"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
TIMEOUT_S: Final = 30.0
_MOST: Final = 1024 * 1024
_NOT_NOW: Final = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)


class OAuthRefused(CredentialsError):
    """The relay gives no token.

    Args:
        error: the symbol of RFC 6749 or 8628.
        message: the relay's sentence.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True)
class Device:
    """A login that waits for somebody to approve its code."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: float
    interval: float


def client_token(credentials: Credentials, now: float) -> Credentials:
    """A new access token of a service client.

    Raises:
        OAuthRefused: id or secret is wrong.
        RelayUnreachable: no answer.
    """
    pair = f"{credentials.client_id}:{credentials.client_secret}".encode()
    basic = base64.b64encode(pair).decode("ascii")
    form = {"grant_type": "client_credentials"}
    return _renewed(credentials, _post(credentials, "token", form, basic), now)


def refreshed(credentials: Credentials, now: float) -> Credentials:
    """A person's login with new tokens.

    Raises:
        OAuthRefused: the login is over.
        RelayUnreachable: no answer.
    """
    form = {"grant_type": "refresh_token", "refresh_token": credentials.refresh_token}
    return _renewed(credentials, _post(credentials, "token", form), now)


def revoke(credentials: Credentials) -> None:
    """End a person's login at the relay.

    Raises:
        RelayUnreachable: no answer.
    """
    _post(credentials, "token/revoke", {"token": credentials.refresh_token})


def begin(relay_url: str, ca_file: str | None) -> Device:
    """Begin a login; show its code and address to the person, then :func:`wait`.

    Raises:
        OAuthRefused: the relay refuses.
        RelayUnreachable: no answer.
    """
    where = Credentials(relay_url, "", ca_file)
    answer = _post(where, "device_authorization", {"client_id": CLIENT_ID})
    try:
        return msgspec.convert(answer, Device)
    except msgspec.ValidationError as error:
        raise CredentialsError(f"{relay_url} answers what no relay would: {error}") from error


def wait(
    device: Device,
    relay_url: str,
    ca_file: str | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Credentials:
    """The login, once it has been approved.

    Raises:
        OAuthRefused: refused on the page, or expired.
        RelayUnreachable: no answer until the code has expired.
    """
    where = Credentials(relay_url, "", ca_file, login=uuid4().hex)
    form = {"grant_type": DEVICE_GRANT, "device_code": device.device_code, "client_id": CLIENT_ID}
    interval, left_s = device.interval, device.expires_in
    while True:
        sleep(interval)
        left_s -= interval
        try:
            return _renewed(where, _post(where, "token", form), time.time())
        except OAuthRefused as refused:
            if refused.error == "slow_down":
                interval += 5
            elif refused.error != "authorization_pending":
                raise
        except RelayUnreachable:  # for a moment, perhaps: somebody is about to approve the code
            if left_s <= 0:
                raise


def _renewed(credentials: Credentials, answer: dict[str, Any], now: float) -> Credentials:
    try:
        return replace(
            credentials,
            token=str(answer["access_token"]),
            refresh_token=str(answer.get("refresh_token", credentials.refresh_token)),
            expires=now + float(answer["expires_in"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CredentialsError(
            f"{credentials.relay_url} answers what no relay would: {error!r}"
        ) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _post(
    where: Credentials, path: str, form: dict[str, str], basic: str | None = None
) -> dict[str, Any]:
    headers = {"Accept": "application/json", "User-Agent": f"mep-sdk/{__version__}"}
    if basic is not None:
        headers["Authorization"] = f"Basic {basic}"
    request = urllib.request.Request(  # noqa: S310 - the scheme has been checked
        f"{where.relay_url}/v2/oauth2/{path}", urlencode(form).encode(), headers, method="POST"
    )
    try:
        with _opener(where).open(request, timeout=TIMEOUT_S) as response:
            raw = response.read(_MOST)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(where, error.code, error.read(_MOST)) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise RelayUnreachable(
            f"the relay at {where.relay_url} gives no token: {reason}"
        ) from error
    return _object(where, raw)


def _opener(where: Credentials) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if context := Peer(where.relay_url, where.ca_file).tls():
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _refusal(where: Credentials, status: int, raw: bytes) -> Exception:
    if status in _NOT_NOW or status >= http.client.INTERNAL_SERVER_ERROR:
        return RelayUnreachable(f"the relay at {where.relay_url} answers HTTP {status}")
    body = _object(where, raw)
    message = str(body.get("message") or f"{where.relay_url} answers HTTP {status}")
    return OAuthRefused(str(body.get("error", "")), message)


def _object(where: Credentials, raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise CredentialsError(f"{where.relay_url} answers what no relay would: {error}") from error
