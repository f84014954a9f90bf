"""The relay itself, and who asks."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

import mep
from mep.wire import PROTOCOL, limits
from mep_cloud.rest.bodies import answer, relay_of, user_of

MIN_SDK_VERSION: Final = "2.0.0"
MIN_ENDPOINT_VERSION: Final = "2.0.0"
"""Globus Compute's clients compare these with their own; the formats are those of its 2.x on."""


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


async def sizes(request: Request) -> Response:
    """``GET /v3/limits``: what the relay takes, in bytes unless named otherwise."""
    await user_of(request)
    return answer(
        request,
        {
            "payload": limits.PAYLOAD,
            "result": limits.PAYLOAD,
            "function": limits.FUNCTION,
            "request": limits.REQUEST,
            "submit_tasks": limits.SUBMIT_TASKS,
        },
    )


async def whoami(request: Request) -> Response:
    """``GET /v3/whoami``: the identity set of whoever asks."""
    user = await user_of(request)
    identity = relay_of(request).provider.identity(user)
    return answer(
        request,
        {
            "sub": user.id,
            "preferred_username": user.username,
            "is_admin": user.is_admin,
            "identity_set": [identity],
        },
    )
