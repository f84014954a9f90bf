"""What the endpoint tells of its tasks: to the manager, or where that is wanted, the audit log."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mep.endpoint import happenings
from mep.endpoint.assured import Assured
from mep.endpoint.custody import Taken
from mep.endpoint.events import AuditLost, Events, Reporter
from mep.endpoint.happenings import Known, Places, Progress
from mep.endpoint.start import Prepared
from mep.wire import events
from mep.wire.events import Event
from mep.wire.tasks import Result, StateChange


class Audit:
    """Of one user endpoint.

    Args:
        reporter: where events go.
        known: the tasks that are here.
        lost: told why the endpoint may not go on: what must be written down cannot be.
    """

    def __init__(self, reporter: Reporter, known: Known, lost: Callable[[str], None]) -> None:
        self._reporter = reporter
        self._known = known
        self._lost = lost
        self._progress = Progress()

    def note(self, event: str, text: str = "") -> None:
        """Something that concerns no task."""
        self._tell([happenings.happened(event, text)])

    def taken(self, taken: Taken) -> bool:
        """Tasks came from the relay; whether they may run."""
        refused = happenings.refused(taken.refused, self._known)
        return self._tell([*refused, *happenings.taken(taken)])

    def running(self, changes: Sequence[StateChange], places: Places) -> None:
        """Workers have tasks."""
        self._tell(self._progress.running(changes, self._known, places))

    def ended(self, results: Iterable[Result], places: Places) -> None:
        """Tasks have ended; to be told while they are still known."""
        self._tell(self._progress.ended(results, self._known, places))

    def close(self) -> None:
        """Tell what is left."""
        self._reporter.close()

    def _tell(self, happened: Sequence[Event]) -> bool:
        try:
            self._reporter.report(happened)
        except AuditLost as error:
            self._lost(str(error))
            return False
        return True


def reporter_of(prepared: Prepared) -> Reporter:
    """Where the events of this endpoint go."""
    facts, path = prepared.facts, prepared.facts.events_socket
    who = facts.user_endpoint_id, facts.identity_id
    if prepared.high_assurance:
        return Assured(str(Path(path).with_name(events.AUDIT)) if path else None, *who)
    return Events(path, *who)
