"""Two relay processes behind a balancer, over TLS: SDK, manager and endpoint outlive either."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from house import Owner, Relay, until
from mep_sdk import Executor
from test_faults import count, executions
from testbed.balancer import Balancer
from testbed.postgres import Server
from testbed.relays import two_directories

pytestmark = pytest.mark.root

TASKS = 2000


class TwoRelays:
    """Both processes, and what clients take for the relay."""

    def __init__(self, data: tuple[Path, Path], sql: Callable[[str], str], tls: Any) -> None:
        self.sql = sql
        self.processes = [Relay(each, tls=tls) for each in data]
        self._tls = tls

    def before(self, balancer: Balancer) -> Relay:
        return Relay(self.processes[0].data, port=balancer.port, tls=self._tls)

    def home(self, endpoint_id: str, *, but: Relay | None = None) -> Relay:
        """Which of them delivers this endpoint's tasks."""
        query = (
            "SELECT url FROM homes JOIN processes ON process = number "
            f"WHERE endpoint_id = '{endpoint_id}'"
        )

        def found() -> Relay | None:
            url = self.sql(query)
            return next((each for each in self.processes if url == each.url != but), None)

        relay: Relay = until(
            lambda: (each := found()) is not but and each, f"a home of endpoint {endpoint_id}"
        )
        return relay


@pytest.fixture
def two(postgres: Server, tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[TwoRelays]:
    settings = f'\n[cluster]\nenabled = true\nlease_s = 5\nca_file = "{certificate[0]}"\n'
    first, second, database = two_directories(postgres, tmp_path, settings)
    relays = TwoRelays((first, second), lambda query: postgres.sql(query, database), certificate)
    with ExitStack() as stack:
        for each in relays.processes:
            each.start()
            stack.callback(each.stop)
        yield relays


def test_everybody_goes_on_when_the_relay_at_home_is_killed(
    two: TwoRelays,
    tmp_path: Path,
    certificate: tuple[Path, Path],
    new_account: Callable[..., Any],
) -> None:
    with ExitStack() as stack:
        ports = [each.port for each in two.processes]
        balancer = stack.enter_context(Balancer(ports[0]))
        relay = two.before(balancer)
        owner = Owner(new_account("two"), relay)
        log = Path(owner.account.pw_dir) / "executions"
        chain = str(certificate[0])
        owner.mep("configure", "mine", "--relay-url", relay.url, "--ca-file", chain)
        said = owner.mep("start", "mine", "--detach", token=relay.token("carol"))
        stack.callback(owner.mep, "stop", "mine")
        endpoint_id = said.split("registered ID: ")[1].split()[0]
        until(lambda: two.home(endpoint_id) is two.processes[0], "the manager is there")
        balancer.only(ports[1])
        with Executor(endpoint_id, client=relay.client("carol")) as ex:
            # Submitted at one process, at home in the other; the user endpoint is handed on.
            assert ex.submit(count, os.devnull, 1).result(60) == 1
            assert two.home(endpoint_id) is two.processes[0]
            balancer.only(*ports)
            futures = [ex.submit(count, str(log), number) for number in range(TASKS)]
            for moment in (TASKS // 4, TASKS // 2):
                until(lambda moment=moment: len(executions(log)) >= moment, "tasks run", 90)
                home = two.home(endpoint_id)
                home.kill()
                two.home(endpoint_id, but=home)
                home.start()
            assert [each.result(60) for each in futures] == list(range(TASKS))
        assert sorted(executions(log)) == list(range(TASKS))
