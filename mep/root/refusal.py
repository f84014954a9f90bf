"""What is said: why something is not done, to the user; all that was decided, to the audit log."""

import json
import os
import syslog
import time

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NOISE_PER_MINUTE = 1000
SENTENCES = {
    "GRANT_REFUSED": "The site did not accept the relay's request to start your user endpoint.",
    "IDENTITY_NOT_MAPPED": "The site does not map your identity to a local account.",
    "ACCOUNT_UNKNOWN": "Your identity maps to an account that does not exist on this machine.",
    "ACCOUNT_REFUSED": "The site's policy does not let the account be used that you map to.",
    "ACCOUNT_SHARED": "Your identity maps to an account that somebody else is using right now.",
    "START_LIMIT": "Too many user endpoints, yours or all, run or start here; try again later.",
    "START_FAILED": "The site could not start your user endpoint.",
}
"""By code of ``mep.wire.codes``: fit for the user, and silent about anybody else."""


class ConfigError(ValueError):
    """Something that root decides by cannot be used; the text says what to change."""


class Refusal(Exception):
    """A start is refused; `detail` is for the audit log."""

    def __init__(self, code: str, detail: object) -> None:
        self.code, self.message, self.detail = code, SENTENCES[code], str(detail)


def clean(text: object) -> str:
    """At most 1000 characters, none of them a control, bidirectional override or surrogate."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:1000])


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
            with open(os.open(self._path, _FLAGS, 0o600), "w") as file:
                file.write(line + "\n")
        return reference
