"""``mep stop``: end an endpoint that ``mep start`` runs."""

import signal

import click

from mep.cli.errors import CliError, NotRunning
from mep.cli.preparation import policy
from mep.cli.processes import Handle
from mep.cli.running import state
from mep.cli.site import Site, configured_site

MARGIN_S = 45.0
"""Beyond the grace that users' processes have: a warden or manager that hangs is killed in it."""


@click.command
@click.argument("name")
@click.option(
    "--keep-users",
    is_flag=True,
    help="Leave users' processes and their tasks running; the next start finds them.",
)
def command(name: str, keep_users: bool) -> None:
    """Stop NAME, and wait until it is stopped.

    Users' processes are told to end (SIGTERM), and killed after stop_grace_s of policy.toml.

    \b
    Examples:
      mep stop cluster
      mep stop cluster --keep-users      before an upgrade
    """
    place = configured_site(name)
    now = state(place)
    if now.processes is None:
        if now.status is not None:
            raise CliError(
                f"{name} is not run by `mep start`; under systemd: systemctl stop mep@{name} "
                f"mep-warden@{name}.service"
            )
        raise NotRunning(f"{name} is not running")
    try:
        with Handle(now.processes.supervisor) as supervisor:
            supervisor.send(signal.SIGUSR2 if keep_users else signal.SIGTERM)
            if not supervisor.ended(_seconds(place)):
                raise CliError(
                    f"{name} has not ended yet; see {place.detached_log} and `mep status {name}`"
                )
    except ProcessLookupError:
        pass  # it ended by itself, just now
    print(f"{name} is stopped{'; processes of users go on' if keep_users else ''}")


def _seconds(place: Site) -> float:
    return float(policy(place).get("stop_grace_s", 10)) + MARGIN_S
