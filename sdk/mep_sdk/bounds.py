"""How much one submit may hold: what most relays take, until this one has refused it.

Nothing is asked before that: most relays take more than the SDK ever sends at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mep.wire import limits
from mep.wire.rest import Body


class Sizes(Body, frozen=True):
    """What matters here of ``GET /v3/limits``, and what holds where a relay does not say."""

    payload: int = limits.PAYLOAD
    inline: int = limits.LINK_FRAME
    request: int = limits.REQUEST
    submit_tasks: int = limits.SUBMIT_TASKS
    queue_depth: int = 0


@dataclass
class Bounds:
    """Of one submit to one relay; `calls` and `size` in tasks and bytes of their payloads."""

    calls: int = limits.SUBMIT_TASKS
    size: int = limits.BATCH_BYTES
    payload: int = limits.BLOB
    """Bytes of the payload of one task."""

    def learn(self, sizes: Sizes) -> None:
        """What the relay says of itself goes for all submits from now on."""
        most = min(self.calls, sizes.submit_tasks, sizes.queue_depth or self.calls)
        self.calls = max(most, 1)
        # The other half is room for what surrounds payloads: ids, and the endpoint's options.
        self.size = min(self.size, sizes.request // 2)
        self.payload = sizes.payload

    def fit(self, payloads: Sequence[int]) -> bool:
        """Whether payloads of these lengths may be one submit; one alone may, however large."""
        return len(payloads) <= self.calls and (len(payloads) == 1 or sum(payloads) <= self.size)
