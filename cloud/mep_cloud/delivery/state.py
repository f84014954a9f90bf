"""What delivery knows of sites, user endpoints and tasks that have not ended."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mep.wire.tasks import Blob, TaskState

START_TIMEOUT_S: Final = 60.0
"""Seconds from a start request to an answer of the warden, before another grant is tried."""
START_ATTEMPTS: Final = 3
"""Unanswered starts before the waiting tasks fail."""
MAX_EXITS: Final = 3
"""Exits in a row without a finished task, before the waiting tasks fail."""


@dataclass(slots=True, eq=False)
class Call:
    """One task that has not ended."""

    task_id: str
    function_id: str
    function_size: int
    group_id: str
    payload: bytes | None
    """None: on disk only."""
    payload_size: int
    resource_specification: bytes = b""
    result_serializers: tuple[str, ...] = ()
    state: TaskState = "waiting-for-ep"
    cancel_wanted: bool = False
    dispatched: float = 0.0
    """Epoch seconds of the first time it was sent; 0 before."""
    waited: float = 0.0
    """Epoch seconds of the first time that it waited for nodes; 0 before."""
    running: float = 0.0
    """Epoch seconds at which a worker began it, as its user endpoint told; 0 before."""
    owner: str = ""
    """User id of whoever submitted it."""
    blob: Blob | None = None
    """Where the arguments are, if they are too large for a message."""


@dataclass(slots=True, eq=False)
class Start:
    """A start that was asked for and not answered yet."""

    nonce: str
    boot_id: str
    deadline: float


@dataclass(slots=True, eq=False)
class Link:
    """The open link of a user endpoint."""

    connection: int
    nonce: str
    """Of the grant whose token opened it."""
    credit: int
    functions_sent: set[str] = field(default_factory=set)
    leaving: bool = False
    """It was told that it may leave: nothing is sent any more."""


@dataclass(slots=True, eq=False)
class UserEndpoint:
    """One person's process at a site, wanted or alive."""

    id: str
    site: "Site"
    waiting: dict[str, Call] = field(default_factory=dict)
    """Not handed to the process, in order."""
    sent: dict[str, Call] = field(default_factory=dict)
    """Handed to it; no result yet."""
    ending: dict[str, tuple[Call, list[int]]] = field(default_factory=dict)
    """A result is on its way to the disk; connections that want to hear of it."""
    link: Link | None = None
    start: Start | None = None
    attempts: int = 0
    """Starts in a row that nobody answered."""
    unlinked: bool = False
    """The warden started it and its link has not opened yet."""
    left: bool = False
    """The last process ended with the relay's consent."""
    exits: int = 0
    """In a row without a finished task."""

    @property
    def has_work(self) -> bool:
        """Whether a process is needed."""
        return bool(self.waiting or self.sent)

    def unfinished(self) -> list[Call]:
        """Calls without a result, those that were sent first."""
        return [*self.sent.values(), *self.waiting.values()]


@dataclass(slots=True, eq=False)
class Site:
    """A registered endpoint with its manager and warden."""

    endpoint_id: str
    connection: int | None = None
    boot_id: str | None = None
    """None while no warden is connected."""
    running: set[str] = field(default_factory=set)
    """User endpoints that live, as far as the warden or their own links have told."""
    members: dict[str, UserEndpoint] = field(default_factory=dict)


class State:
    """All of it, with the indexes that events need."""

    def __init__(self, new_nonce: Callable[[], str], max_result: int) -> None:
        self.new_nonce = new_nonce
        self.max_result = max_result
        self.sites: dict[str, Site] = {}
        self.managers: dict[int, Site] = {}
        self.links: dict[int, UserEndpoint] = {}
        self.homes: dict[str, UserEndpoint] = {}
        """Task id -> the user endpoint it is for, for every call."""
        self.starting: dict[str, UserEndpoint] = {}

    def site(self, endpoint_id: str) -> Site:
        """The site, made known if it is not."""
        site = self.sites.get(endpoint_id)
        if site is None:
            site = self.sites[endpoint_id] = Site(endpoint_id)
        return site

    def user_endpoint(self, endpoint_id: str, user_endpoint_id: str) -> UserEndpoint:
        """The user endpoint, made known if it is not."""
        site = self.site(endpoint_id)
        user_endpoint = site.members.get(user_endpoint_id)
        if user_endpoint is None:
            user_endpoint = site.members[user_endpoint_id] = UserEndpoint(user_endpoint_id, site)
        return user_endpoint

    def find(self, task_id: str) -> Call | None:
        """The call with this id, unless it has ended on disk."""
        home = self.homes.get(task_id)
        if home is None:
            return None
        if task_id in home.ending:
            return home.ending[task_id][0]
        return home.waiting.get(task_id) or home.sent.get(task_id)

    def forget_idle(self, user_endpoint: UserEndpoint) -> None:
        """Drop what is known of a user endpoint that nothing needs."""
        busy = user_endpoint.has_work or user_endpoint.ending or user_endpoint.unlinked
        if not busy and user_endpoint.link is None and user_endpoint.start is None:
            user_endpoint.site.members.pop(user_endpoint.id, None)


def requeue(user_endpoint: UserEndpoint, calls: Iterable[Call]) -> None:
    """Put calls that were sent back to the head of the queue, in order."""
    back = {call.task_id: call for call in calls}
    for task_id, call in back.items():
        user_endpoint.sent.pop(task_id, None)
        call.state = "waiting-for-ep"
    user_endpoint.waiting = {**back, **user_endpoint.waiting}


def batches(
    calls: Iterable[Call], functions_sent: set[str], *, max_tasks: int, max_bytes: int
) -> Iterator[tuple[list[str], list[Call]]]:
    """Split calls into link frames: ids of functions to send along, and calls.

    Marks the functions as sent. A single call above `max_bytes` travels alone.
    """
    function_ids: list[str] = []
    batch: list[Call] = []
    size = 0
    for call in calls:
        new = call.function_id not in functions_sent
        cost = (0 if call.blob else call.payload_size) + (call.function_size if new else 0)
        if batch and (len(batch) == max_tasks or size + cost > max_bytes):
            yield function_ids, batch
            function_ids, batch, size = [], [], 0
        if new:
            functions_sent.add(call.function_id)
            function_ids.append(call.function_id)
        batch.append(call)
        size += cost
    if batch:
        yield function_ids, batch
