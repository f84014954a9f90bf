"""``mep login``, ``mep logout``, ``mep whoami``: a token stored for scripts."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mep.cli import tokens
from mep.cli.errors import CliError
from mep.cli.relay import Relay
from mep.link import Peer


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
def login(relay_url: str, ca_file: Path | None, token_file: str | None) -> None:
    """Store a token of yours, so that scripts on this machine need none.

    The relay is asked whether the token is good before it is stored, in
    ~/.config/mep/credentials.json, which only you can read.

    \b
    Examples:
      mep login --relay-url https://relay.example.org:8443
      mep login --relay-url https://relay.example.org:8443 --token-file token.txt
    """
    from mep_sdk import auth

    with _sentences():
        url = auth.usable_url(relay_url)
    token = tokens.needed(token_file, "your token")
    ca = str(ca_file.resolve()) if ca_file else None
    answer = Relay(Peer(url, ca), token).whoami()
    with _sentences():
        where = auth.store(auth.Credentials(url, token, ca))
    print(f"logged in to {url} as {_name(answer)}; stored in {where}")


@click.command
def logout() -> None:
    """Remove the stored token from this machine.

    The token stays valid at the relay until it expires or is revoked there.
    """
    from mep_sdk import auth

    print("logged out" if auth.forget() else "you were not logged in")


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print the relay's answer, a JSON object.")
def whoami(as_json: bool) -> None:
    """Show who you are to the relay: the identities that endpoints see.

    Uses MEP_RELAY_URL and MEP_TOKEN, else what `mep login` stored.
    """
    from mep_sdk import auth

    with _sentences():
        found = auth.find()
    answer = Relay(Peer(found.relay_url, found.ca_file), found.token).whoami()
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    print(f"{_name(answer)} at {found.relay_url}")
    for identity in answer.get("identity_set", []):
        print(f"  {identity.get('id', '?')}  {identity.get('username', '')}")


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """The SDK's sentences about credentials are fit for whoever typed the command."""
    from mep_sdk.errors import CredentialsError

    try:
        yield
    except CredentialsError as error:
        raise CliError(str(error)) from error


def _name(answer: dict[str, Any]) -> str:
    name = answer.get("preferred_username")
    if not isinstance(name, str):
        raise CliError("the relay does not say who you are; is it a relay of this version?")
    return name
