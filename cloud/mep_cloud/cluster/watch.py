"""Listens to what the other processes tell, shows life, and looks after them.

All over one connection of its own, apart from the writer's: a writer that waits for a row which a
stopped process has locked must not look dead itself.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mep_cloud.cluster.census import Census, Findings, Row
from mep_cloud.cluster.notes import AnyNote, decode
from mep_cloud.errors import StoreError
from mep_cloud.store.failures import reason
from mep_cloud.store.processes import BEAT, CENSUS, FENCE, LOCK_CLASS

if TYPE_CHECKING:
    from psycopg import AsyncConnection

log = logging.getLogger(__name__)

TURN_S: Final = 1.0


class Watch:
    """One process's ear, pulse and eye.

    Args:
        connection: listening; closed with the watch.
        census: judges the others.
        hear: called with each note of others.
        found: called with what the census found.
    """

    def __init__(
        self,
        connection: "AsyncConnection",
        census: Census,
        hear: Callable[[AnyNote], None],
        found: Callable[[Findings], None],
    ) -> None:
        self._connection = connection
        self._census = census
        self._hear = hear
        self._found = found

    async def run(self) -> None:
        """Watch for ever.

        Raises:
            StoreError: this process was fenced off, or its connection is lost, so that it would
                miss what the others tell.
        """
        from psycopg import Error

        try:
            while True:
                async with asyncio.timeout(self._census.lease_s):
                    await self.turn()
                await self._listen(TURN_S)
        except Error as error:
            message = f"the connection to the other processes was lost: {reason(error)}"
            raise StoreError(message) from error
        except TimeoutError as error:
            raise StoreError("the database did not answer for the length of a lease") from error
        finally:
            await self.close()

    async def close(self) -> None:
        """Hear nothing more."""
        await self._connection.close()

    async def turn(self) -> None:
        """Show life, and look after the others.

        Raises:
            StoreError: this process was fenced off.
        """
        beat = await self._connection.execute(BEAT, self._about(self._census.number))
        if beat.rowcount != 1:
            raise StoreError("the other processes took this one for dead, and its endpoints over")
        rows = await (await self._connection.execute(CENSUS, self._about(0))).fetchall()
        findings = self._census.look(Row(*row) for row in rows)
        for number in findings.to_fence:
            log.warning("relay process %d shows no life: it is fenced off", number)
            await self._connection.execute(FENCE, self._about(number))
        self._found(findings)

    def _about(self, number: int) -> dict[str, int]:
        return {"class": LOCK_CLASS, "number": number}

    async def _listen(self, seconds: float) -> None:
        async for notification in self._connection.notifies(timeout=seconds):
            note = decode(notification.payload)
            if note.sender != self._census.number:
                self._hear(note)
