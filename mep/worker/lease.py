"""How long a node pool may go on without a word of its interchange. Pure: times are arguments.

A pool says in each beat when it sent it, by its own clock, and the interchange answers with that
very time. Whatever delays either message, or stops either process: an interchange that answered a
beat of time t counts the pool as lost at t + threshold at the earliest. So before that, and not
later, the pool may begin tasks: none is begun here that is counted as lost there.

Runs on Python 3.8 and newer; standard library only.
"""


class Lease:
    """One node pool's.

    Args:
        threshold_s: ``heartbeat_threshold``.
        now: when the pool says hello, in seconds of a clock that never goes back.
    """

    def __init__(self, threshold_s: float, now: float) -> None:
        self._threshold_s = threshold_s
        self._answered = now

    def answered(self, sent: float, now: float) -> None:
        """The interchange has answered the beat that was sent at `sent`."""
        self._answered = max(self._answered, min(sent, now))

    def may_begin(self, now: float) -> bool:
        """Whether tasks may be begun."""
        return now < self._answered + self._threshold_s

    @property
    def ends(self) -> float:
        """When to give up: what runs has had another `threshold_s` to end, results to be taken."""
        return self._answered + 2 * self._threshold_s
