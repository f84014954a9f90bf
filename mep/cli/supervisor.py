"""Warden and manager, kept running by ``mep start``, in the foreground or detached.

SIGTERM or SIGINT end everything, users' processes too (the second one at once); SIGUSR2 ends warden
and manager and leaves users' processes; SIGHUP applies a changed configuration.
"""

import argparse
import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Final, Literal

from mep.cli import users
from mep.cli.children import Child
from mep.cli.errors import CliError
from mep.cli.listener import listen
from mep.cli.preparation import owner_of, policy, prepare
from mep.cli.processes import (
    Processes,
    manager_command,
    manager_environment,
    this_process,
    warden_command,
    warden_environment,
    write_processes,
)
from mep.cli.readiness import Readiness
from mep.cli.site import Site, configured_site
from mep.manager import notify
from mep.wire.settings import SettingsError

READY_S: Final = 15.0
"""How long warden and manager may take to be there for each other."""
RELAY_S: Final = 3.0
"""How long readiness waits for the relay besides; it may be down, and comes when it comes."""
MARGIN_S: Final = 15.0
"""What each may take to end; users' processes beyond their grace."""
LOOK_S: Final = 0.05

Say = Callable[[str], None]


class Supervisor:
    """The two processes of one endpoint.

    Args:
        place: a prepared endpoint.
        say: shows a line to whoever watches.
        ready: called once, with ``{"endpoint_id", "pid", "relay"}``, or with ``{"error"}``.
    """

    def __init__(self, place: Site, endpoint_id: str, say: Say, ready: Callable[[Any], None]):
        self._place = place
        self._endpoint_id = endpoint_id
        self._say = say
        self._report = ready
        self._grace_s = float(policy(place).get("stop_grace_s", 10))
        self._mode: Literal["run", "stop", "leave"] = "run"
        self._failure = ""
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._states: dict[str, str] = {}
        self._news = asyncio.Event()
        self._was_ready = False
        self._readiness = Readiness(self._manager_pid, self._heard)
        account = owner_of(place)
        self._listener = listen(place.warden_socket, account.gid if account else None)
        self._warden = Child(
            "warden",
            warden_command(place, self._listener.fileno()),
            warden_environment(place, os.environ),
            self._started,
            {"pass_fds": (self._listener.fileno(),)},
        )
        drop = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        self._manager = Child(
            "manager",
            manager_command(place),
            manager_environment(place, os.environ, self._readiness.address),
            self._started,
            {**drop, "umask": 0o077},
        )

    async def run(self) -> int:
        """Run until told to end; returns the exit status."""
        self._listen_to_signals()
        self._readiness.listen()
        try:
            self._warden.start()
            self._manager.start()
            keeping = [
                asyncio.create_task(child.keep(self._child_ended))
                for child in (self._warden, self._manager)
            ]
            announcing = asyncio.create_task(self._announce())
            await self._ending.wait()
            for task in (announcing, *keeping):
                task.cancel()
            await asyncio.gather(announcing, *keeping, return_exceptions=True)
            await self._stop()
        finally:
            self._readiness.close()
            self._listener.close()
            self._place.warden_socket.unlink(missing_ok=True)
            self._place.processes_file.unlink(missing_ok=True)
        if self._failure and not self._was_ready:
            self._report({"error": self._failure})
        return 1 if self._failure else 0

    # --- children ---

    def _started(self) -> None:
        write_processes(
            self._place, Processes(this_process(), self._warden.process, self._manager.process)
        )

    def _child_ended(self, child: Child, status: int) -> bool:
        """Whether to start it again."""
        if self._mode != "run":
            return False
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if not self._was_ready:
            self._fail(f"the {child.name} ended at once, with {how}; what it said is in the log")
            return False
        self._say(f"the {child.name} ended with {how}; starting it again")
        if child is self._manager:
            self._readiness.forget()
        return True

    def _fail(self, sentence: str) -> None:
        """End, and leave users' processes of an earlier run alone."""
        self._failure = sentence
        self._say(sentence)
        self._mode = "leave"
        self._ending.set()

    async def _stop(self) -> None:
        """The warden first, so that nobody comes in; users' processes tell the relay themselves."""
        await self._end(self._warden, MARGIN_S)
        if self._mode == "stop":
            self._say("stopping; users' processes have a moment to end (again: at once)")
            await self._end_users()
        await self._end(self._manager, MARGIN_S)
        self._say("stopped")

    async def _end_users(self) -> None:
        for record in users.living(self._place):
            users.tell(record, signal.SIGTERM)
        late = asyncio.get_running_loop().time() + self._grace_s + MARGIN_S
        while users.living(self._place):
            if self._hurry.is_set() or asyncio.get_running_loop().time() > late:
                users.kill(self._place)
            await asyncio.sleep(LOOK_S)

    async def _end(self, child: Child, seconds: float) -> None:
        if child.process is None:
            return
        gone = asyncio.create_task(child.ended())
        child.signal(signal.SIGTERM)
        await asyncio.wait((gone,), timeout=seconds)
        if not gone.done():
            self._say(f"the {child.name} does not end; killing it")
            child.signal(signal.SIGKILL)
            await gone

    # --- readiness ---

    def _manager_pid(self) -> int | None:
        return self._manager.process.pid if self._manager.process else None

    def _heard(self, fields: dict[str, str]) -> None:
        self._states = fields
        self._news.set()

    async def _announce(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._until(self._both_there), READY_S)
        if not self._both_there():
            seen = self._states.get("STATUS", "the manager has said nothing")
            self._fail(f"warden and manager are not ready after {READY_S:.0f} s: {seen}")
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._until(self._relay_known), RELAY_S)
        self._was_ready = True
        relay = self._states.get(notify.RELAY, "connecting")
        self._report({"endpoint_id": self._endpoint_id, "pid": os.getpid(), "relay": relay})

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    def _both_there(self) -> bool:
        return self._states.get("READY") == "1" and self._states.get(notify.WARDEN) == "up"

    def _relay_known(self) -> bool:
        return self._states.get(notify.RELAY, "connecting") != "connecting"

    # --- signals ---

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end, "stop")
        loop.add_signal_handler(signal.SIGUSR2, self._asked_to_end, "leave")
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            if sys.stdin is not None and sys.stdin.isatty():  # the terminal is gone
                loop.add_signal_handler(signal.SIGHUP, self._asked_to_end, "stop")
            else:
                loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _asked_to_end(self, mode: Literal["stop", "leave"]) -> None:
        if self._ending.is_set():
            self._hurry.set()
            return
        self._mode = mode
        self._ending.set()

    def _reload(self) -> None:
        try:
            prepare(self._place)
        except (CliError, SettingsError, OSError) as error:
            self._say(f"the old configuration stays: {error}")
            return
        for record in users.living(self._place):
            users.tell(record, signal.SIGHUP)
        self._manager.signal(signal.SIGHUP)


