"""The route table: everything that can be asked of the relay."""

from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from mep.wire import to_endpoint, to_manager, to_sdk
from mep_cloud.metrics import Counted
from mep_cloud.openapi import document
from mep_cloud.relay import Relay
from mep_cloud.rest import (
    about,
    actions,
    blobs,
    containers,
    endpoints,
    functions,
    groups,
    identities,
    keys,
    oauth,
    submit,
    tasks,
    webhooks,
)
from mep_cloud.rest.bodies import HANDLERS
from mep_cloud.sockets.endpoint import endpoint_link
from mep_cloud.sockets.manager import manager_link
from mep_cloud.sockets.stream import sdk_stream
from mep_cloud.web import elsewhere, pages

ROUTES = [
    Route("/v3/endpoints/{id}/submit", submit.submit, methods=["POST"]),
    Route("/v2/tasks/{id}", tasks.status),
    Route("/v2/batch_status", tasks.batch_status, methods=["POST"]),
    Route("/v2/taskgroup/{id}", tasks.group),
    Route("/v3/tasks", tasks.listing),
    Route("/v3/tasks/cancel", tasks.cancel, methods=["POST"]),
    Route("/v3/tasks/{id}", tasks.record),
    Route("/v3/blobs", blobs.upload, methods=["POST"]),
    Route("/v3/tasks/{id}/arguments", blobs.arguments),
    Route("/v3/tasks/{id}/result", blobs.upload_result, methods=["POST"]),
    Route("/v3/tasks/{id}/result", blobs.result),
    Route("/v3/functions", functions.register, methods=["POST"]),
    Route("/v3/functions", functions.search),
    Route("/v2/functions/{id}", functions.describe),
    Route("/v2/functions/{id}", functions.delete, methods=["DELETE"]),
    Route("/v3/containers", containers.register, methods=["POST"]),
    Route("/v3/containers/{id}", containers.describe),
    Route("/v3/endpoints", endpoints.register, methods=["POST"]),
    Route("/v3/endpoints/{id}", endpoints.update, methods=["PUT"]),
    Route("/v3/endpoints/{id}/lock", endpoints.lock, methods=["POST"]),
    Route("/v3/endpoints/{id}/allowed_functions", endpoints.allowed_functions),
    Route("/v3/endpoints/{id}/keys", keys.offer, methods=["POST"]),
    Route("/v3/endpoints/{id}/keys", keys.activate, methods=["PUT"]),
    Route("/v2/endpoints", endpoints.listing),
    Route("/v2/endpoints/{id}", endpoints.describe),
    Route("/v2/endpoints/{id}", endpoints.delete, methods=["DELETE"]),
    Route("/v2/endpoints/{id}/status", endpoints.status),
    Route("/actions/", actions.introspect),
    Route("/actions/run", actions.run, methods=["POST"]),
    Route("/actions/{id}/status", actions.status),
    Route("/actions/{id}/cancel", actions.cancel, methods=["POST"]),
    Route("/actions/{id}/release", actions.release, methods=["POST"]),
    Route("/v3/webhooks", webhooks.register, methods=["POST"]),
    Route("/v3/webhooks", webhooks.listing),
    Route("/v3/webhooks/{id}", webhooks.delete, methods=["DELETE"]),
    Route("/v3/groups", groups.create, methods=["POST"]),
    Route("/v3/groups", groups.listing),
    Route("/v3/groups/{id}", groups.describe),
    Route("/v3/groups/{id}", groups.delete, methods=["DELETE"]),
    Route("/v3/groups/{id}/members", groups.add, methods=["POST"]),
    Route("/v3/groups/{id}/members/{user}", groups.remove, methods=["DELETE"]),
    Route("/v2/oauth2/token", oauth.token, methods=["POST"]),
    Route("/v2/oauth2/token/revoke", oauth.revoke, methods=["POST"]),
    Route("/v2/oauth2/device_authorization", oauth.device_authorization, methods=["POST"]),
    Route("/v2/oauth2/userinfo", identities.userinfo),
    Route("/v2/api/identities", identities.identities),
    Route("/v2/get_amqp_result_connection_url", about.amqp),
    Route("/device", pages.device),
    Route("/device", pages.decide, methods=["POST"]),
    Route("/login", pages.login),
    Route("/login", pages.sign_in, methods=["POST"]),
    Route("/login/{provider}", elsewhere.leave),
    Route("/login/{provider}/callback", elsewhere.come_back),
    Route("/logout", pages.sign_out, methods=["POST"]),
    Route("/v2/version", about.version),
    Route("/v3/limits", about.sizes),
    Route("/v3/whoami", about.whoami),
    Route("/healthz", about.health),
    Route("/readyz", about.ready),
    Route("/openapi.json", about.openapi),
    Route("/metrics", about.figures),
    WebSocketRoute(to_manager.PATH, manager_link),
    WebSocketRoute(to_endpoint.PATH, endpoint_link),
    WebSocketRoute(to_sdk.PATH, sdk_stream),
]

_HANDLERS: Final = {**HANDLERS, oauth.OAuthError: oauth.on_oauth_error}


def make_app(relay: Relay) -> ASGIApp:
    """The ASGI application over an open relay."""
    app = Starlette(routes=ROUTES, exception_handlers=_HANDLERS)
    app.state.relay = relay
    app.state.openapi = msgspec.json.encode(document(ROUTES))
    return Counted(app, relay.metrics)
