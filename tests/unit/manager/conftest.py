"""A site's files as `mep configure` and `mep register` leave them, and a real manager process."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from manager_fakes import ScriptedRelay, write_site


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A consistent directory."""
    where = tmp_path / "etc"
    where.mkdir()
    write_site(where, "http://127.0.0.1:1")
    return where


@dataclass
class ManagerProcess:
    """`python -I -m mep.manager`, its directories and what it tells its starter."""

    top: Path
    notifications: socket.socket
    process: Any = None

    @property
    def warden_socket(self) -> Path:
        return self.top / "warden.sock"

    @property
    def etc(self) -> Path:
        return self.top / "etc"

    def status(self) -> dict[str, Any]:
        return json.loads((self.top / "run/status.json").read_text())

    async def told(self, condition: Callable[[str], bool]) -> str:
        """The first notification for which the condition holds."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while True:
                text = (await loop.sock_recv(self.notifications, 4096)).decode()
                if condition(text):
                    return text

    async def start(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.notifications.recv(4096):
                pass  # of the process before, which has ended
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "mep.manager", "--config", str(self.etc)),
            *("--state", str(self.top / "state"), "--run", str(self.top / "run")),
            *("--log", str(self.top / "log"), "--warden", str(self.warden_socket)),
            env={"NOTIFY_SOCKET": "@" + self.notifications.getsockname()[1:].decode()},
            stderr=asyncio.subprocess.PIPE,
        )

    async def ended(self) -> tuple[int, str]:
        """Exit status and log."""
        async with asyncio.timeout(60):
            _, errors = await self.process.communicate()
        return self.process.returncode, errors.decode()

    async def stop(self) -> str:
        """SIGTERM; its log."""
        self.process.send_signal(signal.SIGTERM)
        status, errors = await self.ended()
        assert status == 0, errors
        return errors


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ManagerProcess]:
    """Not started yet; killed at the end where it still runs."""
    for name in ("etc", "state", "run", "log"):
        (tmp_path / name).mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind("")
        notifications.setblocking(False)
        made = ManagerProcess(tmp_path, notifications)
        yield made
    if made.process is not None and made.process.returncode is None:
        made.process.kill()


@pytest.fixture
def with_relay(manager: ManagerProcess) -> Callable[[], Any]:
    """A context manager: the manager runs, and its link to a scripted relay is up."""

    @asynccontextmanager
    async def context() -> Any:
        async with ScriptedRelay("link-token").serving() as relay:
            write_site(manager.etc, relay.url)
            await manager.start()
            async with asyncio.timeout(60):
                await relay.connections.get()
            yield relay
            if manager.process.returncode is None:
                await manager.stop()

    return context
