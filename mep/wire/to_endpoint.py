"""Relay <-> user endpoint: one WebSocket at ``/v3/link/user-endpoint``, opened by the endpoint.

The endpoint authenticates with the token that relay and warden both derive from the grant
(``Authorization: Bearer``), and names itself in the hello.

Flow control is by credits: the relay may have sent at most as many tasks as the endpoint has
granted in total on this connection. Results are acknowledged once they are committed; the
endpoint keeps them on disk until then, and sends them again on the next connection.

Reconnecting: the hello lists every task that the endpoint still knows (waiting, started or with
an unacknowledged result). The relay sends again whatever it had handed to this endpoint and is
not in that list: it never arrived, or had not started when the process died.
"""

from typing import Final

from mep.wire import limits
from mep.wire.codec import Decoder, Message
from mep.wire.tasks import Function, Result, StateChange, Task

PATH: Final = "/v3/link/user-endpoint"


class EndpointHello(Message, frozen=True, tag="hello"):
    """First message of the endpoint. The relay answers :class:`Welcome` or closes."""

    protocol: int
    user_endpoint_id: str
    version: str
    python: str
    credit: int
    """Tasks that may be sent at once."""
    held: tuple[str, ...]
    """Task ids that the endpoint still knows."""


class Credit(Message, frozen=True, tag="credit"):
    """So many more tasks may be sent."""

    tasks: int


class Results(Message, frozen=True, tag="results"):
    """A batch of ended tasks."""

    results: tuple[Result, ...]


class States(Message, frozen=True, tag="states"):
    """A batch of tasks that moved."""

    changes: tuple[StateChange, ...]


class Leaving(Message, frozen=True, tag="leaving"):
    """The endpoint is idle and would like to end. The relay answers :class:`MayLeave` when no
    task is on its way, and sends nothing after that; else it sends the tasks, and the wish is void.
    """

    reason: str


class Welcome(Message, frozen=True, tag="welcome"):
    """First message of the relay."""

    protocol: int
    max_result: int
    """Bytes of one result payload that the relay accepts."""
    inline: int = limits.LINK_FRAME
    """Larger ones are uploaded first (:func:`mep.wire.rest.result_path`), and named in results."""


class Tasks(Message, frozen=True, tag="tasks"):
    """A batch of tasks, and the bodies of functions that this connection has not seen yet."""

    functions: tuple[Function, ...]
    tasks: tuple[Task, ...]


class Committed(Message, frozen=True, tag="committed"):
    """These results are on the relay's disk: the endpoint may forget them."""

    task_ids: tuple[str, ...]


class BlobsMissing(Message, frozen=True, tag="blobs-missing"):
    """The relay does not have what these tasks' results name: upload it, and send them again."""

    task_ids: tuple[str, ...]


class Cancel(Message, frozen=True, tag="cancel"):
    """The users no longer want these tasks; each still ends with one result."""

    task_ids: tuple[str, ...]


class MayLeave(Message, frozen=True, tag="may-leave"):
    """Nothing is on its way: the endpoint may end."""


class Goodbye(Message, frozen=True, tag="goodbye"):
    """The relay closes; reconnect after `retry_s` seconds."""

    reason: str
    retry_s: float


FromEndpoint = EndpointHello | Credit | Results | States | Leaving
ToEndpoint = Welcome | Tasks | Committed | BlobsMissing | Cancel | MayLeave | Goodbye

from_endpoint: Decoder[FromEndpoint] = Decoder(FromEndpoint, limits.LINK_FRAME)
to_endpoint: Decoder[ToEndpoint] = Decoder(ToEndpoint, limits.LINK_FRAME)
