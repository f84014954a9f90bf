"""``/v3/link/user-endpoint``: one person's endpoint process."""

import time

from starlette.websockets import WebSocket

from mep.wire import PROTOCOL, codes, to_endpoint
from mep.wire.codec import WireError
from mep_cloud.auth import bearer, digest, not_valid
from mep_cloud.delivery import events
from mep_cloud.errors import Refusal, StoreError
from mep_cloud.outbox import Outbox
from mep_cloud.relay import Relay
from mep_cloud.sockets.pipe import handed_on
from mep_cloud.sockets.session import check_protocol, converse, deny, messages, relay_of


async def endpoint_link(websocket: WebSocket) -> None:
    """One connection of a user endpoint."""
    relay = relay_of(websocket)
    try:
        token = digest(bearer(websocket.headers.get("authorization")))
        speaker = await relay.store.starts.speaker(token)
        if speaker is None:
            raise not_valid()
    except (Refusal, StoreError) as error:
        await deny(websocket, error)
        return
    endpoint_id, user_endpoint_id = speaker
    if await handed_on(websocket, relay, endpoint_id):
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
        activated = await self._relay.store.starts.activate(self._token, time.time())
        if activated is None:
            raise not_valid()
        endpoint_id, nonce = activated
        settings = self._relay.settings
        welcome = to_endpoint.Welcome(PROTOCOL, settings.limits.result, settings.inline)
        self._outbox.put(welcome)
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
        if isinstance(message, to_endpoint.Results):
            message = await self._with_blobs(message)
        self._hub.apply(_event(self._connection, message))

    async def _with_blobs(self, message: to_endpoint.Results) -> to_endpoint.Results:
        """Without results that name what was not uploaded; the endpoint is told."""
        blobs = {each.task_id: each.blob for each in message.results if each.blob is not None}
        if not blobs:
            return message
        missing = blobs.keys() - await self._relay.store.blobs.present(blobs)
        if missing:
            self._outbox.put(to_endpoint.BlobsMissing(tuple(missing)))
        return to_endpoint.Results(
            tuple(each for each in message.results if each.task_id not in missing)
        )

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
