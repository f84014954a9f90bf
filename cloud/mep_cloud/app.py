"""The route table: everything that can be asked of the relay."""

from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from mep.wire import to_endpoint, to_manager, to_sdk
from mep_cloud.relay import Relay
from mep_cloud.rest import about, endpoints, functions, oauth, submit, tasks
from mep_cloud.rest.bodies import HANDLERS
from mep_cloud.sockets.endpoint import endpoint_link
from mep_cloud.sockets.manager import manager_link
from mep_cloud.sockets.stream import sdk_stream

ROUTES = [
    Route("/v3/endpoints/{id}/submit", submit.submit, methods=["POST"]),
    Route("/v2/tasks/{id}", tasks.status),
    Route("/v2/batch_status", tasks.batch_status, methods=["POST"]),
    Route("/v2/taskgroup/{id}", tasks.group),
    Route("/v3/tasks/cancel", tasks.cancel, methods=["POST"]),
    Route("/v3/functions", functions.register, methods=["POST"]),
    Route("/v2/functions/{id}", functions.describe),
    Route("/v2/functions/{id}", functions.delete, methods=["DELETE"]),
    Route("/v3/endpoints", endpoints.register, methods=["POST"]),
    Route("/v3/endpoints/{id}", endpoints.update, methods=["PUT"]),
    Route("/v3/endpoints/{id}/allowed_functions", endpoints.allowed_functions),
    Route("/v2/endpoints", endpoints.listing),
    Route("/v2/endpoints/{id}", endpoints.describe),
    Route("/v2/endpoints/{id}", endpoints.delete, methods=["DELETE"]),
    Route("/v2/endpoints/{id}/status", endpoints.status),
    Route("/v2/oauth2/token", oauth.token, methods=["POST"]),
    Route("/v2/version", about.version),
    Route("/v3/limits", about.sizes),
    Route("/v3/whoami", about.whoami),
    Route("/healthz", about.health),
    WebSocketRoute(to_manager.PATH, manager_link),
    WebSocketRoute(to_endpoint.PATH, endpoint_link),
    WebSocketRoute(to_sdk.PATH, sdk_stream),
]


def make_app(relay: Relay) -> Starlette:
    """The ASGI application over an open relay."""
    app = Starlette(routes=ROUTES, exception_handlers=HANDLERS)
    app.state.relay = relay
    return app
