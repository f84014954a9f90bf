"""HTTP bodies in and out: bounded, typed, JSON or msgpack; every refusal has the same shape."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import MSGPACK, ErrorBody
from mep_cloud.blobs.keeper import IDLE_S
from mep_cloud.errors import Refusal, StoreError, StoreFails
from mep_cloud.relay import Relay
from mep_cloud.store.records import User

log = logging.getLogger(__name__)

T = TypeVar("T")

JSON: Final = "application/json"
_DISCARD: Final = 4
"""An oversized body of so many times the limit is read and dropped: the client gets to read why."""

RETRY_S: Final = 2
"""When to come back to a relay that restarts, or whose database fails."""

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def relay_of(request: Request) -> Relay:
    """The relay that serves this request."""
    relay = request.app.state.relay
    assert isinstance(relay, Relay)
    return relay


async def user_of(request: Request) -> User:
    """Who asks; counted against the rate of that user, so once for each request.

    Raises:
        Refusal: 401; 429 with the time to wait.
    """
    relay = relay_of(request)
    user = await relay.gatekeeper.user(request.headers.get("authorization"))
    relay.rates.check(user.id, time.monotonic())
    return user


def number(request: Request, name: str, default: int, most: int) -> int:
    """A number from 0 to `most` in the query, or `default`.

    Raises:
        Refusal: 422.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= most):
        message = f"{name}={text[:40]!r} is not a number from 0 to {most}."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    return int(text)


def is_https(request: Request) -> bool:
    """Whether the client came by TLS, as a proxy may tell: its word only makes things stricter."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def is_msgpack(request: Request) -> bool:
    """Whether the body is msgpack: payloads are bytes then."""
    return request.headers.get("content-type", "").startswith(MSGPACK)


def wants_msgpack(request: Request) -> bool:
    """Whether the answer is to be msgpack."""
    return MSGPACK in request.headers.get("accept", "")


async def raw(request: Request, most: int | None = None) -> bytes:
    """The request's body, of at most `most` bytes; None: as many as the settings say.

    Raises:
        Refusal: 408, nothing came for a while; 413, more than `most` bytes.
    """
    several = most is None
    most = relay_of(request).settings.limits.request if most is None else most
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(IDLE_S) as patience:
            async for chunk in request.stream():
                patience.reschedule(asyncio.get_running_loop().time() + IDLE_S)
                size += len(chunk)
                if size <= most:
                    chunks.append(chunk)
                elif size > _DISCARD * most:
                    break
    except TimeoutError:
        message = f"Nothing came for {IDLE_S:g} s. Send it again."
        raise Refusal(408, codes.INVALID_REQUEST, message) from None
    if size > most:
        message = (
            f"The request has more than {most} bytes, which is all that the relay takes "
            f"at once.{' Submit fewer tasks in one request.' if several else ''}"
        )
        raise Refusal(413, codes.INVALID_REQUEST, message)
    return b"".join(chunks)


async def decoded(
    request: Request, text: type[T], binary: Any = None, *, most: int | None = None
) -> T:
    """The body as the Struct `text`; a msgpack body as `binary`, where that differs.

    It has at most `most` bytes; None: as many as the settings say.

    Raises:
        Refusal: 400 malformed, 413 too large, 422 not of the expected shape.
    """
    body = await raw(request, most)
    try:
        if is_msgpack(request):
            return msgspec.msgpack.decode(body, type=binary or text)
        return msgspec.json.decode(body, type=text)
    except msgspec.ValidationError as error:
        message = f"The request is not what this route takes: {error}."
        raise Refusal(422, codes.INVALID_REQUEST, message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        message = f"The request's body cannot be read: {error}."
        raise Refusal(400, codes.INVALID_REQUEST, message) from error


def answer(request: Request, body: Any, status: int = 200) -> Response:
    """`body` in the format that the client asked for."""
    if wants_msgpack(request):
        return Response(_msgpack.encode(body), status, media_type=MSGPACK)
    return Response(_json.encode(body), status, media_type=JSON)


def refusal_response(status: int, code: str, message: str) -> Response:
    """Every refusal; JSON whatever was asked for, so that any client can read it."""
    body = ErrorBody(code, message, status)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return Response(_json.encode(body), status, headers, JSON)


async def on_refusal(_request: Request, error: Exception) -> Response:
    """A handler refused."""
    assert isinstance(error, Refusal)
    response = refusal_response(error.status, error.code, error.message)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The router found no route, or the route does not have this method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}. See the API's documentation."
    response = refusal_response(error.status_code, codes.NOT_FOUND, message)
    response.headers.update(error.headers or {})
    return response


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    """The client went away while it sent its body; nobody reads this."""
    return refusal_response(400, codes.INVALID_REQUEST, "The request was not complete.")


async def on_error(request: Request, _error: Exception) -> Response:
    """A fault of the relay's own; Starlette raises it again afterwards, so it is logged."""
    message = "The relay had an internal error. Its administrator finds the reason in the log."
    return refusal_response(500, codes.INTERNAL_ERROR, message)


async def on_store_error(_request: Request, error: Exception) -> Response:
    """The database is closed, since the relay shuts down; or it fails, which is in the log."""
    message = "The relay is restarting. Try again in a few seconds."
    if isinstance(error, StoreFails):
        message = (
            "The relay's database takes no requests at the moment. Try again in a few seconds; if "
            "that lasts, its administrator finds the reason in the log."
        )
    response = refusal_response(503, codes.INTERNAL_ERROR, message)
    response.headers["Retry-After"] = str(RETRY_S)
    return response


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    Refusal: on_refusal,
    HTTPException: on_http_exception,
    ClientDisconnect: on_disconnect,
    StoreError: on_store_error,
    Exception: on_error,
}
