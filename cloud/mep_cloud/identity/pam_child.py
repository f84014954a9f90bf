"""Asks PAM about one name and password: the process ``python -I -m mep_cloud.identity.pam_child``.

A line of JSON on standard input holds service, name and password, and the lowest uid that may sign
in; the exit status is the answer. Modules of a stack are the site's, may hang, and keep what they
were told in their memory: here that ends with the process, and the relay's keys are not in it.
Looking an account up may hang as well, where a directory does not answer.
"""

import json
import pwd
import sys
from typing import Final

GOOD: Final = 0
WRONG: Final = 3
BROKEN: Final = 4
"""The stack could not be asked, which is no word on the password."""


def main() -> int:
    """Read the question, ask."""
    from pam import (
        PAM_ABORT,
        PAM_AUTHINFO_UNAVAIL,
        PAM_SERVICE_ERR,
        PAM_SYSTEM_ERR,
        PamAuthenticator,
    )

    asked = json.loads(sys.stdin.readline())
    if _is_reserved(asked["name"], asked["min_uid"]):
        return WRONG
    stack = PamAuthenticator()
    good = stack.authenticate(
        asked["name"], asked["password"], service=asked["service"], resetcreds=False
    )
    if good:
        return GOOD
    broken = (PAM_ABORT, PAM_AUTHINFO_UNAVAIL, PAM_SERVICE_ERR, PAM_SYSTEM_ERR)
    return BROKEN if stack.code in broken else WRONG


def _is_reserved(name: str, min_uid: int) -> bool:
    """Accounts of the machine itself. The stack may know people whom this machine does not."""
    try:
        return pwd.getpwnam(name).pw_uid < min_uid
    except KeyError:
        return name == "root"


if __name__ == "__main__":
    sys.exit(main())
