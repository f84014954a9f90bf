"""Databases of both kinds."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

Where = Path | URL
NewWhere = Callable[[], Where]


@pytest.fixture
def new_postgresql(request: pytest.FixtureRequest) -> Callable[[], URL]:
    """Makes empty databases of a real server."""
    server = request.getfixturevalue("postgres")

    def new() -> URL:
        url = make_url(server.new_database())
        return url.set(drivername="postgresql+psycopg", password=server.password)

    return new


@pytest.fixture(params=["sqlite", "postgresql"])
def new_where(request: pytest.FixtureRequest, tmp_path: Path) -> NewWhere:
    """Makes places for databases, of one kind after the other."""
    numbers = iter(range(100))
    if request.param == "sqlite":
        return lambda: tmp_path / f"{next(numbers)}.sqlite3"
    new: NewWhere = request.getfixturevalue("new_postgresql")
    return new


@pytest.fixture
def where(new_where: NewWhere) -> Where:
    """One of them."""
    return new_where()
