"""Between relay and warden: messages in, messages out. Pure: no sockets, no clock.

The owner moves messages between this and the two connections, and empties :attr:`Broker.to_relay`
and :attr:`Broker.to_warden` whenever the respective peer is there.
"""

import hashlib
import logging
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from mep.manager.packets import pack_request
from mep.root import messages as root
from mep.wire import codes
from mep.wire import to_manager as wire
from mep.wire.codec import Message

log = logging.getLogger(__name__)

KEPT: Final = 10_000
"""Exits and refusals that wait for the relay; the oldest go first. The relay learns from the next
:class:`~mep.wire.to_manager.WardenUp` what no longer runs, so nothing hangs for a lost one."""

ASKED: Final = 10_000
"""Starts whose answer is outstanding."""

_SIGNATURE_BYTES: Final = 32


@dataclass(frozen=True)
class UserEndpoint:
    """A user endpoint that runs, as far as the manager knows."""

    account: str = ""
    """Empty when it was started before anybody who remembers."""
    pid: int = 0
    since: float = 0.0
    """Epoch seconds; 0 when not known."""


@dataclass
class Broker:
    """The state between the two peers.

    Invariant: `to_relay` holds nothing about the warden's state while the relay is down, for
    :meth:`relay_up` says it anew.
    """

    running: dict[str, UserEndpoint] = field(default_factory=dict)
    boot_id: str | None = None
    """None while the warden is not there."""
    to_relay: deque[Message] = field(default_factory=lambda: deque(maxlen=KEPT))
    to_warden: deque[bytes] = field(default_factory=deque)
    _relay: bool = False
    _asked: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    """SHA-256 of a grant that the warden has been given -> user endpoint id, nonce."""

    def relay_up(self) -> None:
        """The hello has been sent: the warden's state goes next, then what waited."""
        self._relay = True
        self.to_relay.appendleft(self._warden_state())

    def relay_down(self) -> None:
        """The link is lost. Exits and refusals wait; what is only true now does not."""
        self._relay = False
        waiting = [m for m in self.to_relay if isinstance(m, wire.Exited | wire.Refused)]
        self.to_relay.clear()
        self.to_relay.extend(waiting)

    def unsent(self, message: Message) -> None:
        """A message, taken from `to_relay`, could not be sent."""
        if isinstance(message, wire.Exited | wire.Refused):
            self.to_relay.appendleft(message)

    def from_relay(self, message: wire.Start | wire.Stop) -> None:
        """A request of the relay, on its way to the warden."""
        if self.boot_id is None:
            # The relay asks again, with a grant for the next boot id, after the next WardenUp.
            log.info("%s while the warden is down: dropped", type(message).__name__)
            return
        match message:
            case wire.Start():
                self._start(message)
            case wire.Stop(user_endpoint_id):
                self._stop(user_endpoint_id)

    def warden_up(self, running: root.Running, now: float) -> None:
        """The warden's first packet: a connection is there, with this state."""
        self.boot_id = running.boot_id
        unknown = UserEndpoint(since=now)
        ids = running.user_endpoint_ids
        self.running = {i: self.running.get(i, unknown) for i in ids}
        self._tell(self._warden_state())

    def warden_down(self) -> None:
        """The connection to the warden is lost; `running` is kept, for users' processes live on."""
        self.boot_id = None
        self.to_warden.clear()
        self._asked.clear()
        self._tell(self._warden_state())

    def from_warden(self, reply: root.Reply, now: float) -> None:
        """A packet of the warden after its first."""
        match reply:
            case root.Running():
                self.warden_up(reply, now)
            case root.Started(user_endpoint_id, account, pid):
                self._settle(user_endpoint_id)
                self._note_started(user_endpoint_id, UserEndpoint(account, pid, now))
                self._tell(wire.Started(user_endpoint_id, account, pid))
            case root.Refused():
                self._refused(reply)
            case root.Exited(user_endpoint_id, nonce, status, signal, code, message):
                self.running.pop(user_endpoint_id, None)
                self.to_relay.append(
                    wire.Exited(user_endpoint_id, nonce, status, signal, code, message)
                )

    def heartbeat(self, now: float) -> None:
        """Say that the manager lives."""
        self._tell(wire.Status(len(self.running), now))

    def _start(self, start: wire.Start) -> None:
        if len(start.signature) != _SIGNATURE_BYTES:
            return self._refuse(start, codes.GRANT_REFUSED, "The relay's signature is malformed.")
        packet = pack_request(
            root.Start(start.grant, start.signature, start.options, start.runtime)
        )
        if len(packet) > root.MAX_PACKET:
            return self._refuse(
                start,
                codes.START_FAILED,
                f"user_endpoint_config and runtime are too large: a start of {len(packet)} bytes, "
                f"of which at most {root.MAX_PACKET} are accepted. Send a smaller configuration.",
            )
        digest = hashlib.sha256(start.grant).hexdigest()
        self._asked[digest] = (start.user_endpoint_id, start.nonce)
        while len(self._asked) > ASKED:
            self._asked.popitem(last=False)
        self.to_warden.append(packet)
        return None

    def _stop(self, user_endpoint_id: str) -> None:
        try:
            name = str(uuid.UUID(user_endpoint_id))
        except ValueError:
            log.warning("the relay asks to stop %.60r, which is no UUID: dropped", user_endpoint_id)
            return
        self.to_warden.append(pack_request(root.Stop(name)))

    def _refuse(self, start: wire.Start, code: str, message: str) -> None:
        self.to_relay.append(wire.Refused(start.user_endpoint_id, start.nonce, code, message, ""))

    def _refused(self, reply: root.Refused) -> None:
        asked = self._asked.pop(reply.packet, None)
        name, nonce = (reply.user_endpoint_id, reply.nonce)
        if not name:
            # The warden believed nothing in the packet; we know which start it came with.
            if asked is None:
                log.warning("the warden refused a start that nobody asked for: %s", reply.packet)
                return
            name, nonce = asked
        self.to_relay.append(wire.Refused(name, nonce, reply.code, reply.message, reply.reference))

    def _settle(self, user_endpoint_id: str) -> None:
        for digest in [d for d, (name, _) in self._asked.items() if name == user_endpoint_id]:
            del self._asked[digest]

    def _note_started(self, user_endpoint_id: str, started: UserEndpoint) -> None:
        known = self.running.get(user_endpoint_id)
        if known is not None and known.pid == started.pid:
            return  # it was running already: `since` stays
        self.running[user_endpoint_id] = started

    def _warden_state(self) -> Message:
        if self.boot_id is None:
            return wire.WardenDown()
        return wire.WardenUp(self.boot_id, tuple(self.running))

    def _tell(self, message: Message) -> None:
        """Say something that is worth saying only now."""
        if self._relay:
            self.to_relay.append(message)
