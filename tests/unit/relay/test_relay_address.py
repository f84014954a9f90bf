"""Where the database is, and where its password may be."""

from pathlib import Path

import pytest
from mep_cloud.errors import HomeError
from mep_cloud.home import Home
from mep_cloud.settings import Database
from mep_cloud.store.address import address
from sqlalchemy import URL


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def url_of(home: Home, text: str) -> URL:
    found = address(home, Database(url=text))
    assert isinstance(found, URL)
    return found


def test_sqlite_lies_in_the_data_directory(home: Home) -> None:
    assert address(home, Database()) == home.database


@pytest.mark.parametrize(
    "text", ["mysql://x/y", "postgresql+psycopg2://x/y", "relay.sqlite3", "postgresql://[::1/x"]
)
def test_what_is_no_url_of_postgresql(home: Home, text: str) -> None:
    with pytest.raises(HomeError, match="not one of a PostgreSQL database"):
        address(home, Database(url=text))


@pytest.mark.parametrize("text", ["postgresql://u:secret@h/d", "postgresql:///d?password=secret"])
def test_a_password_in_the_url_is_refused_and_not_repeated(home: Home, text: str) -> None:
    with pytest.raises(HomeError) as caught:
        address(home, Database(url=text))
    assert "database.password" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_password_comes_from_a_file_of_the_relay_alone(home: Home) -> None:
    file = home.directory / Home.PASSWORD
    file.write_text("s3cret\n")
    file.chmod(0o600)
    assert url_of(home, "postgresql://u@localhost/d").password == "s3cret"
    file.chmod(0o640)
    with pytest.raises(HomeError, match="open to other accounts"):
        address(home, Database(url="postgresql://u@localhost/d"))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("postgresql://u@db.example/d", "verify-full"),
        ("postgresql://u@192.0.2.1/d", "verify-full"),
        ("postgresql:///d?host=db.example", "verify-full"),
        ("postgresql:///d?host=/run/postgresql,db.example", "verify-full"),
        ("postgresql://u@db.example/d?sslmode=verify-ca", "verify-ca"),
        ("postgresql://u@localhost/d", None),
        ("postgresql://u@127.0.0.1/d", None),
        ("postgresql://u@[::1]/d", None),
        ("postgresql:///d", None),
        ("postgresql:///d?host=/run/postgresql", None),
        ("postgresql:///?service=relay", None),
    ],
)
def test_beyond_this_machine_the_server_is_verified(
    home: Home, text: str, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert url_of(home, text).query.get("sslmode") == mode
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert url_of(home, text).query.get("sslmode") in (None, "verify-ca")
