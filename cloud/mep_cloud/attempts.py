"""How often something may be tried: pure, bounded, with the time as an argument."""

from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address
from typing import Final

_SIZE: Final = 10_000
_HOST_BITS: Final = 64
"""Of an IPv6 address: its owner has them all."""


def origin(address: str) -> str:
    """What tries from an address count for: that, or the network that an IPv6 host chooses from."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS)}/{_HOST_BITS}"


class Attempts:
    """At most `limit` tries of each key in any `period_s` seconds.

    Args:
        limit: tries.
        period_s: seconds.
        size: keys remembered; the one not tried for longest is forgotten first.
    """

    def __init__(self, limit: int, period_s: float, size: int = _SIZE) -> None:
        self._limit = limit
        self._period_s = period_s
        self._size = size
        self._tried: OrderedDict[str, deque[float]] = OrderedDict()

    def allow(self, key: str, now: float) -> bool:
        """Count a try, unless it is one too many."""
        times = self._tried.setdefault(key, deque())
        self._tried.move_to_end(key)
        while times and times[0] <= now - self._period_s:
            times.popleft()
        if len(times) >= self._limit:
            return False
        times.append(now)
        if len(self._tried) > self._size:
            self._tried.popitem(last=False)
        return True


class Bounds:
    """What anybody may try at one relay process."""

    def __init__(self) -> None:
        self.device_codes = Attempts(30, 60)
        """Logins begun, by :func:`origin`."""
        self.passwords = Attempts(10, 300)
        """By username, whoever tries."""
        self.sign_ins = Attempts(60, 300)
        """By :func:`origin`."""
        self.user_codes = Attempts(10, 600)
        """Codes entered, by who is signed in: 20^8 are not guessed so."""
