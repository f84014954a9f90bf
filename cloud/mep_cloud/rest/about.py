"""The relay itself, and who asks."""

import hmac
from typing import Final, Self

import msgspec
from starlette.requests import Request
from starlette.responses import Response

import mep
from mep.wire import PROTOCOL, answers, codes
from mep_cloud.auth import bearer, not_valid
from mep_cloud.errors import Refusal
from mep_cloud.metrics import CONTENT_TYPE
from mep_cloud.rest.bodies import JSON, answer, relay_of, user_of
from mep_cloud.settings import Limits, Settings

MIN_SDK_VERSION: Final = "2.0.0"
MIN_ENDPOINT_VERSION: Final = "2.0.0"
"""Globus Compute's clients compare these with their own; the formats are those of its 2.x on."""


class Sizes(Limits, frozen=True):
    """The limits, and of the settings of blobs what concerns users."""

    inline: int = 0
    """Larger arguments and results are uploaded and downloaded apart."""
    per_user: int = 0
    """Bytes of all large arguments and results of one user."""
    orphan_s: float = 0.0
    """Seconds in which an upload must be submitted."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Both as one."""
        return cls(
            **msgspec.structs.asdict(settings.limits),
            inline=settings.inline,
            per_user=settings.blobs.per_user,
            orphan_s=settings.blobs.orphan_s,
        )


async def version(request: Request) -> Response:
    """``GET /v2/version``: anonymous, the first thing that an SDK asks."""
    versions = {
        "api": mep.__version__,
        "protocol": PROTOCOL,
        "min_sdk_version": MIN_SDK_VERSION,
        "min_ep_version": MIN_ENDPOINT_VERSION,
    }
    wanted = request.query_params.get("service")
    return answer(request, versions if wanted else mep.__version__)


async def health(request: Request) -> Response:
    """``GET /healthz``: anonymous; answers once the database answers."""
    await relay_of(request).store.users.settings()
    return answer(request, {"status": "ok"})


async def ready(request: Request) -> Response:
    """``GET /readyz``: anonymous; 503 once the relay is about to end, or has lost its database.

    That it takes transactions is tried; not, since anybody may ask, that its disk has room.
    """
    relay = relay_of(request)
    if relay.draining:
        return answer(request, {"status": "draining"}, 503)
    await relay.store.writable()
    return answer(request, {"status": "ok"})


async def openapi(request: Request) -> Response:
    """``GET /openapi.json``: this API, for programs; anonymous."""
    return Response(request.app.state.openapi, media_type=JSON)


async def figures(request: Request) -> Response:
    """``GET /metrics``: for Prometheus, with the token that ``mep-relay metrics-token`` made."""
    relay = relay_of(request)
    if relay.metrics_token is None:
        message = "This relay shows no metrics; `mep-relay metrics-token` makes a token for them."
        raise Refusal(404, codes.NOT_FOUND, message)
    token = bearer(request.headers.get("authorization"))
    if not hmac.compare_digest(token.encode(), relay.metrics_token.encode()):
        raise not_valid()
    return Response(relay.metrics.shown(), media_type=CONTENT_TYPE)


async def sizes(request: Request) -> Response:
    """``GET /v3/limits``: what the relay takes, in bytes unless named otherwise, and keeps."""
    await user_of(request)
    settings = relay_of(request).settings
    return answer(request, Sizes.of(settings))


async def whoami(request: Request) -> Response:
    """``GET /v3/whoami``: the identity set of whoever asks."""
    user = await user_of(request)
    told = answers.WhoAmI(
        sub=user.id,
        preferred_username=user.username,
        is_admin=user.is_admin,
        identity_set=relay_of(request).provider.identity_set(user),
        groups=sorted(user.groups),
    )
    return answer(request, told)


async def amqp(request: Request) -> Response:
    """``GET /v2/get_amqp_result_connection_url``: always 404, with what serves instead."""
    await user_of(request)
    message = (
        "This relay sends results through its WebSocket and has no AMQP. Use Executor of mep_sdk, "
        "or ask for results with Client of globus_compute_sdk."
    )
    raise Refusal(404, codes.NOT_FOUND, message)
