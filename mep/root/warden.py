"""The event loop: one peer, its requests, and the processes that came of them."""

import os
import selectors
import signal
import socket
import sys
import time
from hashlib import sha256

from mep.root import become, children, leader, messages, policy
from mep.root.children import NEVER, Process
from mep.root.grant import Grant, verify
from mep.root.refusal import Audit, ConfigError, Refusal

_TICK_S = 10.0
_NONCE_KEPT_S = 3600
"""Beyond its expiry, in case the machine's clock is set back."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Warden:
    """Everything that root knows while it runs. `listener` is bound and listening."""

    def __init__(self, known: policy.Site, audit: Audit, listener: socket.socket) -> None:
        self._site, self._audit, self._listener = known, audit, listener
        self._boot_id, self._stamp = os.urandom(16).hex(), list[object]()
        self._ending = self._leaving = False
        self._processes: dict[str, Process] = {}
        self._nonces: dict[str, float] = {}
        self._starts: list[tuple[float, str]] = []
        self._peer: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        # Signals are read like everything else, and stay blocked in a fork until it is settled.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        mask = sum(1 << number - 1 for number in _SIGNALS).to_bytes(128, "little")
        self._signals = become.libc.signalfd(-1, mask, os.O_CLOEXEC)
        self._selector.register(self._signals, selectors.EVENT_READ, self._signalled)
        self._selector.register(listener.fileno(), selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Serve until a signal says otherwise."""
        for record in children.living(self._site.state):
            self._watch(Process(record.user_endpoint_id, record.pid, record.account))
        self._audit.record("up", boot_id=self._boot_id, adopted=list(self._processes))
        while not self._leaving and (self._processes or not self._ending):
            due = min([_TICK_S, *(p.kill_at - time.monotonic() for p in self._processes.values())])
            for key, _ in self._selector.select(max(0, due)):
                # What an earlier one of this batch has closed is not ours any more.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            for process in self._processes.values():
                if process.kill_at <= time.monotonic():
                    process.signal(signal.SIGKILL)
                    process.kill_at += _TICK_S
            self._refresh()
        self._audit.record("down", running=list(self._processes))

    def _off(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _signalled(self) -> None:
        number = int.from_bytes(os.read(self._signals, 128)[:4], sys.byteorder)
        if number == signal.SIGHUP:
            self._stamp = []
        elif number == signal.SIGUSR1:
            self._ending = True
            for name in self._processes:
                self._stop(name)
        else:
            self._leaving = True

    def _refresh(self) -> None:
        """A change of the site's files is taken up as a whole, or what was known stays.

        The first time they are read again: they may have changed since they were, unseen.
        """
        stamp, known = self._site.stamp(), self._site
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._site = policy.load(known.etc, known.state, known.events)
                self._audit.record("settings-read")
            except ConfigError as error:
                self._audit.record("settings-refused", why=error)

    def _accept(self) -> None:
        peer, _ = self._listener.accept()
        ucred = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        uid = int.from_bytes(ucred[4:8], sys.byteorder)
        if uid != self._site.manager.pw_uid:
            self._audit.record("peer-refused", uid=uid)
            return peer.close()
        # One peer: the next one waits in the backlog.
        self._selector.unregister(self._listener.fileno())
        self._peer = peer
        self._selector.register(peer.fileno(), selectors.EVENT_READ, self._receive)
        living = [name for name, process in self._processes.items() if process.account]
        return self._send(messages.Running(self._boot_id, living))

    def _receive(self) -> None:
        assert self._peer is not None
        try:
            packet, _, flags, _ = self._peer.recvmsg(messages.MAX_PACKET + 1)
            match messages.parse_request(b"" if flags else packet):
                case messages.Start() as start:
                    self._start(start)
                case messages.Stop(name):
                    self._stop(name)
        except (OSError, messages.MessageError) as error:
            self._hang_up(error)

    def _send(self, reply: messages.Reply) -> None:
        try:
            if self._peer is not None:
                self._peer.send(messages.pack_reply(reply), socket.MSG_DONTWAIT)
        except OSError as error:
            self._hang_up(error)

    def _hang_up(self, why: Exception) -> None:
        if self._peer is not None:
            self._off(self._peer.detach())
            self._peer = None
            self._selector.register(self._listener.fileno(), selectors.EVENT_READ, self._accept)
            self._audit.record("peer-gone", why=why)

    def _start(self, start: messages.Start) -> None:
        known, now, name, nonce = self._site, time.time(), "", ""
        try:
            grant = verify(start, known.keys, (known.endpoint_id, self._boot_id), self._nonces, now)
            self._nonces = {one: end for one, end in self._nonces.items() if end > now}
            self._nonces[grant.nonce] = grant.expires + _NONCE_KEPT_S
            name, nonce = grant.user_endpoint_id, grant.nonce
            process = self._processes.get(name)
            if process is None:
                self._limit(grant, time.monotonic())
                self._refresh()
                self._fork(grant, start)
            else:
                process.nonce = nonce  # what it says from now on answers the newer request
                if process.account:
                    self._send(messages.Started(name, process.account, process.pid))
        except Refusal as refusal:
            self._refuse((name, nonce, sha256(start.grant).hexdigest()), refusal)

    def _limit(self, grant: Grant, now: float) -> None:
        rules, alive = self._site.policy, self._processes.values()
        self._starts = [(then, one) for then, one in self._starts if then > now - 60]
        recent = max(sum(one == other for _, other in self._starts) for one in grant.person)
        starting = sum(not process.account for process in alive)
        full = len(alive) >= rules.max_endpoints or starting >= rules.max_starting
        if self._ending or full or recent >= rules.starts_per_minute:
            raise Refusal("START_LIMIT", f"{len(alive)} alive, {starting} new, {recent} a minute")
        self._starts += [(now, one) for one in grant.person]

    def _refuse(self, who: tuple[str, str, str], why: Refusal) -> None:
        ref = self._audit.record("refused", user_endpoint_id=who[0], code=why.code, why=why.detail)
        message = f"{why.message} (Reference for the administrator: {ref})"
        self._send(messages.Refused(*who, why.code, message, ref))

    def _stop(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None and process.kill_at == NEVER:
            self._audit.record("stop", user_endpoint_id=name, pid=process.pid)
            process.signal(signal.SIGTERM)
            process.kill_at = time.monotonic() + self._site.policy.stop_grace_s

    def _fork(self, grant: Grant, start: messages.Start) -> None:
        report, report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pid = os.fork()
        if pid == 0:
            leader.lead(self._site, grant, start, report_end)
        os.close(report_end)
        self._watch(Process(grant.user_endpoint_id, pid, "", grant.nonce, report))

    def _watch(self, process: Process) -> None:
        self._processes[process.name] = process
        ended, heard = lambda: self._ended(process), lambda: self._heard(process)
        self._selector.register(process.pidfd, selectors.EVENT_READ, ended)
        if process.report >= 0:
            self._selector.register(process.report, selectors.EVENT_READ, heard)

    def _heard(self, process: Process) -> None:
        """The leader, or later the user's process, said something."""
        if process.report >= 0 and not process.listen():
            self._off(process.report)
            process.report = -1
        said, name = process.line(0), process.name
        if not process.account and "account" in said:
            process.account = said["account"]
            self._audit.record("started", user_endpoint_id=name, pid=process.pid, **said)
            self._send(messages.Started(name, process.account, process.pid))

    def _ended(self, process: Process) -> None:
        self._heard(process)
        if process.report >= 0:
            self._off(process.report)
        status, number = process.reap()
        self._off(process.pidfd)
        name, said = process.name, process.line(-1)
        del self._processes[name]
        if process.account:
            code, message = said.get("code", ""), said.get("message", "")
            facts = {"status": status, "signal": number, "code": code, "said": message}
            self._audit.record("exited", user_endpoint_id=name, pid=process.pid, **facts)
            self._send(messages.Exited(name, process.nonce, status, number, code, message))
        else:
            why = Refusal(said.get("code", "START_FAILED"), said.get("detail", f"died: {number}"))
            self._refuse((name, process.nonce, ""), why)
