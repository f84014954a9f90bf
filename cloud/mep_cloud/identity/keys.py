"""An issuer's signing keys: remembered, rotated, and looked for at a bounded rate."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import jwt
from jwt.algorithms import RSAAlgorithm

from mep_cloud.errors import NoAnswer, NotAccepted

log = logging.getLogger(__name__)

FRESH_S: Final = 300.0
"""So long keys are used without a look whether they still hold."""
STALE_S: Final = 3600.0
"""So long they are used while the issuer does not answer."""
RETRY_S: Final = 30.0
"""Between two looks: tokens with made-up key ids do not make the relay a nuisance."""
AGAIN_S: Final = 5.0
"""After a look in vain."""
_MOST: Final = 100
_RSA_BITS: Final = 2048

Key = jwt.PyJWK
Load = Callable[[], Awaitable[Sequence[Any]]]


class Keys:
    """The keys of one issuer.

    Args:
        load: fetches the JSON Web Keys; raises NoAnswer.
        clock: seconds.
    """

    def __init__(self, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._keys: tuple[dict[str, Any], ...] = ()
        self._fetched: float | None = None
        self._next = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, kid: str | None, algorithm: str) -> Key:
        """The key that a signature claims to be by.

        Raises:
            NotAccepted: there is no such key.
            NoAnswer: that cannot be known, since the issuer does not answer.
        """
        found = self._find(kid, algorithm) if self._age() < STALE_S else None
        if found is None:
            await self._fetch()
            found = self._find(kid, algorithm) if self._age() < STALE_S else None
        elif self._age() > FRESH_S:
            self._begin()
        if found is not None:
            return found
        if self._age() >= STALE_S:
            raise NoAnswer("The identity provider's keys cannot be fetched just now.")
        raise NotAccepted("The token is signed with a key that its issuer does not have.")

    async def close(self) -> None:
        """Give up what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._clock() - self._fetched

    def _find(self, kid: str | None, algorithm: str) -> Key | None:
        """The one key of that id, or the one key that there is for a signature without an id."""
        named = [each for each in self._keys if kid is None or each.get("kid") == kid]
        fitting = [key for each in named if (key := _key(each, algorithm)) is not None]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch(self) -> None:
        self._begin()
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    def _begin(self) -> None:
        if self._fetching is not None and not self._fetching.done():
            return
        self._fetching = None
        if self._clock() >= self._next:
            self._fetching = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            keys = await self._load()
        except NoAnswer as error:
            log.warning("the keys of an identity provider cannot be fetched: %s", error)
            self._next = self._clock() + AGAIN_S
            return
        self._keys = tuple(each for each in keys[:_MOST] if isinstance(each, dict))
        self._fetched = self._clock()
        self._next = self._fetched + RETRY_S


def _key(raw: dict[str, Any], algorithm: str) -> Key | None:
    """A key as one for `algorithm`; None where it is for something else, or too weak."""
    if raw.get("use") not in (None, "sig") or raw.get("alg") not in (None, algorithm):
        return None
    if raw.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        key = jwt.PyJWK(raw, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    weak = isinstance(key.Algorithm, RSAAlgorithm) and key.key.key_size < _RSA_BITS
    return None if weak else key
