"""``mep-relay user``: the relay's own people, and what is said here of others."""

import secrets
import sys
import time
from pathlib import Path

import click

from mep_cloud import passwords
from mep_cloud.auth import provider_of
from mep_cloud.cli.common import data_option, in_home, json_option, show
from mep_cloud.ids import new_id
from mep_cloud.store import Store
from mep_cloud.store.records import User


@click.group()
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
        check_fields(username, display_name, email, organization)
        person = User(new_id(), username, display_name, email, organization, admin, time.time())
        await store.users.add(person)
        return person

    added = in_home(data, add)
    show(
        {"id": added.id, "username": added.username, "is_admin": added.is_admin},
        f"user {added.username}\nidentity {added.id}",
        as_json,
    )


@user.command("admin")
@click.argument("username")
@data_option
@click.option("--off", is_flag=True, help="No more.")
@json_option
def user_admin(username: str, data: Path, off: bool, as_json: bool) -> None:
    """Let USERNAME register multi-user endpoints and administer the relay.

    Somebody of another identity provider is known once they have signed in. A serving relay
    notices within a minute.
    """

    async def put(store: Store) -> User:
        person = await find_user(store, username)
        await store.users.make_admin(person.id, admin=not off)
        return person

    person = in_home(data, put)
    text = f"{person.username} is {'no ' if off else 'an '}administrator"
    show({"username": person.username, "is_admin": not off}, text, as_json)


@user.command("rename")
@click.argument("username")
@click.argument("new")
@data_option
@json_option
def user_rename(username: str, new: str, data: Path, as_json: bool) -> None:
    """Call USERNAME by the name NEW, as when somebody else has that name now.

    What they have stays theirs; sites map them by the new name. Somebody whose identity provider
    still tells the old name gets it back when they come again, unless it is taken by then.
    """

    async def put(store: Store) -> User:
        person = await find_user(store, username)
        check_fields(new)
        await store.users.rename(person.id, new)
        return person

    person = in_home(data, put)
    show({"id": person.id, "username": new}, f"{person.username} is now {new}", as_json)


@user.command("list")
@data_option
@json_option
def user_list(data: Path, as_json: bool) -> None:
    """Show everybody: the relay's own users and service clients, and whoever came from elsewhere.

    `mep-relay provider list` tells who is behind the id of a provider.
    """

    async def get(store: Store) -> list[User]:
        return await store.users.every()

    found = in_home(data, get)
    rows = [
        {
            "id": each.id,
            "username": each.username,
            "is_admin": each.is_admin,
            "provider": each.provider,
        }
        for each in found
    ]
    lines = [
        f"{each.id}  {'admin' if each.is_admin else '-':5}  {each.provider or '-':36}  "
        f"{each.username}"
        for each in found
    ]
    show({"users": rows}, "\n".join(lines), as_json)


@user.command("password")
@click.argument("username")
@data_option
@json_option
def user_password(username: str, data: Path, as_json: bool) -> None:
    """Set the password with which USERNAME signs in on the relay's page.

    It is asked for on a terminal, else read from standard input (one line).
    """
    password = _new_password()

    async def put(store: Store) -> User:
        person = await find_user(store, username)
        if person.provider is not None:
            raise click.ClickException(
                f"{person.username} signs in with another identity provider, which keeps the "
                "password."
            )
        await store.logins.set_password(person.id, passwords.hashed(password), time.time())
        return person

    person = in_home(data, put)
    show({"username": person.username}, f"password of {person.username} set", as_json)


@user.command("revoke")
@click.argument("username")
@data_option
@json_option
def user_revoke(username: str, data: Path, as_json: bool) -> None:
    """End whatever speaks for USERNAME: tokens, logins, the password, a service client's secret.

    For somebody who leaves, or whose laptop was stolen. A serving relay notices within a minute.
    Tasks go on and functions stay. They come back with a new token, password or `mep-relay client
    secret`; by the word of another identity provider, as soon as that lets them in.
    """

    async def end(store: Store) -> User:
        person = await find_user(store, username)
        await store.sessions.revoke_all(person.id, secrets.token_bytes(32))
        return person

    person = in_home(data, end)
    shown = {"id": person.id, "username": person.username}
    show(shown, f"nothing speaks for {person.username} any more", as_json)


def _new_password() -> str:
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not passwords.SHORTEST <= len(password) <= passwords.LONGEST:
        raise click.ClickException(
            f"A password has {passwords.SHORTEST} to {passwords.LONGEST} characters."
        )
    return str(password)


def check_fields(*fields: str) -> None:
    """Refuse what no identity record can hold; the first is the user name.

    Raises:
        click.ClickException: with what is wrong.
    """
    for field in fields:
        if not field.isprintable() or len(field.encode()) > 1024:
            raise click.ClickException("A field of an identity has at most 1024 printable bytes.")
    if not 0 < fields[0].find("@") < len(fields[0]) - 1 or " " in fields[0]:
        raise click.ClickException("A user name is NAME or NAME@DOMAIN, without blanks.")


async def find_user(store: Store, name: str) -> User:
    """The user NAME or NAME@DOMAIN.

    Raises:
        click.ClickException: there is none.
    """
    username = name if "@" in name else f"{name}@{(await provider_of(store)).domain}"
    found = await store.users.by_username(username)
    if found is None:
        raise click.ClickException(
            f"There is no user {username}. Add it with `mep-relay user add`."
        )
    return found
