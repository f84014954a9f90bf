"""``mep login``, ``mep logout``, ``mep whoami``: a login stored for scripts."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mep.cli import tokens
from mep.cli.errors import CliError
from mep.cli.relay import Relay
from mep.link import Peer

if TYPE_CHECKING:
    from mep_sdk import Client

PATIENCE_S: Final = 10.0
"""How long a relay that does not answer is tried again: somebody sits and waits."""


@click.command
@click.option("--relay-url", metavar="URL", envvar="MEP_RELAY_URL", required=True, show_envvar=True)
@click.option(
    "--ca-file",
    metavar="FILE",
    envvar="MEP_CA_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CA certificates to trust for the relay, besides the system's.",
)
@tokens.option
@click.option("--token", "by_token", is_flag=True, help="Ask for a token, use no browser.")
def login(relay_url: str, ca_file: Path | None, token_file: str | None, by_token: bool) -> None:
    """Log in, so that scripts on this machine need no token.

    On a terminal an address and a code are shown: open it in a browser, anywhere, and approve the
    code. A token that is given is checked at the relay, and used instead. What is stored, in
    ~/.config/mep/credentials.json, only you can read.

    \b
    Examples:
      mep login --relay-url https://relay.example.org:8443
      mep login --relay-url https://relay.example.org:8443 --token-file token.txt
    """
    from mep_sdk import auth

    with sentences():
        url = auth.usable_url(relay_url)
    ca = str(ca_file.resolve()) if ca_file else None
    token = tokens.given(token_file)
    if token is None and sys.stdin.isatty() and not by_token:
        from mep_sdk import login as logins

        with sentences():
            found = logins.by_device(url, ca, lambda line: print(line, flush=True))
    else:
        token = token or tokens.needed(token_file, "your token")
        found = auth.Credentials(url, token, ca)
    answer = Relay(Peer(url, ca), found.token).whoami()
    with sentences():
        where = auth.store(found)
    print(f"logged in to {url} as {_name(answer)}; stored in {where}")


@click.command
def logout() -> None:
    """Log out: remove what is stored on this machine, and end the login at the relay.

    A token that was given to `mep login` stays valid until it expires or is revoked there.
    """
    from mep_sdk import login as logins

    with sentences():
        print("logged out" if logins.leave() else "you were not logged in")


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print the relay's answer, a JSON object.")
def whoami(as_json: bool) -> None:
    """Show who you are to the relay: the identities that endpoints see.

    Uses MEP_RELAY_URL and MEP_TOKEN, else what `mep login` stored.
    """
    relay = logged_in()
    answer = relay.whoami()
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    print(f"{_name(answer)} at {relay.url}")
    for identity in answer.get("identity_set", []):
        print(f"  {identity.get('id', '?')}  {identity.get('username', '')}")


def logged_in() -> Relay:
    """The relay, as whoever is logged in.

    Raises:
        CliError: nobody is.
    """
    from mep_sdk import auth, bearer

    with sentences():
        found = auth.find()
        token = bearer.of(found).token()
    return Relay(Peer(found.relay_url, found.ca_file), token)


@contextlib.contextmanager
def sdk_client() -> Iterator["Client"]:
    """A client of whoever is logged in; what the SDK says against it ends the command.

    Raises:
        CliError: nobody is logged in, or the relay refuses or does not answer.
    """
    from mep_sdk import Client, MEPError

    try:
        client = Client(patience_s=PATIENCE_S)
        try:
            yield client
        finally:
            client.close()
    except MEPError as error:
        raise CliError(str(error)) from error


def token_for(relay_url: str) -> str | None:
    """A token of whoever is logged in at this relay: the service client of the environment, else
    the stored login; None where nobody is.

    Raises:
        CliError: the login cannot be used.
    """
    from mep_sdk import auth, bearer
    from mep_sdk.errors import NotLoggedIn

    with sentences():
        try:
            return bearer.of(auth.find(relay_url)).token()
        except NotLoggedIn:
            return None


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """The SDK's sentences about credentials are fit for whoever typed the command."""
    from mep_sdk.errors import CredentialsError, RelayUnreachable

    try:
        yield
    except (CredentialsError, RelayUnreachable) as error:
        raise CliError(str(error)) from error


def _name(answer: dict[str, Any]) -> str:
    name = answer.get("preferred_username")
    if not isinstance(name, str):
        raise CliError("the relay does not say who you are; is it a relay of this version?")
    return name
