"""``mep-relay``: set up and serve a relay, add users, tokens and service clients."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mep_cloud.auth import SECRET_PREFIX, USER_PREFIX, Provider, digest, new_token
from mep_cloud.errors import RelayError
from mep_cloud.home import Home
from mep_cloud.ids import new_id
from mep_cloud.relay import provider_of
from mep_cloud.store import Store
from mep_cloud.store.records import User

T = TypeVar("T")

data_option = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory that `mep-relay init` made.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


class _Group(click.Group):
    """Turns this package's errors into one line on stderr and exit status 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RelayError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.version_option(package_name="hpc-mep")
def relay() -> None:
    """The relay between users' laptops and sites.

    \b
    First steps:
        mep-relay init /var/lib/mep-relay
        mep-relay user add alice@example.org --data /var/lib/mep-relay --admin
        mep-relay token create alice@example.org --data /var/lib/mep-relay
        mep-relay serve --data /var/lib/mep-relay --host 0.0.0.0 \\
            --tls-cert fullchain.pem --tls-key privkey.pem

    Users and tokens can be added while the relay serves.
    """


@relay.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--domain",
    default="relay.local",
    show_default=True,
    help="Appended to user names that have no @domain.",
)
@json_option
def init(directory: Path, domain: str, as_json: bool) -> None:
    """Set up a relay in DIRECTORY: database and master credential.

    The directory is for the relay's account alone (0700). Back up master.key apart from the
    database: together they can sign starts for every registered endpoint. Refuses a directory
    that is not empty.
    """
    home = Home(directory)
    home.create()
    store = Store(home.database)
    store.create()
    provider = Provider(new_id(), domain)

    async def settle(opened: Store) -> None:
        await opened.users.put_setting("domain", provider.domain)
        await opened.users.put_setting("provider_id", provider.id)

    _with_store(store, settle)
    _print(
        {"directory": str(directory), "provider_id": provider.id, "domain": domain},
        f"relay set up in {directory}\nidentity provider {provider.id}",
        as_json,
    )


@relay.command()
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0: any free."
)
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="PEM chain.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="PEM private key.")
@click.option(
    "--insecure-http",
    is_flag=True,
    help="Serve plain HTTP beyond this machine (behind a proxy that ends TLS).",
)
@click.option("--debug", is_flag=True, help="Log more.")
def serve(
    data: Path,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure_http: bool,
    debug: bool,
) -> None:
    """Serve until SIGTERM or SIGINT; nothing that was accepted is lost.

    Prints `relay listening on URL` once connections are accepted. Without a certificate only
    loopback addresses are served.
    """
    from mep_cloud.serve import Listen
    from mep_cloud.serve import serve as run

    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    listen = Listen(host, port, tls_cert, tls_key, insecure_http)

    def announce(url: str) -> None:
        click.echo(f"relay listening on {url}")

    import uvloop

    uvloop.run(run(data, listen, announce))


@relay.group()
def user() -> None:
    """Users of this relay."""


@user.command("add")
@click.argument("name")
@data_option
@click.option("--admin", is_flag=True, help="May register multi-user endpoints.")
@click.option("--display-name", default="", help="The person's name.")
@click.option("--email", default="")
@click.option("--organization", default="")
@json_option
def user_add(
    name: str,
    data: Path,
    admin: bool,
    display_name: str,
    email: str,
    organization: str,
    as_json: bool,
) -> None:
    """Add the user NAME or NAME@DOMAIN.

    Sites map this identity to a local account by its username.
    """

    async def add(store: Store) -> User:
        username = name if "@" in name else f"{name}@{(await provider_of(store)).domain}"
        _check_fields(username, display_name, email, organization)
        person = User(new_id(), username, display_name, email, organization, admin, time.time())
        await store.users.add(person)
        return person

    added = _in_home(data, add)
    _print(
        {"id": added.id, "username": added.username, "is_admin": added.is_admin},
        f"user {added.username}\nidentity {added.id}",
        as_json,
    )


@relay.group()
def token() -> None:
    """Tokens of users."""


@token.command("create")
@click.argument("username")
@data_option
@click.option("--name", "label", default="", help="A label to recognise it by.")
@click.option("--expires-days", type=click.FloatRange(min=0, min_open=True), help="Default: never.")
@json_option
def token_create(
    username: str, data: Path, label: str, expires_days: float | None, as_json: bool
) -> None:
    """Make a token for a user and print it, once: the relay keeps its SHA-256 only."""
    now = time.time()
    expires = None if expires_days is None else now + expires_days * 86400
    secret = new_token(USER_PREFIX)

    async def create(store: Store) -> User:
        person = await _user(store, username)
        await store.users.add_token(
            digest(secret), user_id=person.id, label=label, created=now, expires=expires
        )
        return person

    person = _in_home(data, create)
    _print({"token": secret, "username": person.username, "expires": expires}, secret, as_json)


@token.command("revoke")
@data_option
@json_option
def token_revoke(data: Path, as_json: bool) -> None:
    """Revoke the token read from standard input; a serving relay forgets it within a minute."""
    secret = sys.stdin.readline().strip()

    async def revoke(store: Store) -> bool:
        return await store.users.revoke(digest(secret))

    revoked = _in_home(data, revoke)
    _print({"revoked": revoked}, "revoked" if revoked else "no such token", as_json)


@relay.group()
def client() -> None:
    """Service clients: programs that fetch tokens with an id and a secret."""


@client.command("create")
@click.argument("name")
@data_option
@click.option("--admin", is_flag=True, help="May register multi-user endpoints.")
@json_option
def client_create(name: str, data: Path, admin: bool, as_json: bool) -> None:
    """Make a service client NAME and print its id and secret, once.

    It gets tokens from POST /v2/oauth2/token (HTTP Basic, grant_type=client_credentials). Sites
    map it by its username, ID@clients.DOMAIN.
    """
    secret = new_token(SECRET_PREFIX)

    async def create(store: Store) -> User:
        client_id = new_id()
        username = f"{client_id}@clients.{(await provider_of(store)).domain}"
        _check_fields(username, name)
        made = User(client_id, username, name, "", "", admin, time.time())
        await store.users.add(made, digest(secret))
        return made

    made = _in_home(data, create)
    _print(
        {"client_id": made.id, "client_secret": secret, "username": made.username},
        f"client id {made.id}\nclient secret {secret}",
        as_json,
    )


def _check_fields(*fields: str) -> None:
    for field in fields:
        if len(field.encode()) > 1024 or not field.isprintable():
            raise click.ClickException("A field of an identity has at most 1024 printable bytes.")
    if not 0 < fields[0].find("@") < len(fields[0]) - 1 or " " in fields[0]:
        raise click.ClickException("A user name is NAME or NAME@DOMAIN, without blanks.")


async def _user(store: Store, name: str) -> User:
    username = name if "@" in name else f"{name}@{(await provider_of(store)).domain}"
    found = await store.users.by_username(username)
    if found is None:
        raise click.ClickException(
            f"There is no user {username}. Add it with `mep-relay user add`."
        )
    return found


def _in_home(data: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    home = Home(data)
    home.check()
    return _with_store(Store(home.database), work)


def _with_store(store: Store, work: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        async with store:
            return await work(store)

    return asyncio.run(run())


def _print(record: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(record) if as_json else text)
