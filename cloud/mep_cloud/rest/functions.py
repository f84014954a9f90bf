"""Functions: register, describe, search, delete."""

import time
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import (
    FUNCTION_DESCRIPTION,
    FUNCTION_META,
    FUNCTION_NAME,
    SEARCH_PAGE,
    FoundFunction,
    FoundFunctions,
    FunctionMeta,
    RegisterFunction,
)
from mep_cloud import access
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked, new_id
from mep_cloud.rest.bodies import answer, decoded, number, relay_of, user_of
from mep_cloud.store.records import FunctionRecord

MAX_WORDS: Final = 16
MAX_QUERY: Final = 256
"""Words and characters of one search."""
MAX_OFFSET: Final = 100_000


async def register(request: Request) -> Response:
    """``POST /v3/functions``."""
    user = await user_of(request)
    relay = relay_of(request)
    wanted = await decoded(request, RegisterFunction)
    body = _body(wanted)
    most = relay.settings.limits.function
    if len(body) > most:
        message = (
            f"The function has {len(body)} bytes; at most {most} are accepted. "
            "Install large modules at the endpoint instead of sending them."
        )
        raise Refusal(413, codes.TASK_PAYLOAD_TOO_LARGE, message)
    _check_words(wanted)
    ha_endpoint_id = wanted.ha_endpoint_id
    if ha_endpoint_id is not None:
        ha_endpoint_id = checked(ha_endpoint_id, "endpoint id")
        await relay.endpoint(ha_endpoint_id)
    group_id = None if wanted.group is None else checked(wanted.group, "group id")
    if group_id is not None:
        access.check_shares(group_id, user)
    record = FunctionRecord(
        id=new_id(),
        owner=user.id,
        name=_storable(wanted.function_name),
        size=len(body),
        description=None if wanted.description is None else _storable(wanted.description),
        public=wanted.public,
        group_id=group_id,
        ha_endpoint_id=ha_endpoint_id,
        meta=_meta(wanted),
        created=time.time(),
    )
    await relay.store.functions.add(record, body)
    return answer(request, {"function_uuid": record.id})


async def describe(request: Request) -> Response:
    """``GET /v2/functions/{id}``."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.function(checked(request.path_params["id"], "function id"))
    access.check_calls(record, user)
    body = await relay.store.functions.body(record.id)
    return answer(
        request,
        {
            "function_uuid": record.id,
            "function_name": record.name,
            "function_code": body.decode("utf-8", "replace"),
            "description": record.description,
            "public": record.public,
            "group": record.group_id,
            "ha_endpoint_id": record.ha_endpoint_id,
            "metadata": msgspec.json.decode(record.meta),
            "created": record.created,
        },
    )


async def search(request: Request) -> Response:
    """``GET /v3/functions?q=words&offset=&limit=``: own functions, one's groups', public ones."""
    user = await user_of(request)
    relay = relay_of(request)
    query = request.query_params.get("q", "")
    words = _storable(query).split()
    if len(query) > MAX_QUERY or len(words) > MAX_WORDS:
        message = f"A search has at most {MAX_WORDS} words and {MAX_QUERY} characters."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    offset = number(request, "offset", 0, MAX_OFFSET)
    limit = number(request, "limit", 20, SEARCH_PAGE)
    found = await relay.store.functions.search(user.id, user.groups, words, offset, limit + 1)
    page = [_found(record) for record in found[:limit]]
    return answer(request, FoundFunctions(page, len(found) > limit, offset))


async def delete(request: Request) -> Response:
    """``DELETE /v2/functions/{id}``: it takes no new tasks."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.function(checked(request.path_params["id"], "function id"))
    access.check_deletes(record, user)
    await relay.store.functions.remove(record.id, time.time())
    relay.functions.forget(record.id)
    return answer(request, {"result": 302})


def _found(record: FunctionRecord) -> FoundFunction:
    return FoundFunction(
        record.id,
        record.name,
        record.description,
        record.owner,
        record.public,
        record.group_id,
        msgspec.json.decode(record.meta, type=FunctionMeta),
        record.created,
    )


def _check_words(wanted: RegisterFunction) -> None:
    """Refuse what would be too much where others search.

    Raises:
        Refusal: 422.
    """
    if len(wanted.function_name) > FUNCTION_NAME:
        message = f"A function's name has at most {FUNCTION_NAME} characters."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    if len(wanted.description or "") > FUNCTION_DESCRIPTION:
        message = f"A function's description has at most {FUNCTION_DESCRIPTION} characters."
        raise Refusal(422, codes.INVALID_REQUEST, message)


def _meta(wanted: RegisterFunction) -> str:
    """The function's metadata as JSON.

    Raises:
        Refusal: 422, not storable, or too long.
    """
    text = msgspec.json.encode(wanted.meta or FunctionMeta()).decode()
    if len(text) > FUNCTION_META:
        message = f"A function's metadata has at most {FUNCTION_META} bytes as JSON."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    return _storable(text)


def _body(wanted: RegisterFunction) -> bytes:
    """The packed code buffer: as it came, or wrapped source."""
    code = _storable(wanted.function_code)
    if wanted.serialized:
        return code.encode()
    buffer = f"st\n{_storable(wanted.function_name)}:{code}"
    return f"{len(buffer)}\n{buffer}".encode()


def _storable(text: str) -> str:
    """`text`, if it is Unicode that can be stored.

    Raises:
        Refusal: 422, it holds half a surrogate pair or a NUL.
    """
    try:
        text.encode()
        if "\0" in text:
            raise Refusal(422, codes.INVALID_REQUEST, "The text holds a NUL character.")
    except UnicodeEncodeError:
        raise Refusal(422, codes.INVALID_REQUEST, "The text is not valid Unicode.") from None
    return text
