"""What goes wrong on the command line: a sentence for whoever typed it, with the remedy.

Exit statuses of ``mep``::

    0    done
    1    not done, or the answer is no (`mep map` and `mep render`: refused)
    2    the command line itself is wrong
    3    the endpoint is not running
    130  interrupted

CliError
├── NotRunning    3
└── RelayError    1; the relay's refusal, or it is not reachable
"""

from typing import ClassVar

DONE = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
INTERRUPTED = 130


class CliError(Exception):
    """Ends the command; the message goes to stderr, `status` is the exit status."""

    status: ClassVar[int] = FAILED


class NotRunning(CliError):
    """There is no such process to ask or to stop."""

    status = NOT_RUNNING


class RelayError(CliError):
    """The relay refused (`code`: one of :mod:`mep.wire.codes`) or could not be reached."""

    def __init__(self, message: str, code: str = "", http_status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
