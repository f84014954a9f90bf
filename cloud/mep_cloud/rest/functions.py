"""Functions: register, describe, delete."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes, limits
from mep.wire.rest import FunctionMeta, RegisterFunction
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked, new_id
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.store.records import FunctionRecord, User


async def register(request: Request) -> Response:
    """``POST /v3/functions``."""
    user = await user_of(request)
    relay = relay_of(request)
    wanted = await decoded(request, RegisterFunction)
    body = _body(wanted)
    if len(body) > limits.FUNCTION:
        message = (
            f"The function has {len(body)} bytes; at most {limits.FUNCTION} are accepted. "
            "Install large modules at the endpoint instead of sending them."
        )
        raise Refusal(413, codes.TASK_PAYLOAD_TOO_LARGE, message)
    if wanted.ha_endpoint_id is not None:
        await relay.endpoint(checked(wanted.ha_endpoint_id, "endpoint id"))
    record = FunctionRecord(
        id=new_id(),
        owner=user.id,
        name=_storable(wanted.function_name),
        size=len(body),
        description=None if wanted.description is None else _storable(wanted.description),
        public=wanted.public,
        group_id=None if wanted.group is None else checked(wanted.group, "group id"),
        ha_endpoint_id=wanted.ha_endpoint_id,
        meta=msgspec.json.encode(wanted.meta or FunctionMeta()).decode(),
        created=time.time(),
    )
    await relay.store.functions.add(record, body)
    return answer(request, {"function_uuid": record.id})


async def describe(request: Request) -> Response:
    """``GET /v2/functions/{id}``."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.function(checked(request.path_params["id"], "function id"))
    check_access(record, user)
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


async def delete(request: Request) -> Response:
    """``DELETE /v2/functions/{id}``: it takes no new tasks."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.function(checked(request.path_params["id"], "function id"))
    if record.owner != user.id:
        message = f"Only its owner can delete function {record.id}."
        raise Refusal(403, codes.FUNCTION_ACCESS_FORBIDDEN, message)
    await relay.store.functions.remove(record.id, time.time())
    relay.functions.forget(record.id)
    return answer(request, {"result": 302})


def check_access(record: FunctionRecord, user: User) -> None:
    """Whether `user` may call the function.

    Raises:
        Refusal: 403.
    """
    if record.owner != user.id and not record.public:
        message = (
            f"Function {record.id} is somebody else's and not public. Ask its owner to register "
            "it as public, or register your own."
        )
        raise Refusal(403, codes.FUNCTION_ACCESS_FORBIDDEN, message)


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
    except UnicodeEncodeError:
        raise Refusal(422, codes.INVALID_REQUEST, "The text is not valid Unicode.") from None
    return text
