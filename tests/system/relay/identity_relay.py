"""A relay with other identity providers, and how a test signs in with them."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay_driver import Api, RelayProcess, Running, make_people, relay_cli


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def relay_with(
    data: Path, tables: dict[str, dict[str, Any]], secrets: dict[str, str]
) -> Iterator[Running]:
    """A running relay whose ``relay.toml`` has these tables, and [identity] url."""
    port = free_port()
    relay_cli("init", data)
    own = {"url": f"http://127.0.0.1:{port}", **tables.pop("identity", {})}
    (data / "relay.toml").write_text(toml({"identity": own, **tables}))
    for name, secret in secrets.items():
        path = data / f"{name}.secret"
        path.write_text(secret + "\n")
        path.chmod(0o600)
    relay = RelayProcess(data, port=port)
    people = make_people(relay)
    yield people
    people.close()
    if relay.process.poll() is None:
        relay.stop()


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """Tables of plain values; JSON's texts, numbers and lists are TOML's too."""
    lines: list[str] = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join([*lines, ""])


@contextmanager
def holder(url: str, token: str) -> Iterator[Api]:
    """Whoever holds a token."""
    api = Api(url, token)
    yield api
    api.session.close()
