"""The only relay process of its database: everything is at home here."""

from collections.abc import Sequence

from mep_cloud.cluster.homes import Homes
from mep_cloud.delivery import events
from mep_cloud.delivery.state import Call
from mep_cloud.hub import Hub


class Alone:
    """What the rest of the relay asks about the other processes, answered without any."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.homes: Homes | None = None

    async def start(self) -> None:
        """Take up all tasks that had not ended."""
        await self._hub.recover()

    async def close(self) -> None:
        """Nothing is to be given up."""

    def here(self, _endpoint_id: str) -> bool:
        """Whether this process delivers the endpoint's tasks, and knows all earlier ones."""
        return True

    async def elsewhere(self, _endpoint_id: str) -> str | None:
        """URL of the process that delivers the endpoint's tasks; None: this one does."""
        return None

    def stored(self, endpoint_id: str, task_ids: Sequence[str]) -> None:
        """Tasks of an endpoint that was not at home here are on disk, and were announced."""

    async def unended(self, task_ids: Sequence[str]) -> tuple[str, ...]:
        """Which of these tasks have not ended."""
        state = self._hub.delivery.task_state
        return tuple(each for each in task_ids if state(each) is not None)

    async def calls(self, task_ids: Sequence[str]) -> dict[str, Call]:
        """What is known of these tasks while they have not ended."""
        known = ((each, self._hub.delivery.task_call(each)) for each in task_ids)
        return {task_id: call for task_id, call in known if call is not None}

    async def unfinished_at(self, endpoint_id: str) -> int:
        """Tasks of one endpoint that have not ended."""
        return self._hub.delivery.unfinished_at(endpoint_id)

    async def site_online(self, endpoint_id: str) -> tuple[bool, bool]:
        """Whether the endpoint's manager is connected, and whether its warden is."""
        return self._hub.delivery.site_online(endpoint_id)

    def cancelled(self, task_ids: tuple[str, ...]) -> None:
        """The owner no longer wants these tasks; the wish is on disk."""
        self._hub.apply(events.CancelRequested(task_ids))

    def removed(self, endpoint_id: str) -> None:
        """An endpoint was deleted."""
        self._hub.apply(events.EndpointRemoved(endpoint_id))

    def site_changed(self, endpoint_id: str) -> None:
        """A manager or warden came or went."""
