"""The event loop: one peer, its requests, and the leaders that they lead to."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time

from mep.root import children, messages, policy
from mep.root.grant import Grant, verify
from mep.root.leader import Leader
from mep.root.refusal import Audit, ConfigError, Refusal


class Warden:
    """Everything that root knows while it runs. `listener` is bound and listening."""

    def __init__(self, known: policy.Site, audit: Audit, listener: socket.socket) -> None:
        self._site, self._audit, self._listener = known, audit, listener
        self._boot_id, self._wrong = os.urandom(16).hex(), ""
        self._leaders: dict[str, int] = {}
        """User endpoint id -> pidfd, until the leader has said its last word."""
        self._nonces: dict[str, float] = {}
        self._starts: list[tuple[float, str]] = []
        self._peer: socket.socket | None = None
        self._words, self._leaders_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._words.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._words, selectors.EVENT_READ, self._forward)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # files are read again anyway

    def run(self) -> None:
        """Serve for ever. A signal ends it at once: what has to be kept is on disk."""
        for record in children.living(self._site.state):
            self._leaders[record.user_endpoint_id] = os.pidfd_open(record.leader)
        self._audit.record("up", boot_id=self._boot_id, adopted=list(self._leaders))
        while True:
            ready = self._selector.select(5)
            for key, _ in ready:
                key.data()
            if not ready:
                self._look()
                self._refresh()

    def _look(self) -> None:
        """After leaders that are gone, perhaps without their last word."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for name in list(self._leaders):
            if not self._tell(0, name):
                self._forget(name)
                self._audit.record("leader-lost", user_endpoint_id=name)
                self._send(messages.pack_reply(messages.EXITED, name, None, ""))

    def _refresh(self) -> None:
        """A change of the site's files is taken up as a whole, or what was known stays."""
        try:
            known = policy.load(*self._site[:3], self._site)
            if known != self._site:
                self._audit.record("settings-read")
            self._site, self._wrong = known, ""
        except ConfigError as error:
            if self._wrong != str(error):
                self._audit.record("settings-refused", why=error)
            self._wrong = str(error)

    def _accept(self) -> None:
        """The manager's newest connection is the one that counts."""
        peer, _ = self._listener.accept()
        ucred = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        uid = int.from_bytes(ucred[4:8], sys.byteorder)
        if uid != self._site.manager.pw_uid:
            self._audit.record("peer-refused", uid=uid)
            return peer.close()
        self._hang_up("a newer one")
        self._peer = peer
        self._selector.register(peer, selectors.EVENT_READ, lambda: self._receive(peer))
        living = [one.user_endpoint_id for one in children.living(self._site.state)]
        return self._send(messages.pack_reply(messages.RUNNING, self._boot_id, living))

    def _receive(self, peer: socket.socket) -> None:
        if peer is not self._peer:
            return  # hung up on a moment ago
        try:
            packet, _, flags, _ = peer.recvmsg(messages.MAX_PACKET + 1)
            match messages.parse_request(b"" if flags else packet):
                case messages.Start() as start:
                    self._start(start)
                case messages.Stop(name):
                    self._tell(signal.SIGTERM, name)
        except (OSError, messages.MessageError) as error:
            self._hang_up(str(error))

    def _send(self, reply: bytes) -> None:
        try:
            if self._peer is not None:
                self._peer.send(reply, socket.MSG_DONTWAIT)
        except OSError as error:
            self._hang_up(str(error))

    def _hang_up(self, why: str) -> None:
        if self._peer is not None:
            self._selector.unregister(self._peer)
            self._peer.close()
            self._peer = None
            self._audit.record("peer-gone", why=why)

    def _start(self, start: messages.Start) -> None:
        known, now, name = self._site, time.time(), ""
        try:
            grant = verify(start, known.keys, (known.endpoint_id, self._boot_id), self._nonces, now)
            self._nonces = {one: end for one, end in self._nonces.items() if end > now}
            # Longer than it lives, in case that the machine's clock is set back.
            self._nonces[grant.nonce] = grant.expires + 3600
            name = grant.user_endpoint_id
            living = {one.user_endpoint_id: one for one in children.living(known.state)}
            if there := living.get(name):
                self._send(messages.pack_reply(messages.STARTED, name, there.account, there.pid))
            elif name not in self._leaders:
                self._limit(grant, len(living), time.monotonic())
                self._refresh()
                self._fork(grant, start)
        except Refusal as refusal:
            self._send(self._audit.refused(name, start, refusal))

    def _limit(self, grant: Grant, living: int, now: float) -> None:
        rules, alive = self._site.policy, len(self._leaders)
        self._starts = [(then, one) for then, one in self._starts if then > now - 60]
        recent = max(sum(one == other for _, other in self._starts) for one in grant.person)
        full = alive >= rules.max_endpoints or alive - living >= rules.max_starting
        if full or recent >= rules.starts_per_minute:
            raise Refusal("START_LIMIT", f"{living} alive of {alive}, {recent} a minute")
        self._starts += [(now, one) for one in grant.person]

    def _fork(self, grant: Grant, start: messages.Start) -> None:
        if (pid := os.fork()) == 0:
            Leader(self._site, grant, start, self._audit, self._leaders_end).run()
        self._leaders[grant.user_endpoint_id] = os.pidfd_open(pid)

    def _tell(self, number: int, name: str) -> bool:
        """Send a signal to a leader; False when it is gone."""
        with contextlib.suppress(KeyError, ProcessLookupError):
            signal.pidfd_send_signal(self._leaders[name], number)
            return True
        return False

    def _forget(self, name: str) -> None:
        if name in self._leaders:
            os.close(self._leaders.pop(name))

    def _forward(self) -> None:
        """What leaders say, each with the name of its user endpoint before it."""
        with contextlib.suppress(BlockingIOError):
            while word := self._words.recv(messages.MAX_PACKET):
                name, reply = word[:36].decode(), word[36:]  # a UUID
                if reply[:1] != messages.STARTED:
                    self._forget(name)
                self._send(reply)
