"""One relay process for the session, with an administrator and two users."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from relay_driver import Api, RelayProcess, relay_cli


@dataclass
class Running:
    """A relay and its people."""

    relay: RelayProcess
    admin: Api
    alice: Api
    bob: Api
    nobody: Api

    @property
    def url(self) -> str:
        return self.relay.url


def make_people(relay: RelayProcess) -> Running:
    def person(name: str, *options: str) -> Api:
        relay_cli("user", "add", name, "--data", relay.data, *options)
        made = relay_cli("token", "create", name, "--data", relay.data, "--name", "test")
        return Api(relay.url, made["token"])

    return Running(
        relay,
        person("admin", "--admin"),
        person("alice@example.org"),
        person("bob"),
        Api(relay.url, None),
    )


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The relay that most tests share."""
    data = tmp_path_factory.mktemp("relay") / "data"
    relay_cli("init", data)
    relay = RelayProcess(data)
    people = make_people(relay)
    yield people
    for api in (people.admin, people.alice, people.bob, people.nobody):
        api.session.close()
    assert relay.stop() == 0


@pytest.fixture
def own_relay(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    """A relay of the test's own, that it may kill."""
    started: list[Running] = []

    def start() -> Running:
        data = tmp_path / "data"
        relay_cli("init", data)
        started.append(make_people(RelayProcess(data)))
        return started[-1]

    yield start
    for people in started:
        for api in (people.admin, people.alice, people.bob, people.nobody):
            api.session.close()
        if people.relay.process.poll() is None:
            people.relay.stop()
