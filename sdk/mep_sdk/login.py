"""Ways to be logged in besides what is found: a browser, the caller's authorizer or login manager.

======================  =======================================================================
`authorizer`            a token; a function that returns one; or an object whose
                        ``get_authorization_header()`` returns ``Bearer ...``, as those of
                        globus_sdk. Asked before each request.
`login_manager`         an object with the methods of :class:`LoginManager`
======================  =======================================================================
"""

import sys
from collections.abc import Callable
from typing import Any, Protocol

from mep_sdk import auth
from mep_sdk.auth import Credentials
from mep_sdk.errors import CredentialsError, MEPError, NotLoggedIn, RelayUnreachable


class LoginManager(Protocol):
    """Whoever looks after a login for its caller: the protocol of Globus Compute's SDK."""

    def ensure_logged_in(self) -> None:
        """Log in, where that has not been done."""

    def logout(self) -> bool:
        """Forget the login; False where there was none."""

    def get_auth_client(self) -> Any:
        """The client of the identity provider; for the caller's own use."""

    def get_web_client(self, *, base_url: str) -> Any:
        """An object whose `authorizer` (see above) is good for the relay at `base_url`."""


def chosen(
    relay_url: str | None,
    token: str | None,
    ca_file: str | None,
    *,
    force: bool,
    authorizer: object | None,
    login_manager: LoginManager | None,
) -> Credentials:
    """Credentials of the way that the caller has chosen; by default, of :func:`find`.

    Raises:
        TypeError: more than one way.
        and as :func:`find`, :func:`authorized` and :func:`managed`.
    """
    if len([each for each in (token, authorizer, login_manager) if each is not None]) > 1:
        raise TypeError("give one of token, authorizer and login_manager")
    if login_manager is not None:
        return managed(relay_url, ca_file, login_manager)
    if authorizer is not None:
        return authorized(relay_url, ca_file, authorizer)
    return find(relay_url, token, ca_file, force=force)


def find(
    relay_url: str | None = None,
    token: str | None = None,
    ca_file: str | None = None,
    *,
    force: bool = False,
) -> Credentials:
    """As :func:`mep_sdk.auth.find`; on a terminal, a login is begun where there is none.

    Args:
        relay_url: as there.
        token: as there.
        ca_file: as there.
        force: begin one in any case.

    Raises:
        NotLoggedIn: there is none, and no terminal either.
        CredentialsError: it was refused, or what was found cannot be used.
        RelayUnreachable: no answer.
    """
    try:
        if not force:
            return auth.find(relay_url, token, ca_file)
        if token:
            raise ValueError("force_login=True asks for a new login; give no token besides")
        why = "a login was asked for"
    except NotLoggedIn as error:
        if not on_a_terminal():
            raise
        why = error.message
    url, ca_file = auth.find_relay(relay_url, ca_file)
    if not on_a_terminal():
        raise NotLoggedIn(f"{why}, and there is no terminal; run `mep login --relay-url {url}`")
    found = by_device(url, ca_file, lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    auth.store(found)
    return found


def on_a_terminal() -> bool:
    """Whether somebody is there to follow a login."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def by_device(url: str, ca_file: str | None, say: Callable[[str], None]) -> Credentials:
    """A login that is approved in a browser, anywhere; not stored yet.

    Raises:
        CredentialsError: refused, or nobody approved it in time.
        RelayUnreachable: no answer.
    """
    from mep_sdk import oauth

    begun = oauth.begin(url, ca_file)
    say(f"Open  {begun.verification_uri_complete}")
    say(f"and approve the code  {begun.user_code}")
    return oauth.wait(begun, url, ca_file)


def leave() -> bool:
    """Forget the stored login and end it at the relay; False where there was none.

    Raises:
        CredentialsError: what is stored cannot be read.
        RelayUnreachable: it is forgotten here, and may be good at the relay still.
    """
    from mep_sdk import oauth

    stored = auth.load()
    try:
        if stored is not None and stored.refresh_token:
            oauth.revoke(stored)
    except RelayUnreachable as error:
        raise RelayUnreachable(
            f"the login is removed here, but may be good at the relay still: {error.message}"
        ) from error
    finally:
        auth.forget()
    return stored is not None


def authorized(relay_url: str | None, ca_file: str | None, authorizer: object) -> Credentials:
    """Credentials of the caller's own authorizer.

    Raises:
        TypeError: it is none.
        NotLoggedIn: no relay is known.
    """
    url, ca_file = auth.find_relay(relay_url, ca_file)
    if isinstance(authorizer, str):
        return Credentials(url, authorizer, ca_file)
    header = getattr(authorizer, "get_authorization_header", None)
    ask = header if callable(header) else authorizer
    if not callable(ask):
        raise TypeError(
            "an authorizer is a token, a function that returns one, or an object with "
            f"get_authorization_header(); this is a {type(authorizer).__name__}"
        )

    def token() -> str:
        try:
            said = ask()
        except MEPError:
            raise
        except Exception as error:
            raise CredentialsError(f"the authorizer gives no token: {error!r}") from error
        if not isinstance(said, str) or not said.isprintable() or not said.isascii():
            raise CredentialsError("the authorizer gives no token: text of one line is expected")
        return said.removeprefix("Bearer ").strip()

    return Credentials(url, "", ca_file, authorizer=token)


def managed(relay_url: str | None, ca_file: str | None, manager: LoginManager) -> Credentials:
    """Credentials of the caller's own login manager, which logs in where it must.

    Raises:
        TypeError: its web client has no authorizer.
        NotLoggedIn: no relay is known.
    """
    url, ca_file = auth.find_relay(relay_url, ca_file)
    manager.ensure_logged_in()
    web_client = manager.get_web_client(base_url=url)
    return authorized(url, ca_file, getattr(web_client, "authorizer", web_client))
