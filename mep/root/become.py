"""Becoming somebody else for good: groups, ids, capabilities, and the proof.

OpenSSH's rule: the drop ends by trying to regain what was given up, and fails if that succeeds.

:func:`ask` does so in a child, to learn who somebody is here. Root parses no mapping document and
matches no expression; it hands both to ``mep.callout``, an unprivileged program, and believes of
the answer only what it checks.
"""

import ctypes
import json
import os
import pwd
import resource
import signal
import subprocess
import sys

from mep.root.refusal import ConfigError, clean

_CALLOUT = os.path.join(os.path.dirname(os.path.dirname(__file__)), "callout/__main__.py")
_CALLOUT_SECONDS, _CALLOUT_BYTES = 10, 65536
libc = ctypes.CDLL(None, use_errno=True)
_SET_DUMPABLE, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 4, 24, 38


def drop(account: pwd.struct_passwd) -> None:
    """Become `account`, irrevocably, with no capability and none to be gained by ``exec``.

    Raises:
        OSError: the process is in no state to do anything but end.
    """
    uid, gid = account.pw_uid, account.pw_gid
    for capability in range(64):  # more than the kernel knows
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    os.initgroups(account.pw_name, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # setresuid has cleared what is permitted and effective, but not what is inheritable.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capabilities version 3, this process
    if libc.capset(header, (ctypes.c_uint32 * 6)()) or libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "capabilities are not given up")
    if 0 in (libc.setuid(0), libc.setgid(0), libc.setresuid(-1, 0, -1), libc.setgroups(0, None)):
        raise OSError("dropped privileges can be regained")
    extra = set(os.getgroups()) - set(os.getgrouplist(account.pw_name, gid))
    if extra or (os.getresuid(), os.getresgid()) != ((uid,) * 3, (gid,) * 3):
        raise OSError("ids are not those of the account")


def settle(umask: int) -> None:
    """The state a program expects at its start; no core dumps, and no tracing until ``exec``."""
    os.umask(umask)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def ask(user: str, mapping: bytes, endpoint: str, people: list[dict[str, str]]) -> tuple[str, str]:
    """Id and account name of the identity that `mapping` maps first; two empty strings for none.

    With no identities it says whether `mapping` can be used.

    Raises:
        ConfigError: the document is wrong, or the callout failed, in whatever way.
    """

    def become() -> None:
        settle(0o077)
        signal.alarm(_CALLOUT_SECONDS)  # outlives exec
        resource.setrlimit(resource.RLIMIT_FSIZE, (_CALLOUT_BYTES, _CALLOUT_BYTES))
        drop(account)

    argv, said = [sys.executable, "-I", "-S", _CALLOUT], os.memfd_create("said")
    try:
        account = pwd.getpwnam(user)
        question = {"mapping": mapping.decode(), "endpoint_id": endpoint, "identities": people}
        asked = json.dumps(question).encode()
        subprocess.run(argv, input=asked, stdout=said, preexec_fn=become, env={}, check=True)
        answer = json.loads(os.pread(said, _CALLOUT_BYTES, 0))
        if "error" in answer:
            raise ConfigError(clean(answer["error"]))
        identity, name = answer["id"], answer["output"]
        if identity not in ["", *(one["id"] for one in people)] or not isinstance(name, str):
            raise ConfigError("an answer about somebody else")
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
        raise ConfigError(f"identity mapping: {error}") from error
    finally:
        os.close(said)
    return identity, name
