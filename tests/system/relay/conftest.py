"""One relay process for the session, with an administrator and two users."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from relay_driver import RelayProcess, Running, make_people, relay_cli
from relay_pair import Pair
from testbed.postgres import Server


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The relay that most tests share."""
    data = tmp_path_factory.mktemp("relay") / "data"
    relay_cli("init", data)
    relay = RelayProcess(data)
    people = make_people(relay)
    yield people
    people.close()
    assert relay.stop() == 0


@pytest.fixture
def own_relay(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    """A relay of the test's own, that it may kill."""
    with _relays() as start:
        yield lambda: start(tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"])
def any_relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Running]]:
    """As `own_relay`, with either database."""
    options: list[object] = []
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        password = tmp_path / "password"
        password.write_text(server.password + "\n")
        options = ["--database", server.new_database(), "--database-password-file", password]
    with _relays() as start:
        yield lambda: start(tmp_path / "data", *options)


@pytest.fixture(scope="session")
def _pair(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(postgres, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture
def pair(_pair: Pair) -> Pair:
    """Two relay processes on one PostgreSQL database, behind a balancer."""
    _pair.mend()
    return _pair


@contextlib.contextmanager
def _relays() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(data: Path, *options: object) -> Running:
        relay_cli("init", data, *options)
        started.append(make_people(RelayProcess(data)))
        return started[-1]

    yield start
    for people in started:
        people.close()
        if people.relay.process.poll() is None:
            people.relay.stop()
