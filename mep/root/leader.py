"""The leader: a fork of the warden for one user endpoint, from its start to its end.

It decides about the start, under an alarm, and forks the process that becomes the user's. Then it
stays, as root: it ends that process when it is told to, or when the process may run no longer,
closes PAM's session, and ends. It outlives the warden that forked it.

What the manager shall know it says to the warden, which forwards it: that the process is there, or
why not; and how it ended, with what the process itself said of that on descriptor 4.
"""

import contextlib
import fcntl
import json
import os
import pwd
import signal
import socket
import struct
import sys
import time
from typing import Any, NoReturn

from mep.root import become, children, files, pam, policy
from mep.root.grant import Grant
from mep.root.messages import EXITED, STARTED, Start, pack_reply
from mep.root.policy import Site
from mep.root.refusal import Audit, Refusal

_MEMORY, _REPORT, _SAID_BYTES = 3, 4, 4096
_LAUNCH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "endpoint/launch.py")
_HEARD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP}
_NEVER = float("inf")


class Leader:
    """One start, and the user endpoint that comes of it. `words`: a socket to the warden."""

    def __init__(self, site: Site, grant: Grant, start: Start, audit: Audit, words: socket.socket):
        self._site, self._grant, self._start, self._audit = site, grant, start, audit
        self._words, self._asked = words, b""

    def run(self) -> NoReturn:
        """Decide, start, stay. Runs in the forked process, signals blocked, and never returns."""
        try:
            become.settle(0o077)
            signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
            signal.alarm(self._site.policy.start_timeout_s)
            os.setsid()
            self._words = _arrange(self._words)
            self._account, rules = self._decide(), self._site.policy
            none = contextlib.nullcontext(dict[str, str]())
            session = pam.session(rules.pam_service_name, self._account)
            with session if rules.pam_enable and not self._site.owner else none as environment:
                self._lead(environment)
        except Refusal as refusal:
            self._refuse(refusal)
        except BaseException as error:  # noqa: BLE001 - whatever it is
            self._refuse(Refusal("START_FAILED", f"{type(error).__name__}: {error}"))
        finally:
            os._exit(1)

    def _lead(self, environment: dict[str, str]) -> None:
        """The child goes on when all is settled that has to be known of it."""
        memory, account, name = _seal(self._sections()), self._account, self._grant.user_endpoint_id
        ours, theirs = socket.socketpair()
        child, leader = os.fork(), os.getpid()
        if child == 0:
            ours.close()
            self._become(memory, theirs.fileno(), environment)
        theirs.close()
        os.close(memory)
        who = child, account.pw_uid, account.pw_name, self._grant.person
        files.trusted(self._site.state)  # once more: what lies there leads our writing
        record = children.Record(name, leader, children.started(leader), *who)
        children.claim(self._site.state, record, self._site.policy)
        self._audit.record("started", identity=self._identity, **record._asdict())
        self._say(pack_reply(STARTED, name, account.pw_name, child))
        signal.alarm(0)
        ours.send(b"!")
        _, status, usage = self._stay(child)
        self._end(os.waitstatus_to_exitcode(status), usage, ours)

    def _end(self, status: int, usage: Any, report: socket.socket) -> None:
        """Said at once, for a session may take its time to close."""
        name, said = self._grant.user_endpoint_id, ""
        with contextlib.suppress(OSError):
            os.unlink(f"{self._site.state}/{name}")
            said = report.recv(_SAID_BYTES, socket.MSG_DONTWAIT).decode(errors="replace")
        used = f"{usage.ru_utime + usage.ru_stime:.2f} s, {usage.ru_maxrss} KiB"
        self._audit.record("exited", user_endpoint_id=name, status=status, said=said, rusage=used)
        self._say(pack_reply(EXITED, name, status, said))

    def _refuse(self, why: Refusal) -> None:
        self._say(self._audit.refused(self._grant.user_endpoint_id, self._start, why))

    def _say(self, reply: bytes) -> None:
        with contextlib.suppress(OSError):  # the warden may be another one by now
            self._words.send(self._grant.user_endpoint_id.encode() + reply, socket.MSG_NOSIGNAL)

    def _decide(self) -> pwd.struct_passwd:
        """The account, which the policy lets be served; the mapping is asked when it has changed.

        Raises:
            Refusal: with the rule.
            ConfigError: nobody can say.
        """
        site, people = self._site, self._grant.identities
        if self._asked != (asked := site.mapping + str(site.policy.owner).encode()):
            (self._identity, self._name, rule), self._asked = self._map(), asked
            facts = {"identity": self._identity, "account": self._name, "rule": rule}
            # Last of all: what cannot be recorded counts all the same from the next look on.
            self._audit.record("mapped", user_endpoint_id=self._grant.user_endpoint_id, **facts)
        words = {self._name, *(one.get(key, "") for one in people for key in ("id", "username"))}
        if denied := {word.casefold() for word in words} & site.denied:
            raise Refusal("ACCOUNT_REFUSED", f"mep deny: {', '.join(denied)}")
        return site.manager if site.owner else policy.serve(site.policy, self._name)

    def _map(self) -> tuple[str, str, str]:
        """The id of the identity that counts, the name of its account here, and the rule."""
        site, rules, people = self._site, self._site.policy, self._grant.identities
        valid = [one for one in people if one["status"] in ("used", "private")]
        if site.owner:
            mine = [one["id"] for one in valid if one["id"] in rules.owner]
            who, name, rule = mine[0] if mine else "", site.manager.pw_name, "owner"
        else:
            who, name, rule = become.ask(rules.callout_user, site.mapping, site.endpoint_id, valid)
        if not who or not name:
            raise Refusal("IDENTITY_NOT_MAPPED", f"no rule matches any of {people}")
        return who, name, rule

    def _become(self, memory: int, report: int, environment: dict[str, str]) -> NoReturn:
        """The user's process, as root until it is not."""
        site, account, rules, leader = self._site, self._account, self._site.policy, os.getppid()
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            signal.alarm(rules.start_timeout_s)
            if not os.read(report, 1):
                os._exit(1)  # the leader has refused, or is gone
            if not site.owner:
                confined = rules.pam_no_new_privs or not rules.pam_enable
                become.drop(account, rules.pam_enable, confined)
            become.end_with(leader)
            os.umask(rules.umask)
            os.dup2(memory, _MEMORY)
            os.dup2(report, _REPORT)
            os.closerange(_REPORT + 1, os.sysconf("SC_OPEN_MAX"))
            command = rules.endpoint_command or [sys.executable, "-I", "-m", "mep.endpoint"]
            argv = [sys.executable, "-I", "-S", _LAUNCH, self._grant.user_endpoint_id, *command]
            name = account.pw_name
            environment = {"PATH": rules.path, "LANG": "C.UTF-8"} | environment
            me = {"HOME": account.pw_dir, "USER": name, "LOGNAME": name, "SHELL": account.pw_shell}
            os.execve(argv[0], argv, environment | me)  # noqa: S606
        except OSError as error:
            os.write(report, json.dumps({"code": "START_FAILED", "message": str(error)}).encode())
        finally:
            os._exit(1)

    def _stay(self, child: int) -> Any:
        """How the user's process ended. Till then it is not reaped: its number stays its own."""
        kill_at, why = _NEVER, ""
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            pause = min(self._site.policy.recheck_s, max(0, kill_at - time.monotonic()))
            heard = signal.sigtimedwait(_HEARD, pause)
            told = heard is not None and heard.si_signo == signal.SIGTERM
            before, why = why, "stop" if told else self._objection()
            # A directory that is restarted knows nobody for a moment: one look is not enough.
            late = time.monotonic() >= kill_at
            if late or (kill_at == _NEVER and why and (heard or why == before)):
                self._audit.record("ending", user_endpoint_id=self._grant.user_endpoint_id, why=why)
                _signal(child, signal.SIGKILL if late else signal.SIGTERM)
                kill_at = time.monotonic() + self._site.policy.stop_grace_s
        if kill_at != _NEVER:
            _signal(child, signal.SIGKILL)  # what is left of its group
        return os.wait4(child, 0)

    def _objection(self) -> str:
        """Why the user's process may not go on, by the site's files as they are now."""
        try:
            self._site = policy.load(*self._site[:3], self._site)
            account = self._decide()
        except Refusal as refusal:
            return refusal.detail
        except (OSError, ValueError, LookupError):
            return ""  # nobody can say
        return "" if account.pw_uid == self._account.pw_uid else f"now it is {account}"

    def _sections(self) -> dict[str, bytes]:
        site, grant, rules = self._site, self._grant, self._site.policy
        endpoints = {"endpoint_id": site.endpoint_id, "user_endpoint_id": grant.user_endpoint_id}
        who = {"identity_id": self._identity, "identities": grant.person}
        where = {"events_socket": site.events, "template_directory": site.etc}
        sections = {"token": grant.token, "facts": json.dumps(endpoints | who | where).encode()}
        sections |= {"options": self._start.options, "runtime": self._start.runtime}
        for name in ("parent", "template", "schema", "environment"):
            path = os.path.join(site.etc, getattr(rules, name, "parent.json"))
            sections[name] = files.read(path, optional=name in ("schema", "environment"))
        return sections


def _arrange(words: socket.socket) -> socket.socket:
    """0 to 3: ``/dev/null``; 4: the socket to the warden, which is returned; no more."""
    null = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD, 10)
    os.dup2(words.fileno(), _REPORT)
    for target in range(_REPORT):
        os.dup2(null, target)
    os.closerange(_REPORT + 1, os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=_REPORT)


def _signal(child: int, number: int) -> None:
    """To the child's process group; there is none for an instant after the fork."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, number)


def _seal(sections: dict[str, bytes]) -> int:
    """A descriptor of a memory file that nobody can change, or open a second time.

    It belongs to root with mode 0: processes of the same user that find it in ``/proc`` before
    the endpoint makes itself non-dumpable cannot open it. Format: ``mep/wire/handover.py``.
    """
    memory = os.memfd_create("mep", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    parts = [struct.pack(">16sI", key.encode(), len(body)) + body for key, body in sections.items()]
    os.write(memory, b"MEP handover 1\n" + b"".join(parts))
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    os.fchmod(memory, 0)
    return memory
