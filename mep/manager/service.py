"""The manager's parts together: two connections, the broker between them, events, status."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mep import __version__
from mep.manager import notify, packets, status
from mep.manager.broker import Broker
from mep.manager.decisions import asked, refused
from mep.manager.events import EventLog
from mep.manager.records import harmless
from mep.manager.relay import RelayLink
from mep.manager.site import SiteConfiguration, load
from mep.manager.warden import WardenConnection
from mep.wire import codes
from mep.wire import to_manager as wire
from mep.wire.settings import SettingsError

log = logging.getLogger(__name__)

UNAUDITED: Final = (
    "The site cannot write its audit log, so nothing is started there. Tell its administrator."
)
FAREWELL_S: Final = 3.0
"""How long what is on its way to the relay may take when the manager ends."""


@dataclass(frozen=True)
class Places:
    """The directories of one endpoint, and the warden's socket."""

    config: Path
    state: Path
    run: Path
    logs: Path
    warden: Path


class Manager:
    """One endpoint's manager. Made in the running event loop."""

    def __init__(self, places: Places, site: SiteConfiguration) -> None:
        self._places = places
        self._site = site
        self._broker = Broker(running=status.recall(places.state / status.MEMORY))
        self._events = EventLog(places.run, places.logs, site.parent.endpoint_id)
        self._relay_status = status.Relay(site.parent.relay_url, since=time.time())
        self._warden_status = status.Warden(since=time.time())
        self._period = 0.0
        self._welcomed = asyncio.Event()
        self._for_relay = asyncio.Event()
        self._for_warden = asyncio.Event()
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._warden = WardenConnection(
            places.warden, up=self._warden_up, received=self._reply, down=self._warden_down
        )
        self._relay = RelayLink(
            lambda: self._site,
            received=self._request,
            heartbeat=self._welcome,
            up=self._relay_up,
            down=self._relay_down,
            refused=self._relay_refused,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP rereads the configuration.

        Raises:
            OSError: the events socket, or a file of ours, cannot be made.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._reread)
        self._events.open()
        self._write()
        notify.notify(READY="1", STATUS=self._summary())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in self._parts()]
                await self._ending.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._relay.close(), FAREWELL_S)
                for task in tasks:
                    task.cancel()
        finally:
            self._events.close()
            (self._places.run / status.FILE).unlink(missing_ok=True)

    def _parts(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return (
            self._warden.run(),
            self._relay.run(),
            self._pump_relay(),
            self._pump_warden(),
            self._heartbeats(),
            self._keep_status(),
        )

    # --- loops ---

    async def _pump_relay(self) -> None:
        while True:
            await self._for_relay.wait()
            self._for_relay.clear()
            while self._broker.to_relay:
                message = self._broker.to_relay.popleft()
                if not await self._relay.send(message):
                    self._broker.unsent(message)
                    break

    async def _pump_warden(self) -> None:
        while True:
            await self._for_warden.wait()
            self._for_warden.clear()
            while self._broker.to_warden:
                # A packet that is lost was bound to a boot id that is gone with the connection.
                await self._warden.send(self._broker.to_warden.popleft())

    async def _heartbeats(self) -> None:
        while True:
            await self._welcomed.wait()
            await asyncio.sleep(self._period)
            self._broker.heartbeat(time.time())
            self._for_relay.set()

    async def _keep_status(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                self._write()
            except OSError as error:  # a full disk; links and starts go on
                log.error("the status cannot be written: %s", error)  # noqa: TRY400
            notify.notify(STATUS=self._summary(), **self._states())

    # --- the relay ---

    def _relay_up(self) -> None:
        self._broker.relay_up()
        self._set_relay("up")

    def _relay_down(self) -> None:
        self._welcomed.clear()
        self._broker.relay_down()
        self._set_relay("down")

    def _relay_refused(self, words: str) -> None:
        self._set_relay("refused", words)

    def _welcome(self, heartbeat_s: float) -> None:
        self._period = max(heartbeat_s, 1.0)
        self._welcomed.set()

    def _request(self, message: wire.Start | wire.Stop) -> None:
        if isinstance(message, wire.Start) and not self._note(message):
            self._broker.refuse(message, codes.START_FAILED, UNAUDITED)
        else:
            self._broker.from_relay(message, time.time())
        while self._broker.refused_here:
            self._events.note("refused", **refused(self._broker.refused_here.popleft()))
        self._for_warden.set()
        self._for_relay.set()

    def _note(self, start: wire.Start) -> bool:
        """Whether this start may go to the warden: `high_assurance` needs the audit log."""
        noted = self._events.note("start-asked", **asked(start))
        return noted or not self._site.config.high_assurance

    def _set_relay(self, state: str, words: str = "") -> None:
        url = self._site.parent.relay_url
        self._relay_status = msgspec.convert(
            {"url": url, "state": state, "since": time.time(), "message": words}, status.Relay
        )
        log.info("relay link %s: %s", state, url)
        self._for_relay.set()
        self._changed.set()

    # --- the warden ---

    def _warden_up(self, running: packets.Running, pid: int) -> None:
        self._warden_status = status.Warden("up", time.time(), pid)
        self._broker.warden_up(running, time.time())
        self._for_relay.set()
        self._changed.set()

    def _warden_down(self) -> None:
        self._warden_status = status.Warden("down", time.time())
        self._broker.warden_down()
        self._for_relay.set()
        self._changed.set()

    def _reply(self, reply: packets.Reply) -> None:
        _tell(reply)
        self._broker.from_warden(reply, time.time())
        self._for_relay.set()
        self._changed.set()

    # --- configuration and status ---

    def _reread(self) -> None:
        self._events.reopen()
        before = self._site
        try:
            self._site = load(self._places.config)
        except SettingsError as error:
            log.error("the old configuration stays: %s", error)  # noqa: TRY400 - no traceback
            return
        set_level(self._site)
        log.info("the configuration has been read again")
        link = (before.peer, before.token, before.parent.endpoint_id)
        if self._relay_status.state == "refused" or link != (
            self._site.peer,
            self._site.token,
            self._site.parent.endpoint_id,
        ):
            self._relay.renew()

    def _write(self) -> None:
        parent = self._site.parent
        running = self._broker.running
        current = status.Status(
            parent.endpoint_id,
            parent.endpoint_name,
            status.Manager(os.getpid(), status.process_start_time(os.getpid()), __version__),
            self._relay_status,
            self._warden_status,
            tuple(status.Running(i, u.account, u.pid, u.since) for i, u in running.items()),
        )
        status.write(self._places.run / status.FILE, current)
        status.remember(self._places.state / status.MEMORY, running)

    def _summary(self) -> str:
        relay = self._relay_status
        words = f" ({relay.message})" if relay.message else ""
        return (
            f"relay link {relay.state}{words}; warden {self._warden_status.state}; "
            f"{len(self._broker.running)} user endpoints"
        )

    def _states(self) -> dict[str, str]:
        return {notify.RELAY: self._relay_status.state, notify.WARDEN: self._warden_status.state}


def set_level(site: SiteConfiguration) -> None:
    """Log as the configuration says."""
    logging.getLogger("mep").setLevel(logging.DEBUG if site.config.debug else logging.INFO)


def _tell(reply: packets.Reply) -> None:
    """What the warden did, for whoever reads the log. Parts of it are users' words."""
    match reply:
        case packets.Started(name, account, pid):
            log.info("user endpoint %s started for %s (pid %d)", name, account, pid)
        case packets.Refused(name, _, code, reference):
            log.warning("user endpoint %s refused: %s [%s]", name, code, reference)
        case packets.Exited(name, status_, said):
            words = f": {harmless(said)}" if said else ""
            log.info("user endpoint %s ended with status %s%s", name, status_, words)
        case packets.Running():
            log.info("the warden reports %d user endpoints", len(reply.user_endpoint_ids))
