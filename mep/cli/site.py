"""Every path of an endpoint.

As root, an endpoint is a multi-user site below ``/etc``, ``/var`` and ``/run`` (``MEP_PREFIX``, for
tests and demonstrations, stands before all of them). For anyone else it is a single-user endpoint
in the XDG directories.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mep.cli.errors import CliError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUN_PATH: Final = 107
"""Bytes of a Unix socket's path, see unix(7)."""


@dataclass(frozen=True)
class Site:
    """One endpoint's name and places."""

    name: str
    privileged: bool
    """Whether it is root's: people are mapped to accounts."""
    etc: Path
    state: Path
    run: Path
    log: Path
    warden_state: Path
    warden_run: Path
    warden_log: Path

    @property
    def warden_socket(self) -> Path:
        """Where the manager asks the warden."""
        return self.warden_run / "warden.sock"

    @property
    def events_socket(self) -> Path:
        """Where users' processes report."""
        return self.run / "events.sock"

    @property
    def status_file(self) -> Path:
        """What the manager says of itself."""
        return self.run / "status.json"

    @property
    def audit_file(self) -> Path:
        """The warden's decisions."""
        return self.warden_log / "audit.log"

    @property
    def detached_log(self) -> Path:
        """Output of ``mep start --detach``."""
        return self.warden_log / "mep.log"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor while it lives."""
        return self.warden_run / "supervisor.lock"

    @property
    def processes_file(self) -> Path:
        """Names the supervisor's processes; in a directory that only the warden's owner writes."""
        return self.warden_run / "supervisor.json"

    def file(self, name: str) -> Path:
        """One of the files in :attr:`etc`."""
        return self.etc / name

    @property
    def configured(self) -> bool:
        """Whether ``mep configure`` has been run."""
        return self.file("config.yaml").exists()


def site(name: str, environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Site:
    """The endpoint `name` of whoever asks.

    Raises:
        CliError: the name cannot be used, or makes a path too long.
    """
    check_name(name)
    if (os.geteuid() if uid is None else uid) == 0:
        made = _root_site(name, environ)
    else:
        made = _own_site(name, environ)
    for path in (made.warden_socket, made.events_socket):
        if len(os.fsencode(path)) > _SUN_PATH:
            raise CliError(
                f"{path} is too long for a socket ({_SUN_PATH} bytes); use a shorter endpoint "
                "name or a shorter XDG_STATE_HOME"
            )
    return made


def configured_site(name: str) -> Site:
    """An endpoint that exists.

    Raises:
        CliError: it does not.
    """
    made = site(name)
    if not made.configured:
        raise CliError(
            f"there is no endpoint {name!r} here ({made.etc} has no config.yaml); make it with "
            f"`mep configure {name}`, or see `mep list`"
        )
    return made


def sites() -> list[Site]:
    """All endpoints of whoever asks, by name."""
    parent = site("x").etc.parent
    if not parent.is_dir():
        return []
    names = sorted(entry.name for entry in parent.iterdir() if _NAME.fullmatch(entry.name))
    return [made for made in map(site, names) if made.configured]


def check_name(name: str) -> None:
    """Whether `name` can be a directory, a unit's instance and a path of a socket.

    Raises:
        CliError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise CliError(
            f"{name!r} cannot be an endpoint's name: letters, digits, '.', '_' and '-', at most "
            "64, beginning with a letter or digit"
        )


def _root_site(name: str, environ: Mapping[str, str]) -> Site:
    prefix = Path(environ.get("MEP_PREFIX") or "/")
    if not prefix.is_absolute():
        raise CliError(f"MEP_PREFIX must be an absolute path, not {str(prefix)!r}")
    prefix = prefix.resolve()  # the warden follows no symbolic link
    return Site(
        name,
        privileged=True,
        etc=prefix / "etc/mep" / name,
        state=prefix / "var/lib/mep" / name,
        run=prefix / "run/mep" / name,
        log=prefix / "var/log/mep" / name,
        warden_state=prefix / "var/lib/mep-warden" / name,
        warden_run=prefix / "run/mep-warden" / name,
        warden_log=prefix / "var/log/mep-warden" / name,
    )


def _own_site(name: str, environ: Mapping[str, str]) -> Site:
    state = _xdg(environ, "XDG_STATE_HOME", ".local/state") / "mep" / name
    return Site(
        name,
        privileged=False,
        etc=_xdg(environ, "XDG_CONFIG_HOME", ".config") / "mep" / name,
        state=state,
        run=state / "run",
        log=state / "log",
        warden_state=state / "warden",
        warden_run=state / "run",
        warden_log=state / "log",
    )


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """As the XDG base directory specification says: a relative path is ignored."""
    said = Path(environ.get(variable) or "")
    return (said if said.is_absolute() else Path.home() / default).resolve()
