"""The state machine's one door: an event in, its instructions out."""

from collections.abc import Callable

from mep.wire import limits
from mep.wire.tasks import TaskState
from mep_cloud.delivery import calls, events, links, sites
from mep_cloud.delivery.instructions import Instruction
from mep_cloud.delivery.state import Call, State


class Delivery:
    """All that the relay knows of work that has not ended.

    Args:
        new_nonce: supplies 32 random hex digits for each start.
        max_result: bytes of one result payload that is stored.
    """

    def __init__(self, new_nonce: Callable[[], str], max_result: int = limits.PAYLOAD) -> None:
        self._state = State(new_nonce, max_result)

    def handle(self, event: events.Event, now: float) -> list[Instruction]:
        """What is to be done about `event`, in order. `now` is epoch seconds."""
        out: list[Instruction] = []
        state = self._state
        known = _handle_link(state, event, now, out) or _handle_site(state, event, now, out)
        if not known:
            _handle_rest(state, event, now, out)
        return out

    def next_deadline(self) -> float | None:
        """When :class:`~.events.TimePassed` is due, epoch seconds."""
        starts = (member.start for member in self._state.starting.values())
        return min((start.deadline for start in starts if start is not None), default=None)

    def expects_start(self, user_endpoint_id: str, nonce: str) -> bool:
        """Whether the start with this nonce is still the one that is under way."""
        user_endpoint = self._state.starting.get(user_endpoint_id)
        start = None if user_endpoint is None else user_endpoint.start
        return start is not None and start.nonce == nonce

    def task_state(self, task_id: str) -> TaskState | None:
        """State of a task that has not ended; None when it has, or is not known."""
        call = self._state.find(task_id)
        return None if call is None else call.state

    def task_call(self, task_id: str) -> Call | None:
        """A task that has not ended; None when it has, or is not known."""
        return self._state.find(task_id)

    def site_online(self, endpoint_id: str) -> tuple[bool, bool]:
        """Whether the endpoint's manager is connected, and whether its warden is."""
        site = self._state.sites.get(endpoint_id)
        if site is None:
            return False, False
        return site.connection is not None, site.boot_id is not None

    def open_links(self) -> tuple[int, int]:
        """How many managers and how many user endpoints are connected."""
        return len(self._state.managers), len(self._state.links)

    def user_endpoints(self) -> set[str]:
        """User endpoints that live, as far as is known here, or have work."""
        sites = self._state.sites.values()
        return {each for site in sites for each in (*site.members, *site.running)}

    def unfinished_at(self, endpoint_id: str) -> int:
        """Tasks of one endpoint that have not ended."""
        site = self._state.sites.get(endpoint_id)
        members = () if site is None else site.members.values()
        return sum(len(each.waiting) + len(each.sent) + len(each.ending) for each in members)

    def unfinished(self) -> int:
        """Tasks that have not ended."""
        return len(self._state.homes)


def _handle_link(state: State, event: events.Event, now: float, out: list[Instruction]) -> bool:
    match event:
        case events.TasksSubmitted():
            calls.submitted(state, event, now, out)
        case events.CancelRequested():
            calls.cancelled(state, event, now, out)
        case events.EndpointOpened():
            links.opened(state, event, now, out)
        case events.EndpointClosed():
            links.closed(state, event, now, out)
        case events.CreditGranted():
            links.credited(state, event, now, out)
        case events.ResultsArrived():
            links.results(state, event, out)
        case events.StatesArrived():
            links.states(state, event, now, out)
        case events.LeavingWished():
            links.leaving(state, event, out)
        case _:
            return False
    return True


def _handle_site(state: State, event: events.Event, now: float, out: list[Instruction]) -> bool:
    match event:
        case events.ManagerOpened():
            sites.opened(state, event, out)
        case events.ManagerClosed():
            sites.closed(state, event)
        case events.WardenUp():
            sites.warden_up(state, event, now, out)
        case events.WardenDown():
            sites.warden_down(state, event)
        case events.Started():
            sites.started(state, event)
        case events.Refused() | events.StartUnsigned():
            sites.refused(state, event, now, out)
        case events.StartPostponed():
            sites.postponed(state, event, now)
        case events.Exited():
            sites.exited(state, event, now, out)
        case _:
            return False
    return True


def _handle_rest(state: State, event: events.Event, now: float, out: list[Instruction]) -> None:
    match event:
        case events.ResultsCommitted(task_ids):
            calls.committed(state, task_ids, out)
        case events.ResultsNotCommitted(task_ids):
            calls.not_committed(state, task_ids, now, out)
        case events.TimePassed():
            sites.time_passed(state, now, out)
        case events.TasksExpired():
            calls.expired(state, event, now, out)
        case events.EndpointRemoved():
            sites.removed(state, event, now, out)
