"""``/v3/link/user-endpoint``: one person's endpoint process."""

from starlette.websockets import WebSocket

from mep.wire import PROTOCOL, codes, limits, to_endpoint
from mep.wire.codec import WireError
from mep_cloud.auth import bearer, digest, not_valid
from mep_cloud.delivery import events
from mep_cloud.errors import Refusal
from mep_cloud.outbox import Outbox
from mep_cloud.relay import Relay
from mep_cloud.sockets.session import check_protocol, converse, deny, messages, relay_of


async def endpoint_link(websocket: WebSocket) -> None:
    """One connection of a user endpoint."""
    relay = relay_of(websocket)
    try:
        token = digest(bearer(websocket.headers.get("authorization")))
        user_endpoint_id = await relay.store.starts.bearer(token)
        if user_endpoint_id is None:
            raise not_valid()
    except Refusal as refusal:
        await deny(websocket, refusal)
        return
    await websocket.accept()
    outbox = Outbox(websocket, to_endpoint.Goodbye)
    session = _Session(relay, token, user_endpoint_id, outbox)
    try:
        peer = messages(websocket, to_endpoint.from_endpoint)
        await converse(outbox, peer, session.hello, session.receive)
    finally:
        session.close()


class _Session:
    def __init__(self, relay: Relay, token: bytes, user_endpoint_id: str, outbox: Outbox) -> None:
        self._relay = relay
        self._hub = relay.hub
        self._token = token
        self._user_endpoint_id = user_endpoint_id
        self._outbox = outbox
        self._connection = relay.hub.attach(outbox)

    async def hello(self, message: to_endpoint.FromEndpoint) -> None:
        if not isinstance(message, to_endpoint.EndpointHello):
            raise WireError("the first message is no hello")
        check_protocol(message.protocol)
        if message.user_endpoint_id != self._user_endpoint_id:
            text = "This token is another user endpoint's."
            raise Refusal(403, codes.ENDPOINT_ACCESS_FORBIDDEN, text)
        activated = await self._relay.store.starts.activate(self._token)
        if activated is None:
            raise not_valid()
        endpoint_id, nonce = activated
        self._outbox.put(to_endpoint.Welcome(PROTOCOL, limits.PAYLOAD))
        self._hub.apply(
            events.EndpointOpened(
                self._connection,
                endpoint_id,
                self._user_endpoint_id,
                nonce,
                _positive(message.credit),
                message.held,
            )
        )

    async def receive(self, message: to_endpoint.FromEndpoint) -> None:
        self._hub.apply(_event(self._connection, message))

    def close(self) -> None:
        self._hub.detach(self._connection)
        self._hub.apply(events.EndpointClosed(self._connection))


def _event(connection: int, message: to_endpoint.FromEndpoint) -> events.Event:
    match message:
        case to_endpoint.Results(results):
            return events.ResultsArrived(connection, results)
        case to_endpoint.Credit(tasks):
            return events.CreditGranted(connection, _positive(tasks))
        case to_endpoint.States(changes):
            return events.StatesArrived(connection, changes)
        case to_endpoint.Leaving():
            return events.LeavingWished(connection)
        case to_endpoint.EndpointHello():
            raise WireError("a second hello")


def _positive(credit: int) -> int:
    if credit < 0:
        raise WireError("a credit below zero")
    return credit
