"""A scheduler's commands: run to their end or to their time limit, each with what it said."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TIMED_OUT: Final = 124
"""Return code of a command that was ended for taking too long, as timeout(1) has it."""
_HURRY_S: Final = 2.0
"""For a command that runs when its end is wanted."""
_CHECK_S: Final = 0.25


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    command: str
    returncode: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """What is fit to be repeated: stderr, else stdout, else the return code."""
        said = self.stderr.strip() or self.stdout.strip()
        return said or f"{self.command.split()[0]} ended with status {self.returncode}"


class Commands:
    """Runs commands in one thread; :meth:`hurry` may be called from any.

    Args:
        environment: of the commands.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._hurried = threading.Event()
        self._closing = False
        self.directory = "/"
        """Where commands run, and so the jobs that they submit."""
        self.answers: list[Answer] = []
        """Of the commands since this list was last emptied."""

    def hurry(self, *, closing: bool = False) -> None:
        """The command that runs has two seconds left; when closing, so has each that follows."""
        self._closing = self._closing or closing
        self._hurried.set()

    def run(self, command: str, timeout_s: float) -> tuple[int, str, str]:
        """Return code, stdout and stderr of a line of shell.

        A command that takes too long is ended with all that it started, and says so by TIMED_OUT.
        """
        if not self._closing:
            self._hurried.clear()
        # Parsl composes lines of shell; settings admit no character that means something there.
        process = subprocess.Popen(  # noqa: S602
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            cwd=self.directory,
            start_new_session=True,
        )
        said = self._await(process, timeout_s)
        if said is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            told = f"{command.split()[0]} did not answer within {timeout_s:g} seconds"
            answer = Answer(command, TIMED_OUT, "", told)
        else:
            out, err = (text.decode("utf-8", "replace") for text in said)
            answer = Answer(command, process.returncode, out, err)
        self.answers.append(answer)
        return answer.returncode, answer.stdout, answer.stderr

    def _await(
        self, process: "subprocess.Popen[bytes]", timeout_s: float
    ) -> tuple[bytes, bytes] | None:
        now = time.monotonic()
        due = now + timeout_s
        while now < due:
            try:
                return process.communicate(timeout=min(due - now, _CHECK_S))
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if self._hurried.is_set() and due > now + _HURRY_S:
                due = now + _HURRY_S
        return None
