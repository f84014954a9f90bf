"""Relay <-> manager: one WebSocket at ``/v3/link/manager``, opened by the site.

The manager authenticates with its link credential (``Authorization: Bearer``), which can open
this link and report status, nothing else. The first message each way is a hello.
"""

from typing import Final

from mep.wire import limits
from mep.wire.codec import Decoder, Message

PATH: Final = "/v3/link/manager"
START_TASKS: Final = 100


class ManagerHello(Message, frozen=True, tag="hello"):
    """First message of the manager. The relay answers :class:`Welcome` or closes."""

    protocol: int
    endpoint_id: str
    version: str
    python: str
    hostname: str


class WardenUp(Message, frozen=True, tag="warden-up"):
    """The warden is connected; starts are possible. Sent after the hello and whenever it changes.

    `boot_id` must be bound into every grant from now on. `running` are the ids of the user
    endpoints that live: the relay asks for no start of these.
    """

    boot_id: str
    running: tuple[str, ...]


class WardenDown(Message, frozen=True, tag="warden-down"):
    """The warden is gone; no start is possible until :class:`WardenUp`."""


class Started(Message, frozen=True, tag="started"):
    """The warden forked the user endpoint, or it was running already."""

    user_endpoint_id: str
    account: str
    pid: int


class Refused(Message, frozen=True, tag="refused"):
    """The warden refused a start; the waiting tasks fail with this."""

    user_endpoint_id: str
    nonce: str
    """Of the grant that was refused, hex, so that a late refusal cannot hit a newer start."""
    code: str
    message: str
    """A sentence for the user, with the reference in it."""
    reference: str
    """Names the warden's log record."""


class Exited(Message, frozen=True, tag="exited"):
    """A user endpoint ended. Code and message are set when it said why (else empty)."""

    user_endpoint_id: str
    nonce: str
    """Of the grant that started it, hex; empty for an adopted process."""
    status: int | None
    """Exit status; None when a signal ended it or the process was adopted."""
    signal: int | None
    code: str
    message: str


class Status(Message, frozen=True, tag="status"):
    """Heartbeat with a few figures for the endpoint's page."""

    running: int
    at: float


class Welcome(Message, frozen=True, tag="welcome"):
    """First message of the relay."""

    protocol: int
    heartbeat_s: float
    """How often the manager sends :class:`Status`."""


class Start(Message, frozen=True, tag="start"):
    """Start a user endpoint. Opaque to the manager, which passes the four fields to the warden.

    `grant` is canonical JSON, `signature` = HMAC-SHA256(grant key, ``mep-grant-1\\0`` + grant);
    `options` and `runtime` are the exact bytes whose SHA-256 the grant names. Together at most
    :data:`mep.wire.limits.START_PACKET` bytes.
    """

    user_endpoint_id: str
    nonce: str
    grant: bytes
    signature: bytes
    options: bytes
    runtime: bytes
    tasks: tuple[str, ...] = ()
    """Ids of tasks that wait for it, at most :data:`START_TASKS`: for the audit log alone."""


class Stop(Message, frozen=True, tag="stop"):
    """Stop a user endpoint."""

    user_endpoint_id: str


class Goodbye(Message, frozen=True, tag="goodbye"):
    """The relay closes; reconnect after `retry_s` seconds."""

    reason: str
    retry_s: float


FromManager = ManagerHello | WardenUp | WardenDown | Started | Refused | Exited | Status
ToManager = Welcome | Start | Stop | Goodbye

from_manager: Decoder[FromManager] = Decoder(FromManager, 1024 * 1024)
to_manager: Decoder[ToManager] = Decoder(ToManager, 2 * limits.START_PACKET)
