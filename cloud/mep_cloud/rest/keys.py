"""Keys that grants are signed with: offered to the site first, used when the site has it."""

from starlette.requests import Request
from starlette.responses import Response

from mep.wire import codes
from mep.wire.rest import GrantKey, KeyVersion
from mep_cloud import access, grants
from mep_cloud.errors import Refusal
from mep_cloud.ids import checked
from mep_cloud.relay import Relay
from mep_cloud.rest.bodies import answer, decoded, relay_of, user_of
from mep_cloud.store.records import EndpointRecord


async def offer(request: Request) -> Response:
    """``POST /v3/endpoints/{id}/keys``: the next key. It signs nothing until it is activated."""
    relay, record = await _managed(request)
    version = record.key_version + 1
    key = grants.grant_key(relay.master, record.id, version)
    response = answer(request, GrantKey(record.id, key.hex(), version))
    response.headers["Cache-Control"] = "no-store"
    return response


async def activate(request: Request) -> Response:
    """``PUT /v3/endpoints/{id}/keys``: from now on this version signs. Repeating it is harmless."""
    relay, record = await _managed(request)
    wanted = (await decoded(request, KeyVersion)).key_version
    if wanted not in (record.key_version, record.key_version + 1):
        message = (
            f"Endpoint {record.id} signs with key version {record.key_version}; the next is "
            f"{record.key_version + 1}, not {wanted}."
        )
        raise Refusal(409, codes.INVALID_REQUEST, message)
    await relay.store.endpoints.set_key_version(record.id, wanted)
    relay.endpoints.forget(record.id)
    return answer(request, KeyVersion(wanted))


async def _managed(request: Request) -> tuple[Relay, EndpointRecord]:
    user = await user_of(request)
    relay = relay_of(request)
    record = await relay.endpoint(checked(request.path_params["id"], "endpoint id"))
    access.check_manages(record, user)
    access.check_registers(multi_user=record.registration.multi_user, user=user)
    return relay, record
