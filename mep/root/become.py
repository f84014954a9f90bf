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
libc = ctypes.CDLL(None, use_errno=True)
_SET_PDEATHSIG, _SET_DUMPABLE, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 4, 24, 38


def drop(account: pwd.struct_passwd, session: bool = False, confined: bool = True) -> None:
    """Become `account`, irrevocably.

    In a `session` of PAM the groups are the session's, set already, and so may be capabilities;
    elsewhere there are none. `confined`: and none are to be gained by ``exec``, which takes effect
    with set-uid programs.

    Raises:
        OSError: the process is in no state to do anything but end.
    """
    uid, gid = account.pw_uid, account.pw_gid
    for capability in () if session else range(64):  # more than the kernel knows
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    if not session:
        os.initgroups(account.pw_name, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # setresuid has cleared what is permitted and effective, but not what is inheritable.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capabilities version 3, this process
    failed = not session and libc.capset(header, (ctypes.c_uint32 * 6)())
    if failed or (confined and libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capabilities are not given up")
    if 0 in (libc.setuid(0), libc.setgid(0), libc.setresuid(-1, 0, -1), libc.setgroups(0, None)):
        raise OSError("dropped privileges can be regained")
    extra = set(os.getgroups()) - set(os.getgrouplist(account.pw_name, gid))
    if (extra and not session) or (os.getresuid(), os.getresgid()) != ((uid,) * 3, (gid,) * 3):
        raise OSError("ids are not those of the account")


def end_with(parent: int) -> None:
    """Be killed when the parent ends. To be called after :func:`drop`, which would undo it."""
    libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def shadow(name: str) -> tuple[bool, int]:
    """Whether the password is locked, as by ``usermod -L``; on which day the account expires.

    Where there is no shadow entry, or none that this process may read: False, and -1 for never.
    """
    libc.getspnam.restype = ctypes.POINTER(ctypes.c_long * 9)  # struct spwd: nine words
    entry = libc.getspnam(name.encode())
    if not entry:
        return False, -1
    return ctypes.string_at(entry.contents[1]).startswith(b"!"), entry.contents[7]


def settle(umask: int) -> None:
    """The state a program expects at its start; no core dumps, and no tracing until ``exec``."""
    os.umask(umask)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def ask(user: str, mapping: bytes, endpoint: str, people: list[dict[str, str]]) -> tuple[str, ...]:
    """Id, account name and rule of the identity that `mapping` maps first; empty strings for none.

    With no identities it says whether `mapping` can be used.

    Raises:
        ConfigError: the document is wrong, or the callout failed, in whatever way.
    """

    def become() -> None:
        settle(0o077)
        drop(account)

    argv, said = [sys.executable, "-I", "-S", _CALLOUT], os.memfd_create("said")
    try:
        account = pwd.getpwnam(user)
        question = {"mapping": mapping.decode(), "endpoint_id": endpoint, "identities": people}
        asked = json.dumps(question).encode()
        subprocess.run(argv, input=asked, stdout=said, preexec_fn=become, env={}, check=True)
        answer = json.loads(os.pread(said, 65536, 0))
        if "error" in answer:
            raise ConfigError(clean(answer["error"]))
        identity, name, rule = answer["id"], answer["output"], answer["rule"]
        if identity not in ["", *(one["id"] for one in people)] or not isinstance(name, str):
            raise ConfigError("an answer about somebody else")
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
        raise ConfigError(f"identity mapping: {error}") from error
    finally:
        os.close(said)
    return identity, name, rule
