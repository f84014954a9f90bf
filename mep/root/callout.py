"""Asking who somebody is here: ``mep.callout``, another program, run as ``callout_user``.

Root parses no mapping document and matches no expression; it hands both to an unprivileged
process and believes of the answer only what it checks. Any failure is one, never an account.
"""

import json
import os
import pwd
import signal
import subprocess
import sys
from typing import Final

from mep.root import drop
from mep.root.refusal import ConfigError, clean

_SECONDS: Final = 10
_PROGRAM: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "callout/__main__.py")


def ask(user: str, mapping: bytes, endpoint: str, people: list[dict[str, str]]) -> list[str]:
    """Id and account name of the identity that `mapping` maps first; nothing where there is none.

    With no identities it says whether `mapping` can be used.

    Raises:
        ConfigError: the document is wrong, or the callout failed, in whatever way.
    """

    def become() -> None:
        drop.settle(0o077)
        signal.alarm(_SECONDS)  # outlives exec
        drop.drop(account)

    argv, said = [sys.executable, "-I", "-S", _PROGRAM], os.memfd_create("said")
    try:
        account = pwd.getpwnam(user)
        question = {"mapping": mapping.decode(), "endpoint_id": endpoint, "identities": people}
        asked = json.dumps(question).encode()
        subprocess.run(argv, input=asked, stdout=said, preexec_fn=become, env={}, check=True)
        answer = json.loads(os.pread(said, 65536, 0))
        if "error" in answer:
            raise ConfigError(clean(answer["error"]))
        found: list[str] = answer["mapped"]
        if found and (found[0] not in [one["id"] for one in people] or type(found[1]) is not str):
            raise ConfigError("an answer about somebody else")
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
        raise ConfigError(f"identity mapping: {error}") from error
    finally:
        os.close(said)
    return found
