"""Endpoints: register, describe, list, delete."""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import RegisteredEndpoint, RegisterEndpoint
from mep_cloud import grants
from mep_cloud.auth import LINK_PREFIX, digest, new_token
from mep_cloud.delivery import events
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked, new_id
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.store.records import EndpointRecord, User


async def register(request: Request) -> Response:
    """``POST /v3/endpoints``: the answer holds the grant key and the manager's link credential."""
    user = await user_of(request)
    relay = relay_of(request)
    registration = await _registration(request)
    if registration.multi_user:
        _administrators_only(user)
    link_token = new_token(LINK_PREFIX)
    record = EndpointRecord(new_id(), user.id, registration, 1, time.time())
    await relay.store.endpoints.add(record, digest(link_token))
    return _registered(request, relay, record, link_token)


async def update(request: Request) -> Response:
    """``PUT /v3/endpoints/{id}``: as above; the older link credential stops working."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    registration = await _registration(request)
    _check_manages(record, user)
    if registration.multi_user:
        _administrators_only(user)
    link_token = new_token(LINK_PREFIX)
    await relay.store.endpoints.update(record.id, registration, digest(link_token), time.time())
    relay.endpoints.forget(record.id)
    relay.gatekeeper.forget_all()
    return _registered(request, relay, record, link_token)


async def listing(request: Request) -> Response:
    """``GET /v2/endpoints?role=owner|any``: one's own, or all that one may see."""
    user = await user_of(request)
    relay = relay_of(request)
    role = request.query_params.get("role", "owner")
    if role not in ("owner", "any"):
        message = f"role={role[:40]!r} is not known; it is 'owner' or 'any'."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    records = await relay.store.endpoints.list(user.id, public_too=role == "any")
    return answer(request, [_summary(record) for record in records])


async def describe(request: Request) -> Response:
    """``GET /v2/endpoints/{id}``."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    check_use(record, user)
    registration = record.registration
    metadata = registration.metadata
    details = _summary(record) | {
        "allowed_functions": registration.allowed_functions,
        "authentication_policy": registration.authentication_policy,
        "subscription_uuid": registration.subscription_uuid,
    }
    if metadata is not None:
        shown = msgspec.to_builtins(metadata)
        if not _manages(record, user):
            # What the site's administrator wrote for itself is not the users' business.
            shown = {key: shown[key] for key in _FOR_USERS if key in shown}
        details["metadata"] = shown
    return answer(request, details)


_FOR_USERS = (
    "endpoint_version",
    "python_version",
    "hostname",
    "user_config_template",
    "user_config_schema",
)


async def status(request: Request) -> Response:
    """``GET /v2/endpoints/{id}/status``: online while its manager is connected."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    check_use(record, user)
    manager, warden = relay.hub.delivery.site_online(record.id)
    state = "online" if manager else "offline"
    return answer(request, {"status": state, "details": {"starts_possible": warden}})


async def allowed_functions(request: Request) -> Response:
    """``GET /v3/endpoints/{id}/allowed_functions``."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    check_use(record, user)
    functions = record.registration.allowed_functions
    return answer(
        request,
        {
            "endpoint_id": record.id,
            "restricted": functions is not None,
            "functions": functions or [],
        },
    )


async def delete(request: Request) -> Response:
    """``DELETE /v2/endpoints/{id}``: its links close, what waits for it fails."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    _check_manages(record, user)
    await relay.store.endpoints.remove(record.id, time.time())
    relay.endpoints.forget(record.id)
    relay.gatekeeper.forget_all()
    relay.hub.apply(events.EndpointRemoved(record.id))
    return answer(request, {"result": 302})


def check_use(record: EndpointRecord, user: User) -> None:
    """Whether `user` may send tasks: anybody to a multi-user endpoint (the site maps or refuses
    them), the owner alone to a single-user endpoint.

    Raises:
        Refusal: 403.
    """
    if not record.registration.multi_user and record.owner != user.id:
        message = f"Endpoint {record.id} is a single-user endpoint of somebody else."
        raise Refusal(403, codes.ENDPOINT_ACCESS_FORBIDDEN, message)


def _manages(record: EndpointRecord, user: User) -> bool:
    named = user.id in (record.registration.admins or ())
    return user.is_admin or record.owner == user.id or named


def _check_manages(record: EndpointRecord, user: User) -> None:
    if not _manages(record, user):
        message = f"Only an administrator or the owner can change endpoint {record.id}."
        raise Refusal(403, codes.ADMIN_REQUIRED, message)


def _administrators_only(user: User) -> None:
    if not user.is_admin:
        message = (
            f"{user.username} is no administrator of this relay, so it cannot register a "
            "multi-user endpoint. Ask for `mep-relay user add --admin`, or register a "
            "single-user endpoint."
        )
        raise Refusal(403, codes.ADMIN_REQUIRED, message)


async def _registration(request: Request) -> RegisterEndpoint:
    registration = await decoded(request, RegisterEndpoint)
    if not registration.endpoint_name or len(registration.endpoint_name) > 128:
        message = "endpoint_name must have 1 to 128 characters."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    functions = registration.allowed_functions
    if functions is None:
        return registration
    ids = [checked(function_id, "function id") for function_id in functions]
    return msgspec.structs.replace(registration, allowed_functions=ids)


def _registered(
    request: Request, relay: Relay, record: EndpointRecord, link_token: str
) -> Response:
    key = grants.grant_key(relay.master, record.id, record.key_version)
    body = RegisteredEndpoint(
        endpoint_id=record.id,
        grant_key=key.hex(),
        key_version=record.key_version,
        link_token=link_token,
        owner_identities=[record.owner],
    )
    response = answer(request, body)
    response.headers["Cache-Control"] = "no-store"
    return response


def _summary(record: EndpointRecord) -> dict[str, Any]:
    registration = record.registration
    return {
        "uuid": record.id,
        "name": registration.endpoint_name,
        "display_name": registration.display_name or registration.endpoint_name,
        "owner_id": record.owner,
        "multi_user": registration.multi_user,
        "public": registration.public,
    }
