"""Who the user is to the relay: arguments, environment, or the stored login.

``MEP_RELAY_URL``, ``MEP_TOKEN`` and ``MEP_CA_FILE`` beat the stored login, a JSON object in
``$XDG_CONFIG_HOME/mep/credentials.json`` that only its owner can read. A stored token is sent to
no other relay than the one it was stored for.
"""

import ipaddress
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mep_sdk.errors import CredentialsError

_REMEDY = "run `mep login`, or set MEP_RELAY_URL and MEP_TOKEN"


@dataclass(frozen=True)
class Credentials:
    """A relay, and a bearer token that it knows."""

    relay_url: str
    """``https://host[:port]``, no trailing slash; ``http://`` on loopback."""
    token: str = field(repr=False)
    ca_file: str | None = None
    """CA certificates to trust besides the system's."""


def path() -> Path:
    """Where the login is stored."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "mep" / "credentials.json"


def find(
    relay_url: str | None = None, token: str | None = None, ca_file: str | None = None
) -> Credentials:
    """The credentials to use: arguments first, then the environment, then the stored login.

    Raises:
        CredentialsError: none are to be found, or the relay's URL cannot be used.
    """
    relay_url = relay_url or os.environ.get("MEP_RELAY_URL")
    token = token or os.environ.get("MEP_TOKEN")
    ca_file = ca_file or os.environ.get("MEP_CA_FILE")
    if relay_url and token:
        return Credentials(usable_url(relay_url), token, ca_file)
    stored = load()
    if stored is None:
        missing = "no relay is known" if token else "you are not logged in"
        raise CredentialsError(f"{missing}; {_REMEDY}")
    if relay_url and usable_url(relay_url) != stored.relay_url:
        raise CredentialsError(
            f"the stored login is for {stored.relay_url}, not for {relay_url}; {_REMEDY}"
        )
    return Credentials(stored.relay_url, token or stored.token, ca_file or stored.ca_file)


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
        return Credentials(usable_url(str(raw["relay_url"])), str(raw["token"]), raw.get("ca_file"))
    except (TypeError, KeyError, AttributeError) as error:
        raise CredentialsError(f"{where} holds no login; {_REMEDY}") from error


def store(credentials: Credentials) -> Path:
    """Store a login for later processes, readable by its owner alone; returns where."""
    usable_url(credentials.relay_url)
    where = path()
    where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file 0600; replacing is atomic, and leaves no older, wider mode behind.
    fd, fresh = tempfile.mkstemp(prefix=".credentials-", dir=where.parent)
    try:
        with os.fdopen(fd, "w") as file:
            json.dump(asdict(credentials), file)
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
