"""Where the database is: the file in the data directory, or what ``[database]`` names."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from mep_cloud.errors import HomeError
from mep_cloud.home import Home
from mep_cloud.settings import Database

_DRIVER: Final = "postgresql+psycopg"
_SCHEMES: Final = ("postgresql", "postgres")


def address(home: Home, settings: Database) -> Path | URL:
    """What :class:`mep_cloud.store.Store` opens for this relay.

    The password of a PostgreSQL account comes from the file beside, or by libpq's own means
    (PGPASSFILE, PGSERVICEFILE, peer authentication). A connection that leaves the machine is by
    TLS with the server's certificate verified, unless the URL has an ``sslmode`` of its own.

    Raises:
        HomeError: no URL of PostgreSQL, or a password in it, or an unsafe password file.
    """
    if not settings.url:
        return home.database
    url = parsed(settings.url)
    password = home.database_password()
    if password is not None:
        url = url.set(password=password)
    if "sslmode" not in url.query and "PGSSLMODE" not in os.environ and _leaves_machine(url):
        url = url.update_query_dict({"sslmode": "verify-full"})
    return url


def parsed(text: str) -> URL:
    """The URL of a PostgreSQL database, without a password.

    Raises:
        HomeError: it is none.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise HomeError(_expected()) from error
    if url.drivername not in _SCHEMES:
        raise HomeError(_expected())
    if url.password is not None or "password" in url.query:
        raise HomeError(
            "The url of [database] holds a password, and relay.toml is no place for one. Put it "
            f"into the file {Home.PASSWORD} beside it (mode 0600), or use PGPASSFILE."
        )
    return url.set(drivername=_DRIVER)


def _expected() -> str:
    return (
        "The url of [database] is not one of a PostgreSQL database. "
        "Write postgresql://USER@HOST/NAME, or postgresql:///NAME?host=/run/postgresql, "
        "or leave it out for SQLite."
    )


def _leaves_machine(url: URL) -> bool:
    hosts = [url.host, *_values(url, "host"), *_values(url, "hostaddr")]
    if "service" in url.query or not any(hosts):
        # A service file says for itself what it wants; without a host it is the Unix socket.
        return False
    return not all(_is_local(host) for host in hosts if host)


def _values(url: URL, key: str) -> list[str]:
    value = url.query.get(key, ())
    return value.split(",") if isinstance(value, str) else list(value)


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
