"""Between relay and warden: messages in, messages out. Pure: no sockets, no clock.

The owner moves messages between this and the two connections, and empties :attr:`Broker.to_relay`
and :attr:`Broker.to_warden` whenever the respective peer is there, and :attr:`Broker.refused_here`.
"""

import hashlib
import logging
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from mep.manager import packets, sentences
from mep.manager.failures import Failures
from mep.manager.packets import pack_request, report
from mep.manager.records import harmless
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
    refused_here: deque[wire.Refused] = field(default_factory=deque)
    """Starts that the warden does not get to see, for the audit log."""
    _relay: bool = False
    _last_boot_id: str = ""
    _asked: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    """SHA-256 of a grant that the warden has been given -> user endpoint id, nonce."""
    _nonces: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """User endpoint id -> nonce of the newest start, which its end answers."""
    _failures: Failures = field(default_factory=Failures)

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

    def from_relay(self, message: wire.Start | wire.Stop, now: float) -> None:
        """A request of the relay, on its way to the warden."""
        if self.boot_id is None:
            # The relay asks again, with a grant for the next boot id, after the next WardenUp.
            log.info("%s while the warden is down: dropped", type(message).__name__)
            return
        match message:
            case wire.Start():
                self._start(message, now)
            case wire.Stop(user_endpoint_id):
                self._stop(user_endpoint_id)

    def warden_up(self, running: packets.Running, now: float) -> None:
        """The warden's first packet: a connection is there, with this state."""
        if self._last_boot_id != running.boot_id:
            self._asked.clear()
        self.boot_id = self._last_boot_id = running.boot_id
        unknown = UserEndpoint(since=now)
        ids = running.user_endpoint_ids
        self.running = {i: self.running.get(i, unknown) for i in ids}
        self._tell(self._warden_state())

    def warden_down(self) -> None:
        """The connection to the warden is lost; `running` is kept, for users' processes live on."""
        self.boot_id = None
        self.to_warden.clear()
        self._tell(self._warden_state())

    def from_warden(self, reply: packets.Reply, now: float) -> None:
        """A packet of the warden after its first."""
        match reply:
            case packets.Running():
                self.warden_up(reply, now)
            case packets.Started(user_endpoint_id, account, pid):
                self._settle(user_endpoint_id)
                self._note_started(user_endpoint_id, UserEndpoint(account, pid, now))
                self._tell(wire.Started(user_endpoint_id, account, pid))
            case packets.Refused():
                self._refused(reply)
            case packets.Exited():
                self._exited(reply, now)

    def heartbeat(self, now: float) -> None:
        """Say that the manager lives."""
        self._tell(wire.Status(len(self.running), now))

    def _start(self, start: wire.Start, now: float) -> None:
        if len(start.signature) != _SIGNATURE_BYTES:
            return self.refuse(start, codes.GRANT_REFUSED, "The relay's signature is malformed.")
        packet = pack_request(
            root.Start(start.grant, start.signature, start.options, start.runtime)
        )
        if len(packet) > root.MAX_PACKET:
            return self.refuse(
                start,
                codes.START_FAILED,
                f"user_endpoint_config and runtime are too large: a start of {len(packet)} bytes, "
                f"of which at most {root.MAX_PACKET} are accepted. Send a smaller configuration.",
            )
        if pause := self._failures.pause(start.user_endpoint_id, now):
            return self.refuse(
                start,
                codes.START_LIMIT,
                f"Your user endpoint keeps ending as soon as it has started; it is not started "
                f"again for {pause:.0f} s. The reason is in ~/.mep/{start.user_endpoint_id}/"
                "stderr.log on the endpoint's machine.",
            )
        digest = hashlib.sha256(start.grant).hexdigest()
        self._asked[digest] = (start.user_endpoint_id, start.nonce)
        self._nonces[start.user_endpoint_id] = start.nonce
        for known in (self._asked, self._nonces):
            while len(known) > ASKED:
                known.popitem(last=False)
        self.to_warden.append(packet)
        return None

    def _stop(self, user_endpoint_id: str) -> None:
        try:
            name = str(uuid.UUID(user_endpoint_id))
        except ValueError:
            log.warning("the relay asks to stop %.60r, which is no UUID: dropped", user_endpoint_id)
            return
        self.to_warden.append(pack_request(root.Stop(name)))

    def refuse(self, start: wire.Start, code: str, message: str) -> None:
        """Answer a start that the warden does not get to see."""
        answer = wire.Refused(start.user_endpoint_id, start.nonce, code, message, "")
        self.to_relay.append(answer)
        self.refused_here.append(answer)

    def _refused(self, reply: packets.Refused) -> None:
        asked = [self._asked[reply.packet]] if reply.packet in self._asked else []
        if reply.user_endpoint_id:
            # Several starts may have been asked for while the first was decided about.
            asked = [one for one in self._asked.values() if one[0] == reply.user_endpoint_id]
            self._settle(reply.user_endpoint_id)
        self._asked.pop(reply.packet, None)
        if not asked:
            log.warning("the warden refused a start that nobody asked for: %s", reply.packet)
        message = sentences.refused(reply.code, reply.reference)
        for name, nonce in asked:
            self.to_relay.append(wire.Refused(name, nonce, reply.code, message, reply.reference))

    def _exited(self, reply: packets.Exited, now: float) -> None:
        name, status = reply.user_endpoint_id, reply.status
        started = self.running.pop(name, None)
        code, message = (str(harmless(word)) for word in report(reply.said))
        if started is None and not code:
            code, message = codes.START_FAILED, sentences.SENTENCES[codes.START_FAILED]
        if started is not None and started.since:
            self._failures.ended(name, now - started.since, status, now)
        self._settle(name)
        killed = status is not None and status < 0
        exit_status, signal = (None, -(status or 0)) if killed else (status, None)
        nonce = self._nonces.pop(name, "")
        self.to_relay.append(wire.Exited(name, nonce, exit_status, signal, code, message))

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
