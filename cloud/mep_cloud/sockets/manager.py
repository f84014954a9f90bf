"""``/v3/link/manager``: a site's manager."""

import logging
from typing import Final

from starlette.websockets import WebSocket

from mep.wire import PROTOCOL, codes, to_manager
from mep.wire.codec import WireError
from mep_cloud.delivery import events
from mep_cloud.errors import Refusal, StoreError
from mep_cloud.outbox import Outbox
from mep_cloud.relay import Relay
from mep_cloud.sockets.pipe import handed_on
from mep_cloud.sockets.session import check_protocol, converse, deny, messages, relay_of

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 30.0


async def manager_link(websocket: WebSocket) -> None:
    """One connection of a manager."""
    relay = relay_of(websocket)
    try:
        header = websocket.headers.get("authorization")
        endpoint_id = await relay.gatekeeper.link_endpoint(header)
    except (Refusal, StoreError) as error:
        await deny(websocket, error)
        return
    if await handed_on(websocket, relay, endpoint_id):
        return
    await websocket.accept()
    outbox = Outbox(websocket, to_manager.Goodbye)
    session = _Session(relay, endpoint_id, outbox)
    try:
        peer = messages(websocket, to_manager.from_manager)
        await converse(outbox, peer, session.hello, session.receive)
    finally:
        session.close()


class _Session:
    def __init__(self, relay: Relay, endpoint_id: str, outbox: Outbox) -> None:
        self._hub = relay.hub
        self._cluster = relay.cluster
        self._presences = relay.presences
        self._greeted = False
        self._endpoint_id = endpoint_id
        self._outbox = outbox
        self._connection = relay.hub.attach(outbox)

    async def hello(self, message: to_manager.FromManager) -> None:
        if not isinstance(message, to_manager.ManagerHello):
            raise WireError("the first message is no hello")
        check_protocol(message.protocol)
        if message.endpoint_id != self._endpoint_id:
            raise Refusal(
                403,
                codes.ENDPOINT_ACCESS_FORBIDDEN,
                "This link credential is another endpoint's; register this endpoint again.",
            )
        self._outbox.put(to_manager.Welcome(PROTOCOL, HEARTBEAT_S))
        self._hub.apply(events.ManagerOpened(self._connection, self._endpoint_id))
        self._cluster.site_changed(self._endpoint_id)
        self._greeted = True
        self._presences.arrived(
            self._endpoint_id, message.version, message.python, message.hostname
        )
        log.info(
            "manager of endpoint %s connected from %.255r", self._endpoint_id, message.hostname
        )

    async def receive(self, message: to_manager.FromManager) -> None:
        self._presences.heard(self._endpoint_id)
        if event := _event(self._connection, message):
            self._hub.apply(event)
            self._cluster.site_changed(self._endpoint_id)

    def close(self) -> None:
        self._hub.detach(self._connection)
        log.info("manager of endpoint %s disconnected", self._endpoint_id)
        self._hub.apply(events.ManagerClosed(self._connection))
        self._cluster.site_changed(self._endpoint_id)
        if self._greeted and not self._hub.delivery.site_online(self._endpoint_id)[0]:
            self._presences.left(self._endpoint_id)


def _event(connection: int, message: to_manager.FromManager) -> events.Event | None:
    match message:
        case to_manager.WardenUp(boot_id, running):
            return events.WardenUp(connection, boot_id, running)
        case to_manager.WardenDown():
            return events.WardenDown(connection)
        case to_manager.Started(user_endpoint_id):
            return events.Started(connection, user_endpoint_id)
        case to_manager.Refused(user_endpoint_id, nonce, code, text):
            return events.Refused(connection, user_endpoint_id, nonce, code, text)
        case to_manager.Exited():
            return events.Exited(
                connection,
                message.user_endpoint_id,
                message.nonce,
                message.code,
                message.message,
                _how(message),
            )
        case to_manager.Status():
            return None
        case to_manager.ManagerHello():
            raise WireError("a second hello")


def _how(message: to_manager.Exited) -> str:
    if message.signal is not None:
        return f"signal {message.signal}"
    if message.status is not None:
        return f"exit status {message.status}"
    return "an unknown exit status"
