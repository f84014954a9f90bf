"""The leader: a fork of the warden that decides about one start and becomes the user's process.

An alarm ends it, whatever it waits for. On the report pipe it says, as a JSON line, why it refuses;
or, last before ``exec``, whose the process is now. What comes after that line is the user's.
"""

import fcntl
import json
import os
import pwd
import signal
import struct
import sys
from typing import NoReturn

from mep.root import become, children, files, policy
from mep.root.grant import Grant
from mep.root.messages import Start
from mep.root.policy import Site
from mep.root.refusal import Refusal

_MEMORY, _REPORT = 3, 4
_LAUNCH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "endpoint/launch.py")


def lead(site: Site, grant: Grant, start: Start, report: int) -> NoReturn:
    """Decide, then become the user. Runs in the forked process, signals blocked."""
    try:
        become.settle(0o077)
        signal.alarm(site.policy.start_timeout_s)
        os.setsid()
        _arrange(report)
        _become(site, grant, start)
    except Refusal as refusal:
        _say(code=refusal.code, detail=refusal.detail)
    except BaseException as error:  # noqa: BLE001 - whatever it is, a fork must not return
        _say(code="START_FAILED", detail=repr(error))
    finally:
        os._exit(1)


def _arrange(report: int) -> None:
    """0 to 3: ``/dev/null``; 4: the report pipe; no more."""
    null = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD, 10)
    os.dup2(report, _REPORT)
    for target in range(_REPORT):
        os.dup2(null, target)
    os.closerange(_REPORT + 1, os.sysconf("SC_OPEN_MAX"))


def _become(site: Site, grant: Grant, start: Start) -> None:
    identity, account = _decide(site, grant)
    memory = _seal(_sections(site, grant, start, identity, account))
    name, uid, pid = account.pw_name, account.pw_uid, os.getpid()
    who = pid, children.started(pid), uid, name, grant.person
    children.claim(site.state, children.Record(grant.user_endpoint_id, *who), site.policy)
    if not site.owner:
        # The place of PAM: acct_mgmt, initgroups, setcred, open_session; then fork, and stay as
        # the one that closes the session and ends with the endpoint's status.
        become.drop(account)
    os.umask(site.policy.umask)
    os.dup2(memory, _MEMORY)
    command = site.policy.endpoint_command or [sys.executable, "-I", "-m", "mep.endpoint"]
    argv = [sys.executable, "-I", "-S", _LAUNCH, grant.user_endpoint_id, *command]
    path = {"PATH": site.policy.path, "LANG": "C.UTF-8"}
    environment = {"HOME": account.pw_dir, "USER": name, "LOGNAME": name, "SHELL": account.pw_shell}
    _say(account=name, uid=uid, identity=identity)
    os.execve(argv[0], argv, environment | path)  # noqa: S606


def _decide(site: Site, grant: Grant) -> tuple[str, pwd.struct_passwd]:
    """The identity's id and the account that it has here."""
    counted = [one for one in grant.identities if one["status"] in ("used", "private")]
    rules, manager = site.policy, site.manager
    if site.owner:
        mine = [one["id"] for one in counted if one["id"] in rules.owner]
        identity, name = (mine[0], manager.pw_name) if mine else ("", "")
    else:
        identity, name = become.ask(rules.callout_user, site.mapping, site.endpoint_id, counted)
    if not name:
        raise Refusal("IDENTITY_NOT_MAPPED", "no rule matches")
    return identity, manager if site.owner else policy.serve(rules, name)


def _sections(
    site: Site, grant: Grant, start: Start, identity: str, account: pwd.struct_passwd
) -> dict[str, bytes]:
    def read(name: str, optional: bool = False) -> bytes:
        return files.read(os.path.join(site.etc, name), optional=optional)

    rules = site.policy
    names = ("uname", "uid", "gid", "gecos", "dir", "shell", "groups")
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    local = dict(zip(names, (account[0], *account[2:], groups), strict=True))
    endpoints = {"endpoint_id": site.endpoint_id, "user_endpoint_id": grant.user_endpoint_id}
    who = {"identity_id": identity, "identities": grant.person, "account": local}
    where = {"events_socket": site.events, "template_directory": site.etc}
    sections = {"token": grant.token, "facts": json.dumps(endpoints | who | where).encode()}
    sections |= {"options": start.options, "runtime": start.runtime, "parent": read("parent.json")}
    sections |= {"schema": read(rules.schema, True), "environment": read(rules.environment, True)}
    return sections | {"template": read(rules.template)}


def _seal(sections: dict[str, bytes]) -> int:
    """A read-only descriptor of a memory file that nobody can change, or open a second time.

    It belongs to root with mode 0: processes of the same user that find it in ``/proc`` before
    the endpoint makes itself non-dumpable cannot open it. Format: ``mep/wire/handover.py``.
    """
    with open(os.memfd_create("mep", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(b"MEP handover 1\n")
        for name, body in sections.items():
            file.write(struct.pack(">16sI", name.encode(), len(body)) + body)
        file.flush()
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        reader = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        os.fchmod(reader, 0)
    return reader


def _say(**said: object) -> None:
    line = json.dumps({key: str(value)[:700] for key, value in said.items()})
    os.write(_REPORT, line.encode() + b"\n")
