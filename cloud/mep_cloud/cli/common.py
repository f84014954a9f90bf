"""What the verbs of ``mep-relay`` share."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mep_cloud import settings
from mep_cloud.home import Home
from mep_cloud.store import Store
from mep_cloud.store.address import address

T = TypeVar("T")

data_option = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory that `mep-relay init` made.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def in_home(data: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do `work` with the store of an existing relay."""
    return with_store(store_of(data), work)


def store_of(data: Path) -> Store:
    """The store of an existing relay, not opened yet."""
    home = Home(data)
    home.check()
    return Store(address(home, settings.load(home.settings).database))


def with_store(store: Store, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open the store, do `work`, close it."""

    async def run() -> T:
        async with store:
            return await work(store)

    return asyncio.run(run())


def show(record: dict[str, Any], text: str, as_json: bool) -> None:
    """Print for a program or for a person."""
    click.echo(json.dumps(record) if as_json else text)