def lock(place: Site) -> IO[bytes]:
    """The lock that one supervisor holds while it lives; closing it releases it.

    Raises:
        CliError: another holds it.
    """
    file = place.lock_file.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise CliError(f"{place.name} is running already; see `mep status {place.name}`") from None
    return file


def supervise(place: Site, endpoint_id: str, say: Say, ready: Callable[[Any], None]) -> int:
    """Run an endpoint that is prepared and locked; returns the exit status."""

    async def run() -> int:
        return await Supervisor(place, endpoint_id, say, ready).run()

    return asyncio.run(run())


def main() -> int:
    """The detached form: reports to a pipe, and writes lines with their time to stdout."""
    parser = argparse.ArgumentParser(prog="mep.cli.supervisor", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--report", type=int, required=True, help="descriptor of a pipe")
    said = parser.parse_args()
    os.set_inheritable(said.report, False)

    def ready(answer: Any) -> None:
        with suppress(BrokenPipeError, ValueError), os.fdopen(said.report, "w") as pipe:
            pipe.write(json.dumps(answer))

    try:
        place = configured_site(said.name)
        parent = prepare(place)
        with lock(place):
            return supervise(place, parent.endpoint_id, _say_with_time, ready)
    except (CliError, SettingsError, OSError) as error:
        ready({"error": str(error)})
        return 1


def _say_with_time(line: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
