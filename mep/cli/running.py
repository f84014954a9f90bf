"""Whether an endpoint runs, and who runs it."""

from dataclasses import dataclass

import msgspec

from mep.cli.errors import CliError
from mep.cli.files import read_foreign
from mep.cli.processes import (
    Handle,
    Process,
    Processes,
    is_alive,
    read_processes,
)
from mep.cli.site import Site
from mep.manager.status import Status

FAREWELL_S = 10.0


@dataclass(frozen=True)
class State:
    """What is known of an endpoint at one moment."""

    processes: Processes | None
    """Of a living `mep start`."""
    status: Status | None
    """The manager's own, while it lives."""

    @property
    def running(self) -> bool:
        """Whether anything runs it: `mep start` or systemd."""
        return self.processes is not None or self.status is not None


def state(place: Site) -> State:
    """The state now.

    Raises:
        CliError: a file of state is damaged.
    """
    processes = read_processes(place)
    if processes is not None and not is_alive(processes.supervisor):
        processes = None
    status = _status(place)
    if status is not None and not is_alive(_manager(status)):
        status = None
    return State(processes, status)


def refuse_second(place: Site) -> None:
    """An endpoint is run once.

    Raises:
        CliError: it runs already.
    """
    _await_orphans(place)
    now = state(place)
    if now.processes is not None:
        pid = now.processes.supervisor.pid
        raise CliError(
            f"{place.name} is running already (process {pid}); see `mep status {place.name}`"
        )
    if now.status is not None:
        raise CliError(
            f"{place.name} is running already (manager {now.status.manager.pid}, not of "
            f"`mep start`); under systemd: systemctl stop mep@{place.name}"
        )


def _await_orphans(place: Site) -> None:
    """Children of a supervisor that was killed end by themselves, very soon."""
    left = read_processes(place)
    if left is None or is_alive(left.supervisor):
        return
    for orphan in (left.warden, left.manager):
        if orphan is None:
            continue
        try:
            with Handle(orphan) as handle:
                handle.ended(FAREWELL_S)
        except ProcessLookupError:
            continue


def _manager(status: Status) -> Process:
    return Process(status.manager.pid, status.manager.start_time)


def _status(place: Site) -> Status | None:
    raw = read_foreign(place.status_file)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Status)
    except msgspec.DecodeError as error:
        raise CliError(f"{place.status_file} is damaged: {error}") from error
