"""Two relay processes on one database, and the balancer whose address alone clients know."""

import time
from pathlib import Path
from typing import Self

from relay_driver import BOUND_S, Api, RelayProcess, Running, make_people
from testbed.balancer import Balancer
from testbed.issuer import Issuer
from testbed.postgres import Server
from testbed.relays import two_directories

LEASE_S = 3
DEPTH = 5000
"""Unfinished tasks of one endpoint."""
SETTINGS = f"""
[cluster]
enabled = true
lease_s = {LEASE_S}
[limits]
queue_depth = {DEPTH}
"""
ISSUER = """
[oidc.university]
issuer = "{url}"
domains = ["university.example"]
audience = "{audience}"
"""

BLOBS = """
[blobs]
directory = "{directory}"
keep_free = 0
"""


class Pair:
    """Two processes and people. A context manager."""

    def __init__(self, server: Server, parent: Path) -> None:
        self.issuer = Issuer()
        """Whose tokens both take."""
        issuer = ISSUER.format(url=self.issuer.url, audience=Issuer.AUDIENCE)
        first, second, self._database = two_directories(
            server, parent, SETTINGS + issuer + BLOBS.format(directory=parent / "blobs")
        )
        self._server = server
        self.relays = [RelayProcess(first), RelayProcess(second)]
        self.balancer = Balancer(*(relay.port for relay in self.relays))
        self.people: Running
        self.opened: list[Api] = []
        """Of tests; closed with the pair."""

    def __enter__(self) -> Self:
        self.balancer.__enter__()
        self.people = make_people(self.relays[0])
        for api in self.people.apis:
            api.url = self.balancer.url
        return self

    def __exit__(self, *_: object) -> None:
        self.people.close()
        for api in self.opened:
            api.session.close()
        self.balancer.__exit__()
        for relay in self.relays:
            if relay.process.poll() is None:
                relay.kill()
        self.issuer.close()

    def home(self, endpoint_id: str, *, but: int | None = None) -> int:
        """Which of them delivers this endpoint's tasks; waits until one (`but` not this) does."""
        deadline = time.monotonic() + BOUND_S
        query = (
            "SELECT url FROM homes JOIN processes ON process = number "
            f"WHERE endpoint_id = '{endpoint_id}'"
        )
        while True:
            url = self._server.sql(query, self._database)
            for index, relay in enumerate(self.relays):
                if relay.url == url and index != but:
                    return index
            assert time.monotonic() < deadline, url
            time.sleep(0.05)

    def number(self, index: int) -> int:
        """By which the other process knows this one."""
        query = f"SELECT max(number) FROM processes WHERE url = '{self.relays[index].url}'"
        return int(self._server.sql(query, self._database))

    def start_again(self, index: int) -> None:
        """The same process anew, as systemd does, and the balancer finds it again."""
        old = self.relays[index]
        self.relays[index] = RelayProcess(old.data, port=old.port)
        self.balancer.only(*(relay.port for relay in self.relays))

    def mend(self) -> None:
        """Have both run, whatever a failed test left."""
        for index, relay in enumerate(self.relays):
            if relay.process.poll() is not None:
                self.start_again(index)
