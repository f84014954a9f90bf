"""Users' processes, from the warden's own records: for whoever can read them.

Each has a leader, which listens to signals: SIGTERM ends the user endpoint, after its grace with
SIGKILL; SIGHUP has it look at once whether it may go on.
"""

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from mep.cli.processes import Handle, Process
from mep.cli.site import Site

if TYPE_CHECKING:
    from mep.root.children import Record


def living(place: Site) -> "list[Record]":
    """The user endpoints that live, whether their warden does or not."""
    from mep.root import children

    return children.living(str(place.warden_state)) if place.warden_state.is_dir() else []


def tell(record: "Record", number: signal.Signals) -> None:
    """Send a signal to a leader, unless it has ended."""
    ticks = int(record.started.split()[-1])
    with suppress(ProcessLookupError), Handle(Process(record.leader, ticks)) as leader:
        leader.send(number)


def kill(place: Site) -> None:
    """End all of them at once, with whatever they have started."""
    for record in living(place):
        with suppress(ProcessLookupError):
            os.killpg(record.pid, signal.SIGKILL)
