"""Memory that ran out: who has ended a process for it, and what the limit was.

The kernel counts in a control group (version 1 or 2) how often it ended a process of it for want
of memory. Runs on Python 3.8 and newer; standard library only.
"""

import os
from typing import Iterator, List, NamedTuple, Optional

_NONE = 2**60
"""So much is no limit: version 1 has no other word for it."""


class Place(NamedTuple):
    """Where a control group may be seen."""

    top: str
    """Of its hierarchy."""
    directory: str
    version: int


def places(cgroups: str) -> List[Place]:
    """Where the control group for memory may be seen, by ``/proc/self/cgroup``, likeliest first.

    A container may see its own group as the top, whatever that file says.
    """
    found: List[Place] = []
    for line in cgroups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            top, version = "/sys/fs/cgroup/memory", 1
        elif number == "0" and not controllers:
            top, version = "/sys/fs/cgroup", 2
        else:
            continue
        own = [Place(top, (top + path).rstrip("/"), version), Place(top, top, version)]
        found = own + found if version == 1 else found + own
    return found


def counted(text: str, name: str) -> Optional[int]:
    """The number after `name` in a file of lines ``name number``."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None


class Watch:
    """How often memory ran out in the control group that this process is in, as far as told."""

    def __init__(self) -> None:
        self._place = _own()
        self._seen = self._kills()

    def look(self) -> None:
        """What has happened so far is nobody's whose end is yet to come."""
        self._seen = self._kills()

    def ran_out(self) -> str:
        """Since the last look: ``memory=BYTES`` (the limit) or ``memory`` if it did, else empty."""
        before, self._seen = self._seen, self._kills()
        if self._place is None or self._seen == before:
            return ""
        size = limit(self._place)
        return "memory" if size is None else "memory=%d" % size

    def _kills(self) -> int:
        return (_kills(self._place) or 0) if self._place else 0


def limit(place: Place) -> Optional[int]:
    """Bytes that processes may have together, by this group and those around it; None: any."""
    if place.version == 1:
        found = counted(_read(place.directory, "memory.stat"), "hierarchical_memory_limit")
        return found if found and found < _NONE else None
    texts = (_read(directory, "memory.max").strip() for directory in _upwards(place))
    return min((int(text) for text in texts if text.isdigit()), default=None)


def address_space() -> Optional[int]:
    """Bytes of address space that this process may have (``ulimit -v``); None: any."""
    try:
        import resource
    except ImportError:  # a Python of few parts
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def readable(size: int) -> str:
    """``1.5 GiB``, ``80 MiB``."""
    return "%.4g GiB" % (size / 2**30) if size >= 2**30 else "%.4g MiB" % (size / 2**20)


def _own() -> Optional[Place]:
    for place in places(_read("/proc/self", "cgroup")):
        if _kills(place) is not None:
            return place
    return None


def _kills(place: Place) -> Optional[int]:
    name = "memory.oom_control" if place.version == 1 else "memory.events"
    return counted(_read(place.directory, name), "oom_kill")


def _upwards(place: Place) -> Iterator[str]:
    directory = place.directory
    while len(directory) > len(place.top):
        yield directory
        directory = os.path.dirname(directory)
    yield place.top


def _read(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name)) as file:
            return file.read()
    except OSError:
        return ""
