"""Who the user is to the relay: arguments, environment, or the stored login.

``MEP_RELAY_URL``, ``MEP_TOKEN`` and ``MEP_CA_FILE`` beat the stored login; so do the id and
secret of a service client, ``MEP_CLIENT_ID`` and ``MEP_CLIENT_SECRET``, or as Globus Compute's SDK
calls them ``GLOBUS_COMPUTE_CLIENT_*`` or ``FUNCX_SDK_CLIENT_*``. The stored login is a JSON object
in ``$XDG_CONFIG_HOME/mep/credentials.json`` that only its owner can read. A stored token is sent to
no other relay than the one it was stored for.
"""

import ipaddress
import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mep_sdk.errors import CredentialsError, NotLoggedIn

CLIENTS: Final = ("MEP_CLIENT", "GLOBUS_COMPUTE_CLIENT", "FUNCX_SDK_CLIENT")
"""Prefixes of the variables with a service client's id and secret; the first that is set counts."""

_REMEDY = "run `mep login`, or set MEP_RELAY_URL and MEP_TOKEN"


@dataclass(frozen=True)
class Credentials:
    """A relay, and a bearer token that it knows."""

    relay_url: str
    """``https://host[:port]``, no trailing slash; ``http://`` on loopback."""
    token: str = field(repr=False)
    ca_file: str | None = None
    """CA certificates to trust besides the system's."""
    client_id: str = ""
    """Of a service client; its tokens are fetched when they are needed."""
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    """Of a person's login: gets the next token."""
    expires: float = 0.0
    """Epoch seconds at which `token` expires, where it can be renewed."""
    login: str = ""
    """Names a person's login, whose tokens change."""
    authorizer: Callable[[], str] | None = field(default=None, repr=False)
    """The caller's own: asked for a token before each request, `token` is empty then."""

    @property
    def is_lasting(self) -> bool:
        """Whether the token is never renewed."""
        return not (self.client_id or self.refresh_token or self.authorizer)

    @property
    def person(self) -> tuple[object, ...]:
        """The same for all tokens of one login."""
        if self.authorizer is not None:
            return (self.relay_url, self.ca_file or "", self.authorizer)
        who = (
            (self.client_id, self.client_secret) if self.client_id else (self.login or self.token,)
        )
        return (self.relay_url, self.ca_file or "", *who)


def path() -> Path:
    """Where the login is stored."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "mep" / "credentials.json"


def find(
    relay_url: str | None = None, token: str | None = None, ca_file: str | None = None
) -> Credentials:
    """The credentials to use: arguments first, then the environment, then the stored login.

    Raises:
        NotLoggedIn: none are to be found.
        CredentialsError: what was found, or the relay's URL, cannot be used.
    """
    relay_url = relay_url or os.environ.get("MEP_RELAY_URL")
    token = token or os.environ.get("MEP_TOKEN")
    ca_file = ca_file or os.environ.get("MEP_CA_FILE")
    if relay_url and token:
        return Credentials(usable_url(relay_url), token, ca_file)
    pair = None if token else _client()
    if pair and relay_url:
        return Credentials(usable_url(relay_url), "", ca_file, *pair)
    stored = load()
    if stored is None:
        missing = "no relay is known" if token or pair else "you are not logged in"
        raise NotLoggedIn(f"{missing}; {_REMEDY}")
    if relay_url and usable_url(relay_url) != stored.relay_url:
        raise NotLoggedIn(
            f"the stored login is for {stored.relay_url}, not for {relay_url}; {_REMEDY}"
        )
    ca_file = ca_file or stored.ca_file
    if pair:
        return Credentials(stored.relay_url, "", ca_file, *pair)
    if token:
        return Credentials(stored.relay_url, token, ca_file)
    return replace(stored, ca_file=ca_file)


def find_relay(relay_url: str | None, ca_file: str | None) -> tuple[str, str | None]:
    """The relay whose credentials come another way, and its CA certificates.

    Raises:
        NotLoggedIn: no relay is known.
        CredentialsError: its URL cannot be used.
    """
    relay_url = relay_url or os.environ.get("MEP_RELAY_URL")
    ca_file = ca_file or os.environ.get("MEP_CA_FILE")
    if not relay_url and (stored := load()) is not None:
        relay_url, ca_file = stored.relay_url, ca_file or stored.ca_file
    if not relay_url:
        raise NotLoggedIn("no relay is known; pass relay_url=, or set MEP_RELAY_URL")
    return usable_url(relay_url), ca_file


def _client() -> tuple[str, str] | None:
    """A service client's id and secret from the environment.

    Raises:
        CredentialsError: one is there without the other.
    """
    for prefix in CLIENTS:
        client_id = os.environ.get(f"{prefix}_ID")
        secret = os.environ.get(f"{prefix}_SECRET")
        if client_id and secret:
            return client_id, secret
        if client_id or secret:
            there, missing = ("ID", "SECRET") if client_id else ("SECRET", "ID")
            raise CredentialsError(
                f"{prefix}_{there} is set and {prefix}_{missing} is not; set both, or neither"
            )
    return None


def load() -> Credentials | None:
    """The stored login, or None.

    Raises:
        CredentialsError: others can read the file, it is not yours, or it is no login.
    """
    where = path()
    try:
        with where.open("rb") as file:
            _must_be_private(where, os.fstat(file.fileno()))
            raw = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{where} cannot be read: {error}; {_REMEDY}") from error
    try:
        return Credentials(
            usable_url(str(raw["relay_url"])),
            str(raw["token"]),
            raw.get("ca_file"),
            refresh_token=str(raw.get("refresh_token", "")),
            expires=float(raw.get("expires", 0.0)),
            login=str(raw.get("login", "")),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CredentialsError(f"{where} holds no login; {_REMEDY}") from error


_STORED: Final = ("relay_url", "token", "ca_file", "refresh_token", "expires", "login")


def store(credentials: Credentials) -> Path:
    """Store a login for later processes, readable by its owner alone; returns where."""
    usable_url(credentials.relay_url)
    where = path()
    where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file 0600; replacing is atomic, and leaves no older, wider mode behind.
    fd, fresh = tempfile.mkstemp(prefix=".credentials-", dir=where.parent)
    try:
        with os.fdopen(fd, "w") as file:
            kept = {k: v for k, v in asdict(credentials).items() if k in _STORED}
            json.dump(kept, file)
        Path(fresh).replace(where)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    return where


def forget() -> bool:
    """Remove the stored login; False where there was none."""
    try:
        path().unlink()
    except FileNotFoundError:
        return False
    return True


def usable_url(url: str) -> str:
    """The relay's URL, normalized.

    Raises:
        CredentialsError: not an HTTP URL, or one that would send the token in the clear
            (``MEP_INSECURE_HTTP=1`` allows that).
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CredentialsError(f"{url!r} is no relay URL; it begins with https:// and names a host")
    in_the_clear = parts.scheme == "http" and not _is_loopback(parts.hostname)
    if in_the_clear and os.environ.get("MEP_INSECURE_HTTP") != "1":
        raise CredentialsError(
            f"{url} would send your token unencrypted; use https://, or set MEP_INSECURE_HTTP=1 "
            "if this network is trusted"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _must_be_private(where: Path, status: os.stat_result) -> None:
    if os.name != "posix":
        return
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise CredentialsError(
            f"{where} can be read by others; run `chmod 600 {where}`, and consider its token known"
        )
    if status.st_uid != os.geteuid():
        raise CredentialsError(f"{where} belongs to somebody else; {_REMEDY}")
