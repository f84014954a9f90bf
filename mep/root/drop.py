"""Becoming somebody else for good: groups, ids, capabilities, and the proof.

OpenSSH's rule: the drop ends by trying to regain what was given up, and fails if that succeeds.
"""

import ctypes
import os
import pwd
import resource
import signal
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)
_SET_DUMPABLE, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 4, 24, 38
_CAPABILITY_VERSION_3: Final = 0x20080522


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
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _must(libc.capset(header, (ctypes.c_uint32 * 6)()))
    _must(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for regain in (os.setuid, os.setgid, os.seteuid, os.setegid, lambda zero: os.setgroups([zero])):
        try:
            regain(0)
        except PermissionError:
            continue
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
    _must(libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0))


def _must(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "capabilities or process controls cannot be set")
