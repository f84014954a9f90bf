"""The leader: a fork of the warden that decides about one start and becomes the user's process.

An alarm ends it, whatever it waits for. On the report pipe it says, as a JSON line, why it refuses;
or, last before ``exec``, whose the process is now. What comes after that line is the user's.
"""

import fcntl
import json
import os
import pwd
import signal
import sys
from typing import NoReturn

from mep.root import callout, drop, files, handover
from mep.root.children import Record, claim, started
from mep.root.grant import Grant
from mep.root.messages import Start
from mep.root.policy import serve
from mep.root.refusal import ConfigError, Refusal
from mep.root.site import Site

_MEMORY, _REPORT = 3, 4
_LAUNCH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "endpoint/launch.py")


def lead(site: Site, grant: Grant, start: Start, report: int) -> NoReturn:
    """Decide, then become the user. Runs in the forked process, signals blocked."""
    try:
        drop.settle(0o077)
        signal.alarm(site.policy.start_timeout_s)
        os.setsid()
        _arrange(report)
        _become(site, grant, start)
    except Refusal as refusal:
        _say(code=refusal.code, message=refusal.message, detail=refusal.detail)
    except BaseException as error:  # noqa: BLE001 - whatever it is, a fork must not return
        message = "Your user endpoint could not be started."
        _say(code="START_FAILED", message=message, detail=repr(error))
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
    memory = handover.seal(_sections(site, grant, start, identity, account))
    name, uid, pid, policy = account.pw_name, account.pw_uid, os.getpid(), site.policy
    record = Record(grant.user_endpoint_id, pid, started(pid), uid, name, grant.person)
    claim(site.state, record, policy)
    if not site.owner:
        # The place of PAM: acct_mgmt, initgroups, setcred, open_session; then fork, and stay as
        # the one that closes the session and ends with the endpoint's status.
        drop.drop(account)
    os.umask(policy.umask)
    os.dup2(memory, _MEMORY)
    command = policy.endpoint_command or [sys.executable, "-I", "-m", "mep.endpoint"]
    argv = [sys.executable, "-I", "-S", _LAUNCH, grant.user_endpoint_id, *command]
    environment = {"HOME": account.pw_dir, "USER": name, "LOGNAME": name, "SHELL": account.pw_shell}
    _say(account=name, uid=uid, identity=identity)
    os.execve(argv[0], argv, environment | {"PATH": policy.path, "LANG": "C.UTF-8"})  # noqa: S606


def _decide(site: Site, grant: Grant) -> tuple[str, pwd.struct_passwd]:
    """The identity's id and the account that it has here."""
    counted = [one for one in grant.identities if one["status"] in ("used", "private")]
    policy, manager = site.policy, site.manager
    try:
        if site.owner:
            mine = [one["id"] for one in counted if one["id"] in policy.owner]
            mapped = [mine[0], manager.pw_name] if mine else []
        else:
            mapped = callout.ask(policy.callout_user, site.mapping, site.endpoint_id, counted)
    except ConfigError as error:
        message = "The site's identity mapping does not work at the moment."
        raise Refusal("IDENTITY_NOT_MAPPED", message, error) from error
    if not mapped:
        message = "No rule of the site maps your identity to an account; ask its administrator."
        raise Refusal("IDENTITY_NOT_MAPPED", message)
    return mapped[0], manager if site.owner else serve(policy, mapped[1])


def _sections(
    site: Site, grant: Grant, start: Start, identity: str, account: pwd.struct_passwd
) -> dict[str, bytes]:
    names = ("uname", "uid", "gid", "gecos", "dir", "shell", "groups")
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    facts = {
        "endpoint_id": site.endpoint_id,
        "user_endpoint_id": grant.user_endpoint_id,
        "identity_id": identity,
        "identities": grant.person,
        "account": dict(zip(names, (account[0], *account[2:], groups), strict=True)),
        "events_socket": site.events,
        "template_directory": site.etc,
    }
    etc, policy = site.etc, site.policy
    return {
        "token": grant.token,
        "facts": json.dumps(facts).encode(),
        "options": start.options,
        "runtime": start.runtime,
        "template": files.read(os.path.join(etc, policy.template)),
        "schema": files.read(os.path.join(etc, policy.schema), optional=True),
        "environment": files.read(os.path.join(etc, policy.environment), optional=True),
        "parent": files.read(f"{etc}/parent.json"),
    }


def _say(**said: object) -> None:
    line = json.dumps({key: str(value)[:700] for key, value in said.items()})
    os.write(_REPORT, line.encode() + b"\n")
