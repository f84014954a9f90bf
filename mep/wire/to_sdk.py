"""Relay <-> SDK: one WebSocket at ``/v3/stream`` that streams results of task groups.

The SDK authenticates with the user's bearer token and subscribes to task groups of its own. The
relay first sends every result of the group that has not been acknowledged, then each new one as
it is committed. A result is sent again on a later connection until it is acknowledged.
"""

from typing import Final

from mep.wire import limits
from mep.wire.codec import Decoder, Message
from mep.wire.tasks import Result, StateChange

PATH: Final = "/v3/stream"


class StreamHello(Message, frozen=True, tag="hello"):
    """First message of the SDK. The relay answers :class:`Welcome` or closes."""

    protocol: int
    version: str
    groups: tuple[str, ...]


class Subscribe(Message, frozen=True, tag="subscribe"):
    """Stream these task groups too. A group that does not exist yet is the subscriber's own
    from now on; somebody else's closes the connection.
    """

    groups: tuple[str, ...]


class Unsubscribe(Message, frozen=True, tag="unsubscribe"):
    groups: tuple[str, ...]


class Received(Message, frozen=True, tag="received"):
    """These results are in the user's futures; they need not be streamed again. They stay
    readable over REST until the retention is over.
    """

    task_ids: tuple[str, ...]


class Welcome(Message, frozen=True, tag="welcome"):
    protocol: int


class Results(Message, frozen=True, tag="results"):
    results: tuple[Result, ...]


class States(Message, frozen=True, tag="states"):
    changes: tuple[StateChange, ...]


class Goodbye(Message, frozen=True, tag="goodbye"):
    """The relay closes; reconnect after `retry_s` seconds."""

    reason: str
    retry_s: float


FromSdk = StreamHello | Subscribe | Unsubscribe | Received
ToSdk = Welcome | Results | States | Goodbye

from_sdk: Decoder[FromSdk] = Decoder(FromSdk, 4 * 1024 * 1024)
to_sdk: Decoder[ToSdk] = Decoder(ToSdk, limits.LINK_FRAME)
