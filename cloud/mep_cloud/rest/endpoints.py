"""Endpoints: register, describe, list, delete."""

import math
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mep.wire import answers, codes
from mep.wire.rest import REGISTRATION, RegisteredEndpoint, RegisterEndpoint
from mep_cloud import access, grants
from mep_cloud.auth import LINK_PREFIX, digest, new_token
from mep_cloud.errors import EndpointTaken, Refusal
from mep_cloud.ids import checked, new_id
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.store.records import EndpointRecord, User

_NAME: Final = 128
_DISPLAY_NAME: Final = 256
LOCK_S: Final = 60.0
"""Seconds for which somebody who manages an endpoint can keep it from being registered anew."""


async def register(request: Request) -> Response:
    """``POST /v3/endpoints``: the answer holds the grant key and the manager's link credential."""
    user = await user_of(request)
    relay = relay_of(request)
    return await _added(request, relay, user, new_id())


async def update(request: Request) -> Response:
    """``PUT /v3/endpoints/{id}``: as above; the older link credential stops working.

    An id that no endpoint has had yet is taken from the user that the operator approved it for.
    """
    user = await user_of(request)
    relay = relay_of(request)
    endpoint_id = checked(request.path_params["id"], "endpoint id")
    if await relay.store.endpoints.approved_for(endpoint_id) == user.id:
        return await _added(request, relay, user, endpoint_id)
    record = await relay.endpoint(endpoint_id)
    registration = await _registration(request)
    access.check_manages(record, user)
    await _check_lock(relay, record)
    # The answer holds the key that grants are signed with: a site that serves many users is not
    # opened by calling it one that serves its owner.
    multi_user = registration.multi_user or record.registration.multi_user
    access.check_registers(multi_user=multi_user, user=user)
    link_token = new_token(LINK_PREFIX)
    await relay.store.endpoints.update(record.id, registration, digest(link_token), time.time())
    relay.endpoints.forget(record.id)
    relay.gatekeeper.forget_all()
    return _registered(request, relay, record, link_token)


async def _added(request: Request, relay: Relay, user: User, endpoint_id: str) -> Response:
    registration = await _registration(request)
    access.check_registers(multi_user=registration.multi_user, user=user)
    link_token = new_token(LINK_PREFIX)
    record = EndpointRecord(endpoint_id, user.id, registration, 1, time.time())
    try:
        await relay.store.endpoints.add(record, digest(link_token))
    except EndpointTaken:
        message = f"Endpoint {endpoint_id} was registered just now. Register it again to change it."
        raise Refusal(409, codes.INVALID_REQUEST, message) from None
    relay.endpoints.forget(endpoint_id)
    return _registered(request, relay, record, link_token)


async def listing(request: Request) -> Response:
    """``GET /v2/endpoints?role=owner|any``: one's own, or all that one may see."""
    user = await user_of(request)
    relay = relay_of(request)
    role = request.query_params.get("role", "owner")
    if role not in ("owner", "any"):
        message = f"role={role[:40]!r} is not known; it is 'owner' or 'any'."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    shown_to = access.principals(user) if role == "any" else None
    records = await relay.store.endpoints.list(user.id, shown_to=shown_to)
    return answer(request, [_summary(record) for record in records])


