"""Requests to one identity provider: bounded in time, size and number, without redirects."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus

import httpx
import msgspec

from mep import __version__
from mep_cloud.errors import HomeError, NoAnswer
from mep_cloud.identity.settings import Identity

AT_ONCE: Final = 8
WAITING: Final = 256
"""Requests under way, and those that wait for one to end; a flood of tokens makes no more."""
_MOST: Final = 512 * 1024
_OK: Final = 200
_SERVER_ERROR: Final = 500


class Fetcher:
    """Asks one provider."""

    def __init__(self, title: str, bounds: Identity) -> None:
        self._title = title
        self._timeout_s = bounds.timeout_s
        self._ca_file = bounds.ca_file
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()

    async def json(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        credentials: tuple[str, str] | None = None,
        bearer: str | None = None,
    ) -> dict[str, Any]:
        """The JSON object at `url`; with `form`, what a POST of it is answered.

        `credentials` are id and secret of the relay's client, sent as HTTP Basic (RFC 6749, 2.3.1).

        Raises:
            NoAnswer: none, or no JSON object, or status 500 or more, or too many are waiting.
            Answered: another status than 200.
        """
        if self._waiting >= WAITING:
            raise NoAnswer(f"Too many wait for {self._title}. Try again in a few seconds.")
        headers = {"Accept": "application/json", "User-Agent": f"mep-relay/{__version__}"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        auth = httpx.BasicAuth(*map(quote_plus, credentials)) if credentials else None
        method = "GET" if form is None else "POST"
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                status, body = await self._ask(method, url, headers, auth, form)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise NoAnswer(f"{self._title} does not answer ({type(error).__name__}).") from error
        finally:
            self._waiting -= 1
        return self._object(status, body)

    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        auth: httpx.BasicAuth | None,
        form: Mapping[str, str] | None,
    ) -> tuple[int, bytes]:
        body = bytearray()
        client = self._opened()
        async with client.stream(method, url, headers=headers, auth=auth, data=form) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST:
                    raise NoAnswer(f"The answer of {self._title} is too long.")
            return response.status_code, bytes(body)

    def _object(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            told = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            told = None
        if status != _OK and status < _SERVER_ERROR:
            raise Answered(status, told or {})
        if told is None or status != _OK:
            raise NoAnswer(f"{self._title} answered {status}, and not what was asked.")
        return told

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            context = ssl.create_default_context()
            if self._ca_file:
                context.load_verify_locations(self._ca_file)
            self._client = httpx.AsyncClient(
                verify=context, follow_redirects=False, timeout=self._timeout_s
            )
        return self._client


class Answered(Exception):
    """The provider refused; `told` is what it said, in OAuth2's form if it speaks it."""

    def __init__(self, status: int, told: dict[str, Any]) -> None:
        super().__init__(f"status {status}: {str(told.get('error', ''))[:100]}")
        self.status = status


def check_ca_file(bounds: Identity) -> None:
    """Read it once, before anybody needs it.

    Raises:
        HomeError: it cannot be used.
    """
    if bounds.ca_file:
        try:
            ssl.create_default_context(cafile=bounds.ca_file)
        except (OSError, ssl.SSLError) as error:
            message = f"The CAs in {bounds.ca_file} ([identity] ca_file) cannot be used: {error}."
            raise HomeError(message) from error
