"""Whether PAM lets an account in, as far as it can be asked without opening a session.

Account management alone: expired, locked, denied by access rules, ``nologin``. What a session's
modules would say is known when one is opened, which only a start does.
"""

import ctypes
from pathlib import Path
from typing import Final

from mep.cli.errors import CliError

_SILENT: Final = 0x8000
_CONVERSATION_ERROR: Final = 19
_SUCCESS: Final = 0
_Talk = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 3)
_nobody: Final = _Talk(lambda *_: _CONVERSATION_ERROR)


def check_service(service: str) -> None:
    """Whether PAM has this service of its own; in place of one that is missing it takes `other`.

    Raises:
        CliError: it has not.
    """
    if service != Path(service).name.lower() or not Path("/etc/pam.d", service).is_file():
        raise CliError(
            f"policy.toml says [pam] service_name = {service!r}, but there is no file "
            f"/etc/pam.d/{service} that PAM would find (lower case, in that directory); make it, "
            "for example from /usr/share/doc/hpc-mep/pam.d"
        )


def refusal(service: str, account: str) -> str:
    """PAM's words where it refuses the account; else nothing. Needs root.

    Raises:
        CliError: there is no such service, or no PAM.
    """
    check_service(service)
    try:
        library = ctypes.CDLL("libpam.so.0")
    except OSError as error:
        raise CliError(f"this machine has no PAM: {error}") from error
    library.pam_strerror.restype = ctypes.c_char_p
    handle = ctypes.c_void_p()
    conversation = (ctypes.c_void_p * 2)(ctypes.cast(_nobody, ctypes.c_void_p).value)
    names = (service.encode(), account.encode())
    code = library.pam_start(*names, ctypes.byref(conversation), ctypes.byref(handle))
    if code != _SUCCESS:
        raise CliError(f"PAM cannot be asked: error {code} of pam_start")
    try:
        code = library.pam_acct_mgmt(handle, _SILENT)
        said = library.pam_strerror(handle, code)
    finally:
        library.pam_end(handle, code)
    return "" if code == _SUCCESS else f"{said.decode(errors='replace')} ({code})"
