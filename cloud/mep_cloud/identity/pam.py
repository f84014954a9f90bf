"""The site's own accounts: a name and a password, asked of a PAM stack in a process of its own."""

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Final

from mep_cloud.errors import HomeError, NoAnswer
from mep_cloud.identity import pam_child, person
from mep_cloud.identity.person import Person
from mep_cloud.identity.settings import Pam

log = logging.getLogger(__name__)

DIRECTORIES: Final = (Path("/etc/pam.d"), Path("/usr/lib/pam.d"))
_NAME: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,63}")
_RULES: Final = {
    kind: re.compile(rf"\s*(-?{kind}\s|@include\s)", re.IGNORECASE) for kind in ("auth", "account")
}
_PASSWORD: Final = 1024
_AT_ONCE: Final = 4
"""A stack takes seconds over a wrong password, and anybody may try."""
_COMMAND: Final = (sys.executable, "-I", "-m", pam_child.__name__)


class PamAccounts:
    """The table ``[pam]``."""

    def __init__(self, declared: Pam, relay_id: str) -> None:
        self.declared = declared
        self.id = person.provider_id(f"mep:pam:{relay_id}:{declared.domain}")
        self.title = declared.title
        self.session_s = declared.session_s
        self._free = asyncio.Semaphore(_AT_ONCE)

    def check(self) -> None:
        """Refuse a service without a stack of its own: PAM would ask that of ``other`` instead.

        Raises:
            HomeError: with the remedy.
        """
        service = self.declared.service
        path = next((each / service for each in DIRECTORIES if (each / service).is_file()), None)
        if path is None:
            raise HomeError(
                f"[pam] service is {service!r}, and there is no /etc/pam.d/{service}: PAM would "
                "fall back to its service `other`. Write that file, or take [pam] out."
            )
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise HomeError(f"[pam] {path} cannot be read: {error}.") from error
        for kind, rule in _RULES.items():
            if not any(map(rule.match, lines)):
                raise HomeError(
                    f"[pam] {path} has no line for {kind}: PAM would fall back to its service "
                    "`other` for that. Write one."
                )

    async def person(self, name: str, password: str) -> Person | None:
        """Whose name and password these are; None: nobody's.

        Raises:
            NoAnswer: the stack could not be asked, or took too long.
        """
        name = name.lower()
        if not _NAME.fullmatch(name) or not 0 < len(password) <= _PASSWORD or "\0" in password:
            return None
        if not await self._good(name, password):
            return None
        record = person.record(
            {
                "id": person.derived_id(self.id, name),
                "sub": name,
                "username": f"{name}@{self.declared.domain}",
                "identity_provider": self.id,
                "identity_provider_display_name": self.title,
            }
        )
        return Person(self.id, (record,), frozenset(), time.time())

    async def _good(self, name: str, password: str) -> bool:
        question = {
            "service": self.declared.service,
            "name": name,
            "password": password,
            "min_uid": self.declared.min_uid,
        }
        async with self._free:
            status = await self._ask(json.dumps(question).encode() + b"\n")
        if status not in (pam_child.GOOD, pam_child.WRONG):
            log.error("PAM service %s gave no answer (%s)", self.declared.service, status)
            raise NoAnswer("The site's accounts cannot be asked just now. Try again later.")
        return status == pam_child.GOOD

    async def _ask(self, question: bytes) -> int | str:
        """The child's exit status, or why there is none."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        child = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=pipe, stdout=nothing, stderr=nothing
        )
        try:
            async with asyncio.timeout(self.declared.timeout_s):
                await child.communicate(question)
        except TimeoutError:
            return f"nothing within {self.declared.timeout_s:g} s"
        finally:
            if child.returncode is None:
                _kill(child.pid)
            await child.wait()
        return child.returncode if child.returncode is not None else "no exit status"


def _kill(pid: int) -> None:
    """A process and what it started, which modules like to put into sessions of their own."""
    with contextlib.suppress(OSError):
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in started:
            _kill(int(each))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
