"""The few HTTP requests that the command line makes, with a token that it does not keep.

The standard library is enough for these, and redirects are refused: a token is for one relay.
"""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final, TypeVar

import msgspec

from mep import __version__
from mep.cli.errors import RelayError
from mep.link import Peer
from mep.wire.rest import ErrorBody, RegisteredEndpoint, RegisterEndpoint

TIMEOUT_S: Final = 30.0
MOST: Final = 4 * 1024 * 1024

T = TypeVar("T")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Relay:
    """A relay, and a person's token."""

    def __init__(self, peer: Peer, token: str) -> None:
        self._peer = peer
        self._token = token

    @property
    def url(self) -> str:
        """The relay that is asked."""
        return self._peer.url

    def register(self, body: RegisterEndpoint, endpoint_id: str | None) -> RegisteredEndpoint:
        """Register an endpoint, or renew what is registered as `endpoint_id`.

        Raises:
            RelayError: the relay refuses, or is not to be reached.
        """
        if endpoint_id is None:
            return self.ask("POST", "/v3/endpoints", RegisteredEndpoint, body)
        return self.ask("PUT", f"/v3/endpoints/{endpoint_id}", RegisteredEndpoint, body)

    def whoami(self) -> dict[str, Any]:
        """The identity set behind the token.

        Raises:
            RelayError: the relay refuses, or is not to be reached.
        """
        return self.ask("GET", "/v3/whoami", dict[str, Any])

    def ask(self, method: str, path: str, answer: type[T], body: Any = None) -> T:
        """One request, answered as `answer`.

        Raises:
            RelayError: the relay refuses, or is not to be reached.
        """
        data = None if body is None else msgspec.json.encode(body)
        raw = self._exchange(method, path, data)
        try:
            return msgspec.json.decode(raw, type=answer)
        except msgspec.DecodeError as error:
            raise RelayError(
                f"{self._peer.url} answers, but not as a relay of this version does: {error}"
            ) from error

    def _exchange(self, method: str, path: str, data: bytes | None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the scheme has been checked
            self._peer.url + path,
            data=data,
            method=method,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": f"mep/{__version__}",
            },
        )
        try:
            with self._opener().open(request, timeout=TIMEOUT_S) as response:
                return bytes(response.read(MOST))
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(MOST)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise RelayError(
                f"the relay {self._peer.url} cannot be reached: {reason}; check relay_url, "
                "and ca_file where its certificate is your site's own"
            ) from error

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if context := self._peer.tls():
            handlers.append(urllib.request.HTTPSHandler(context=context))
        return urllib.request.build_opener(*handlers)


def _refusal(status: int, body: bytes) -> RelayError:
    try:
        said = msgspec.json.decode(body, type=ErrorBody)
    except msgspec.DecodeError:
        words = http.client.responses.get(status, "an unknown status")
        return RelayError(f"the relay answers HTTP {status} ({words})", "", status)
    return RelayError(f"the relay refuses: {said.message}", said.code, status)


def printable(answer: Any) -> str:
    """For ``--json``."""
    return json.dumps(answer, indent=2)
