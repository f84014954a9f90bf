"""One child of the supervisor, kept running: started, awaited by pidfd, started again."""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mep.cli.processes import Process, process
from mep.manager.backoff import Backoff

FIRST_RESTART_S: Final = 0.2
LAST_RESTART_S: Final = 30.0
STEADY_S: Final = 60.0
"""A child that lived so long failed by chance: the next restart waits as briefly as the first."""

_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """A command to be kept running.

    `options` go to :class:`subprocess.Popen`; `started` is called with each new process.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    started: Callable[[], None]
    options: dict[str, Any] = field(default_factory=dict)
    process: Process | None = None
    _popen: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != supervisor:
                os._exit(1)

        self._popen = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            cwd="/",
            # Ctrl-C is for the supervisor, which ends its children in order.
            start_new_session=True,
            preexec_fn=die_with_supervisor,
            **self.options,
        )
        self.process = process(self._popen.pid)
        self.started()

    async def ended(self) -> int:
        """The exit status of the running process, negative for a signal, once it has ended."""
        assert self._popen is not None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        descriptor = os.pidfd_open(self._popen.pid)
        loop.add_reader(descriptor, _resolve, done)
        try:
            await done
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self.process = None
        return self._popen.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self._popen is not None and self.process is not None:
            self._popen.send_signal(number)

    async def keep(self, failed: Callable[["Child", int], bool]) -> None:
        """Wait for the end of the running process and start it again, and so on.

        `failed` is called with the exit status of each; it says whether to start again.
        """
        backoff = Backoff(FIRST_RESTART_S, LAST_RESTART_S)
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            status = await self.ended()
            if not failed(self, status):
                return
            if loop.time() - since > STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.wait())
            self.start()


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
