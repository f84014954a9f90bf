"""What the warden decided: JSON lines in a file of root's, and the same to syslog."""

import json
import os
import syslog
import time
from typing import Final

from mep.root.refusal import clean

_PER_MINUTE: Final = 2000


class Audit:
    """Appends records; opens the file anew each time, so that it can be rotated."""

    def __init__(self, path: str) -> None:
        self._path, self._minute, self._count = path, 0.0, 0

    def record(self, event: str, **facts: object) -> str:
        """Write one record and return its reference."""
        now, reference = time.time(), os.urandom(4).hex()
        texts = {name: clean(fact) for name, fact in facts.items()}
        line = json.dumps({"at": round(now, 3), "event": event, "reference": reference} | texts)
        # A manager that was taken over shall not fill the disk.
        self._count = self._count + 1 if now // 60 == self._minute else 1
        self._minute = now // 60
        if self._count <= _PER_MINUTE:
            syslog.syslog(syslog.LOG_AUTHPRIV | syslog.LOG_NOTICE, line)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(self._path, flags, 0o600), "w") as file:
                file.write(line + "\n")
        return reference
