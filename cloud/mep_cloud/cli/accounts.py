"""``mep-relay token`` and ``client``: what programs show the relay."""

import sys
import time
from pathlib import Path
from typing import Final

import click

from mep_cloud.auth import SECRET_PREFIX, USER_PREFIX, digest, new_token, provider_of
from mep_cloud.cli.common import data_option, in_home, json_option, show
from mep_cloud.cli.users import check_fields, find_user
from mep_cloud.ids import new_id
from mep_cloud.store import Store
from mep_cloud.store.records import User

MAX_DAYS: Final = 36_500


@click.group()
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
    if expires_days is not None and not expires_days <= MAX_DAYS:
        raise click.BadParameter(f"from 0 to {MAX_DAYS} days.", param_hint="--expires-days")
    now = time.time()
    expires = None if expires_days is None else now + expires_days * 86400
    secret = new_token(USER_PREFIX)

    async def create(store: Store) -> User:
        person = await find_user(store, username)
        await store.users.add_token(
            digest(secret), user_id=person.id, label=label, created=now, expires=expires
        )
        return person

    person = in_home(data, create)
    show({"token": secret, "username": person.username, "expires": expires}, secret, as_json)


@token.command("revoke")
@data_option
@json_option
def token_revoke(data: Path, as_json: bool) -> None:
    """Revoke the token read from standard input; a serving relay forgets it within a minute."""
    secret = sys.stdin.readline().strip()

    async def revoke(store: Store) -> bool:
        return await store.sessions.revoke(digest(secret), links=True) is not None

    if not in_home(data, revoke):
        raise click.ClickException("The relay knows no such token. Is it whole, and of this relay?")
    show({"revoked": True}, "revoked", as_json)


@click.group()
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
        check_fields(username, name)
        made = User(client_id, username, name, "", "", admin, time.time())
        await store.users.add(made, digest(secret))
        return made

    made = in_home(data, create)
    show(
        {"client_id": made.id, "client_secret": secret, "username": made.username},
        f"client id {made.id}\nclient secret {secret}",
        as_json,
    )


@client.command("secret")
@click.argument("client_id")
@data_option
@json_option
def client_secret(client_id: str, data: Path, as_json: bool) -> None:
    """Give the service client CLIENT_ID a new secret and print it, once.

    The old one ends at once, and tokens that it got within a minute.
    """
    secret = new_token(SECRET_PREFIX)

    async def put(store: Store) -> None:
        if await store.users.client(client_id) is None:
            raise click.ClickException(
                f"There is no service client {client_id}. `mep-relay user list` shows their ids."
            )
        await store.sessions.revoke_all(client_id, digest(secret))

    in_home(data, put)
    shown = {"client_id": client_id, "client_secret": secret}
    show(shown, f"client secret {secret}", as_json)
