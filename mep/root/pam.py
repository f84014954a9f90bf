"""PAM's part of a login without its first: no password is asked, all the rest is as for ``sshd``.

Account management, credentials and session are the site's, in ``/etc/pam.d/SERVICE``. A binding of
the functions that this takes. Nobody is there: modules are told to be silent, and questions fail.
"""

import contextlib
import ctypes
import os
import pwd
from collections.abc import Iterator
from typing import Any

from mep.root.refusal import ConfigError, Refusal

_ESTABLISH, _DELETE, _SILENT, _CONVERSATION_ERROR = 2, 4, 0x8000, 19
_Talk = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 3)
_nobody = _Talk(lambda *_: _CONVERSATION_ERROR)
_CONVERSATION = (ctypes.c_void_p * 2)(ctypes.cast(_nobody, ctypes.c_void_p).value)


@contextlib.contextmanager
def session(service: str, account: pwd.struct_passwd) -> Iterator[dict[str, str]]:
    """A session of `account`, with credentials, for this process and its children; and closed.

    Gives the environment that PAM's modules want. The groups are set, by the account's name.

    Raises:
        Refusal: the account or the session is refused, in PAM's words.
        ConfigError: there is no such service.
    """
    # PAM looks for names in lower case, and takes `other` instead of what is missing.
    if not os.path.isfile(f"/etc/pam.d/{service}") or service != os.path.basename(service).lower():
        raise ConfigError(f"pam.service_name: there is no file /etc/pam.d/{service}")
    library, handle = ctypes.CDLL("libpam.so.0"), ctypes.c_void_p()
    library.pam_strerror.restype = ctypes.c_char_p
    library.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)

    def call(function: str, *given: Any) -> None:
        if code := getattr(library, function)(*given):
            said = library.pam_strerror(handle, code).decode(errors="replace")
            raise Refusal("ACCOUNT_REFUSED", f"PAM service {service}: {function}: {said} ({code})")

    who = service.encode(), account.pw_name.encode()
    call("pam_start", *who, ctypes.byref(_CONVERSATION), ctypes.byref(handle))
    call("pam_acct_mgmt", handle, _SILENT)
    os.initgroups(account.pw_name, account.pw_gid)  # setcred may add to these
    call("pam_setcred", handle, _ESTABLISH | _SILENT)
    try:
        call("pam_open_session", handle, _SILENT)
        try:
            words = iter(iter(library.pam_getenvlist(handle)).__next__, None)
            yield dict(os.fsdecode(word).split("=", 1) for word in words)
        finally:
            library.pam_close_session(handle, _SILENT)
    finally:
        library.pam_setcred(handle, _DELETE | _SILENT)
        library.pam_end(handle, 0)
