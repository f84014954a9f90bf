"""Which endpoint is at home where, as far as this process knows. No I/O."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Homes:
    """The endpoints of this process, and of others where that is known."""

    number: int
    """Of this process."""
    peers: dict[int, str] = field(default_factory=dict)
    """The other processes: number and URL."""
    _loading: set[str] = field(default_factory=set)
    _ready: set[str] = field(default_factory=set)
    _elsewhere: dict[str, int] = field(default_factory=dict)

    def here(self, endpoint_id: str) -> bool:
        """Whether this process delivers the endpoint's tasks, and knows all earlier ones."""
        return endpoint_id in self._ready

    def mine(self, endpoint_id: str) -> bool:
        """Whether this process delivers the endpoint's tasks, or is about to."""
        return endpoint_id in self._ready or endpoint_id in self._loading

    def count(self) -> int:
        """How many endpoints are at home here."""
        return len(self._ready) + len(self._loading)

    def elsewhere(self, endpoint_id: str) -> str | None:
        """URL of the other process that delivers the endpoint's tasks; None: none is known."""
        number = self._elsewhere.get(endpoint_id)
        return None if number is None else self.peers.get(number)

    def claimed(self, endpoint_id: str) -> None:
        """It is at home here from now on; what it has on disk is about to be read."""
        self._elsewhere.pop(endpoint_id, None)
        self._loading.add(endpoint_id)

    def loaded(self, endpoint_id: str) -> None:
        """All of it that was on disk is known here."""
        self._loading.discard(endpoint_id)
        self._ready.add(endpoint_id)

    def found(self, endpoint_id: str, number: int, url: str) -> None:
        """Another process delivers it."""
        self.joined(number, url)
        self._elsewhere[endpoint_id] = number

    def joined(self, number: int, url: str) -> None:
        """Another process is there."""
        if number != self.number:
            self.peers[number] = url

    def gone(self, number: int) -> bool:
        """Another process has ended; whether it was known."""
        known = self.peers.pop(number, None) is not None
        kept = {each: owner for each, owner in self._elsewhere.items() if owner != number}
        known = known or len(kept) < len(self._elsewhere)
        self._elsewhere = kept
        return known
