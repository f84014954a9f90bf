"""Warden and manager as commands: argv and environment; and which process is which."""

import os
import select
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

import mep
from mep.cli.errors import CliError
from mep.cli.files import read_foreign, replace
from mep.cli.site import Site

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OWNERS: Final = ("HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TMPDIR")


class Process(msgspec.Struct, frozen=True):
    """One process for good: a pid is used again, together with the start time it is not."""

    pid: int
    start_time: int
    """Clock ticks since boot."""


class Processes(msgspec.Struct, frozen=True):
    """``supervisor.json``."""

    supervisor: Process
    warden: Process | None = None
    manager: Process | None = None


def warden_command(place: Site, listener: int) -> list[str]:
    """Argv of the warden: nothing on its path but the standard library and itself.

    `listener` is the descriptor of its socket, which is passed.
    """
    main = Path(mep.__file__).parent / "root" / "__main__.py"
    return [
        *(sys.executable, "-I", "-S", str(main), str(place.etc), str(place.warden_state)),
        *(str(place.audit_file), str(place.events_socket), str(listener)),
    ]


def manager_command(place: Site) -> list[str]:
    """Argv of the manager."""
    return [
        *(sys.executable, "-I", "-m", "mep.manager"),
        *("--config", str(place.etc)),
        *("--state", str(place.state)),
        *("--run", str(place.run)),
        *("--log", str(place.log)),
        *("--warden", str(place.warden_socket)),
    ]


def warden_environment(place: Site, environ: Mapping[str, str]) -> dict[str, str]:
    """What the warden sees of the environment of whoever typed ``mep start``: next to nothing."""
    kept = {} if place.privileged else _kept(environ, _OWNERS)
    return {"PATH": _PATH, "LANG": "C.UTF-8", **kept}


def manager_environment(place: Site, environ: Mapping[str, str], notify: str) -> dict[str, str]:
    """What the manager sees: besides, how to get out to the relay, and where to say it is ready."""
    proxies = [*_PROXIES, *(name.upper() for name in _PROXIES)]
    out = _kept(environ, (*proxies, *_CERTIFICATES))
    return {**warden_environment(place, environ), **out, "NOTIFY_SOCKET": notify}


def supervisor_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a detached supervisor sees: what its children may, and where the endpoint is."""
    proxies = [*_PROXIES, *(name.upper() for name in _PROXIES)]
    names = (*_OWNERS, *proxies, *_CERTIFICATES, "MEP_PREFIX")
    return {"PATH": _PATH, "LANG": "C.UTF-8", **_kept(environ, names)}


def this_process() -> Process:
    """Whoever asks."""
    return process(os.getpid())


def process(pid: int) -> Process:
    """The process that has this pid now.

    Raises:
        ProcessLookupError: none has.
    """
    try:
        stat = Path("/proc", str(pid), "stat").read_bytes()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    return Process(pid, int(stat.rpartition(b")")[2].split()[19]))


def is_alive(known: Process | None) -> bool:
    """Whether the process still runs."""
    if known is None:
        return False
    try:
        with Handle(known):
            return True
    except ProcessLookupError:
        return False


class Handle:
    """A running process that cannot be mistaken for a later one of the same pid.

    Raises:
        ProcessLookupError: it does not run any more.
    """

    def __init__(self, known: Process) -> None:
        self.descriptor = os.pidfd_open(known.pid)
        try:
            same = process(known.pid) == known
        except ProcessLookupError:
            same = False
        if not same or self.ended(0):
            os.close(self.descriptor)
            raise ProcessLookupError(known.pid)

    def __enter__(self) -> "Handle":
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        os.close(self.descriptor)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal.

        Raises:
            ProcessLookupError: it ended meanwhile.
        """
        signal.pidfd_send_signal(self.descriptor, number)

    def ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def write_processes(place: Site, processes: Processes) -> None:
    """Replace ``supervisor.json``."""
    replace(place.processes_file, msgspec.json.encode(processes), 0o644)


def read_processes(place: Site) -> Processes | None:
    """``supervisor.json``, or None where nothing was started by ``mep start``.

    Raises:
        CliError: the file is damaged.
    """
    raw = read_foreign(place.processes_file)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Processes)
    except msgspec.DecodeError as error:
        raise CliError(f"{place.processes_file} is damaged ({error}); remove it") from error


def _kept(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: environ[name] for name in names if name in environ}