async def describe(request: Request) -> Response:
    """``GET /v2/endpoints/{id}``."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    access.check_sees(record, user)
    registration = record.registration
    metadata = registration.metadata
    details = _summary(record) | {
        "allowed_functions": registration.allowed_functions,
        "authentication_policy": registration.authentication_policy,
        "subscription_uuid": registration.subscription_uuid,
        "admins": registration.admins or [],
        "high_assurance": registration.high_assurance,
        "registered": record.created,
        **await _presence(relay, record.id),
    }
    if metadata is not None:
        shown = msgspec.to_builtins(metadata)
        if not access.manages(record, user):
            # What the site's administrator wrote for itself is not the users' business.
            shown = {key: shown[key] for key in _FOR_USERS if key in shown}
        details["metadata"] = shown
    return answer(request, details)


async def _presence(relay: Relay, endpoint_id: str) -> dict[str, Any]:
    """Whether it is there, and what its manager last said of itself; times are epoch seconds."""
    manager, warden = await relay.cluster.site_online(endpoint_id)
    known = await relay.presences.of(endpoint_id)
    return {
        "status": "online" if manager else "offline",
        "starts_possible": warden,
        "last_heartbeat": known.last_heartbeat if known else None,
        "manager": (
            {"version": known.version, "python": known.python, "hostname": known.hostname}
            if known
            else None
        ),
    }


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
    access.check_sees(record, user)
    details = await _presence(relay, record.id)
    return answer(request, {"status": details.pop("status"), "details": details})


async def allowed_functions(request: Request) -> Response:
    """``GET /v3/endpoints/{id}/allowed_functions``."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    access.check_sees(record, user)
    functions = record.registration.allowed_functions
    return answer(
        request,
        {
            "endpoint_id": record.id,
            "restricted": functions is not None,
            "functions": functions or [],
        },
    )


async def lock(request: Request) -> Response:
    """``POST /v3/endpoints/{id}/lock``: it cannot be registered anew for a while (423)."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    access.check_manages(record, user)
    until = time.time() + LOCK_S
    await relay.store.endpoints.lock(record.id, until)
    moment = datetime.fromtimestamp(until, UTC).isoformat()
    told = answers.LockedEndpoint(endpoint_id=record.id, lock_expiration_timestamp=moment)
    return answer(request, told)


async def _check_lock(relay: Relay, record: EndpointRecord) -> None:
    until = await relay.store.endpoints.locked_until(record.id)
    wait = 0.0 if until is None else until - time.time()
    if wait > 0:
        message = f"Endpoint {record.id} is locked. Register it again in {math.ceil(wait)} s."
        raise Refusal(423, codes.ENDPOINT_LOCKED, message, retry_after_s=wait)


async def delete(request: Request) -> Response:
    """``DELETE /v2/endpoints/{id}``: its links close, what waits for it fails."""
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    access.check_manages(record, user)
    await relay.store.endpoints.remove(record.id, time.time())
    relay.endpoints.forget(record.id)
    relay.gatekeeper.forget_all()
    relay.cluster.removed(record.id)
    return answer(request, {"result": 302})


async def _registration(request: Request) -> RegisterEndpoint:
    registration = await decoded(request, RegisterEndpoint, most=REGISTRATION)
    name, shown = registration.endpoint_name, registration.display_name or ""
    if not 0 < len(name) <= _NAME or not name.isprintable():
        message = f"endpoint_name must have 1 to {_NAME} printable characters."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    if len(shown) > _DISPLAY_NAME or not shown.isprintable():
        message = f"display_name must have at most {_DISPLAY_NAME} printable characters."
        raise Refusal(422, codes.INVALID_REQUEST, message)
    policy, known = registration.authentication_policy, None
    if policy is not None:
        policy = checked(policy, "id of an authentication policy")
        known = await relay_of(request).policies.get(policy)
        if known is None:
            message = (
                f"There is no authentication policy {policy} at this relay. Its operator makes one "
                "with `mep-relay policy add`."
            )
            raise Refusal(422, codes.INVALID_REQUEST, message)
    access.check_assurance(registration, known)
    return msgspec.structs.replace(
        registration,
        authentication_policy=policy,
        allowed_functions=_ids(registration.allowed_functions, "function id"),
        admins=_ids(registration.admins, "id of a user or group (admins)"),
        visible_to=_ids(registration.visible_to, "id of a user or group (visible_to)"),
    )


def _ids(texts: list[str] | None, what: str) -> list[str] | None:
    return None if texts is None else [checked(text, what) for text in texts]


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
        "public": record.public,
    }
