"""``/v3/stream``: results to an SDK."""

import time
from typing import Final

from starlette.websockets import WebSocket

from mep.wire import PROTOCOL, codes, to_sdk
from mep.wire.codec import WireError
from mep_cloud.auth import bearer, is_own
from mep_cloud.errors import Refusal, StoreError
from mep_cloud.ids import checked
from mep_cloud.outbox import Outbox
from mep_cloud.publisher import Subscriber
from mep_cloud.relay import Relay
from mep_cloud.sockets.session import check_protocol, converse, deny, messages, relay_of
from mep_cloud.store.records import User

MAX_GROUPS: Final = 1000
"""Task groups of one stream."""


async def sdk_stream(websocket: WebSocket) -> None:
    """One connection of an SDK."""
    relay = relay_of(websocket)
    header = websocket.headers.get("authorization")
    try:
        user, login = await relay.gatekeeper.session(header)
    except (Refusal, StoreError) as error:
        await deny(websocket, error)
        return
    await websocket.accept()
    outbox = Outbox(websocket, to_sdk.Goodbye)
    session = _Session(relay, user, outbox)
    relay.streams.opened(login, outbox, stored=is_own(bearer(header)))
    try:
        peer = messages(websocket, to_sdk.from_sdk)
        await converse(outbox, peer, session.hello, session.receive)
    finally:
        relay.streams.closed(login, outbox)
        session.close()


class _Session:
    def __init__(self, relay: Relay, user: User, outbox: Outbox) -> None:
        self._relay = relay
        self._user = user
        self._outbox = outbox
        self._subscriber = Subscriber(outbox, relay.store.tasks)
        self._connection = relay.hub.attach(outbox)

    async def hello(self, message: to_sdk.FromSdk) -> None:
        if not isinstance(message, to_sdk.StreamHello):
            raise WireError("the first message is no hello")
        check_protocol(message.protocol)
        self._outbox.put(to_sdk.Welcome(PROTOCOL))
        await self._subscribe(message.groups)

    async def receive(self, message: to_sdk.FromSdk) -> None:
        match message:
            case to_sdk.Received(task_ids):
                self._relay.acknowledgements.add(task_ids, self._user.id)
            case to_sdk.Subscribe(groups):
                await self._subscribe(groups)
            case to_sdk.Unsubscribe(groups):
                self._relay.hub.publisher.unsubscribe(self._subscriber, groups)
            case to_sdk.StreamHello():
                raise WireError("a second hello")

    def close(self) -> None:
        self._relay.hub.detach(self._connection)
        publisher = self._relay.hub.publisher
        publisher.unsubscribe(self._subscriber, self._subscriber.stream.groups)

    async def _subscribe(self, groups: tuple[str, ...]) -> None:
        wanted = list(dict.fromkeys(checked(text, "task group id") for text in groups))
        if len(self._subscriber.stream.groups.keys() | set(wanted)) > MAX_GROUPS:
            message = f"One stream takes at most {MAX_GROUPS} task groups."
            raise Refusal(400, codes.INVALID_REQUEST, message)
        # Whoever streams a group keeps it, so that nobody else can get it meanwhile.
        tasks = self._relay.store.tasks
        owners = await tasks.claim_groups(wanted, self._user.id, time.time())
        for group_id, owner in owners.items():
            if owner != self._user.id:
                message = f"Task group {group_id} is not yours."
                raise Refusal(403, codes.TASK_GROUP_NOT_FOUND, message)
            self._relay.hub.publisher.subscribe(self._subscriber, group_id)
