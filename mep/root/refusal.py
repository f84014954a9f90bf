"""What is said: why something is not done, and all that was decided, to the audit log."""

import json
import os
import syslog
import time
from hashlib import sha256

from mep.root.messages import REFUSED, Start, pack_reply

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NOISE_PER_MINUTE = 1000


class ConfigError(ValueError):
    """Something that root decides by cannot be used; the text says what to change."""


class Refusal(Exception):
    """A start is refused; `code` is one of ``mep.wire.codes``, `detail` is for the audit log.

    What the user reads is in :mod:`mep.manager.sentences`.
    """

    def __init__(self, code: str, detail: object) -> None:
        self.code, self.detail = code, str(detail)


def clean(text: object) -> str:
    """At most 1000 characters, none of them a control, bidirectional override or surrogate."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(text)[:1000])


class Audit:
    """JSON lines in syslog and in a file of root's, opened each time so that it can be rotated."""

    def __init__(self, path: str) -> None:
        self._path, self._noise = path, {0: 0}

    def record(self, event: str, **facts: object) -> str:
        """Write one record and return its reference."""
        now, reference = time.time(), os.urandom(4).hex()
        head = {"at": round(now, 3), "event": event, "reference": reference}
        line = json.dumps(head | {name: clean(fact) for name, fact in facts.items()})
        # What a manager that was taken over can cause at will shall not fill the disk.
        minute, noisy = int(now // 60), event.startswith(("refused", "peer"))
        self._noise = {minute: self._noise.get(minute, 0) + noisy}
        if not noisy or self._noise[minute] <= _NOISE_PER_MINUTE:
            syslog.syslog(syslog.LOG_AUTHPRIV | syslog.LOG_NOTICE, line)
            syslog.closelog()  # forks shall not have its descriptor
            with open(os.open(self._path, _FLAGS, 0o600), "w") as file:
                file.write(line + "\n")
        return reference

    def refused(self, name: str, start: Start, why: Refusal) -> bytes:
        """Write that the start of a user endpoint is refused; the packet that says so."""
        reference = self.record("refused", user_endpoint_id=name, code=why.code, why=why.detail)
        return pack_reply(REFUSED, name, sha256(start.grant).hexdigest(), why.code, reference)
