"""Webhooks, and the news that wait for their receivers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from mep_cloud.store.database import Database
from mep_cloud.store.records import News, Webhook
from mep_cloud.store.schema import webhook_news, webhooks

BATCH: Final = 100
"""News in one request."""
MAX_WAITING: Final = 100_000
"""News that wait for one receiver; older ones are dropped."""

INSERT_NEWS: Final = insert(webhook_news)
_FIELDS = tuple(Webhook.__dataclass_fields__)
_COLUMNS = tuple(webhooks.c[field] for field in _FIELDS)
_NEWS = tuple(webhook_news.c[field] for field in News.__dataclass_fields__)
_THIS = webhooks.c.id == bindparam("webhook")
_QUEUE = webhook_news.c.webhook_id == bindparam("webhook")


@dataclass(frozen=True, slots=True)
class Batch:
    """News for one request. The same `through` is the same request again."""

    webhook: Webhook
    news: tuple[News, ...]
    through: int


class Webhooks:
    """Repository of webhooks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, webhook: Webhook, most: int) -> bool:
        """Store a new webhook, unless its owner has `most` of them; whether it was stored."""

        def operation(connection: Connection) -> bool:
            count = select(func.count()).where(webhooks.c.owner == webhook.owner)
            if (connection.scalar(count) or 0) >= most:
                return False
            connection.execute(insert(webhooks).values(**asdict(webhook), claimed_until=0.0))
            return True

        return await self._database.write(operation)

    async def all(self) -> list[Webhook]:
        """Every webhook of every user."""
        query = select(*_COLUMNS)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Webhook(*row) for row in rows]

    async def of(self, owner: str) -> list[Webhook]:
        """A user's own, oldest first."""
        query = select(*_COLUMNS).where(webhooks.c.owner == owner).order_by(webhooks.c.created)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Webhook(*row) for row in rows]

    async def remove(self, webhook_id: str, owner: str) -> bool:
        """Forget a webhook and what waits for it; whether it was the owner's."""

        def operation(connection: Connection) -> bool:
            mine = delete(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.owner == owner)
            if connection.execute(mine).rowcount == 0:
                return False
            connection.execute(delete(webhook_news).where(_QUEUE), {"webhook": webhook_id})
            return True

        return await self._database.write(operation)

    async def sweep(self) -> None:
        """Drop news for webhooks that are gone."""
        orphans = delete(webhook_news).where(
            webhook_news.c.webhook_id.not_in(select(webhooks.c.id))
        )
        await self._database.write(lambda connection: connection.execute(orphans))

    async def claim(self, webhook_id: str, now: float, until: float) -> Batch | float | None:
        """The next request, nobody else's before `until`; when to ask again; None: no news."""

        def operation(connection: Connection) -> Batch | float | None:
            this = {"webhook": webhook_id}
            query = select(webhooks.c.claimed_until, webhooks.c.sending_to, *_COLUMNS).where(_THIS)
            # Another process that asks for the same webhook waits, and sees this claim.
            row = connection.execute(query.with_for_update(), this).first()
            if row is None:
                return None
            webhook = Webhook(*row[2:])
            if max(row.claimed_until, webhook.next_at) > now:
                return float(max(row.claimed_until, webhook.next_at))
            news = _waiting(connection, webhook_id, row.sending_to)
            if not news:
                return None
            through = int(news[-1].seq)
            change = update(webhooks).where(_THIS).values(claimed_until=until, sending_to=through)
            connection.execute(change, this)
            return Batch(webhook, tuple(News(*each[1:]) for each in news), through)

        return await self._database.write(operation)

    async def taken(self, batch: Batch) -> None:
        """The receiver has the news."""

        def operation(connection: Connection) -> None:
            count = _forget(connection, batch.webhook.id, batch.through)
            _settle(
                connection,
                batch.webhook.id,
                sending_to=None,
                attempts=0,
                next_at=0.0,
                last_outcome="ok",
                delivered=webhooks.c.delivered + count,
            )

        await self._database.write(operation)

    async def not_taken(
        self, batch: Batch, why: str, next_at: float, *, give_up_before: float
    ) -> None:
        """The receiver did not take the news: again at `next_at`, unless they are too old."""

        def operation(connection: Connection) -> None:
            dropped = 0
            sending_to: int | None = batch.through
            if batch.news[0].created < give_up_before:
                dropped, sending_to = _forget(connection, batch.webhook.id, batch.through), None
            dropped += _drop_excess(connection, batch.webhook.id)
            _settle(
                connection,
                batch.webhook.id,
                sending_to=sending_to,
                attempts=webhooks.c.attempts + 1,
                next_at=next_at,
                last_outcome=why,
                dropped=webhooks.c.dropped + dropped,
            )

        await self._database.write(operation)


def rows_of(news: Sequence[News]) -> list[dict[str, Any]]:
    """Parameters of :data:`INSERT_NEWS`."""
    return [asdict(each) for each in news]


def _waiting(connection: Connection, webhook_id: str, sending_to: int | None) -> Sequence[Any]:
    query = select(webhook_news.c.seq, *_NEWS).where(_QUEUE)
    if sending_to is not None:
        query = query.where(webhook_news.c.seq <= sending_to)
    query = query.order_by(webhook_news.c.seq).limit(BATCH)
    return connection.execute(query, {"webhook": webhook_id}).all()


def _forget(connection: Connection, webhook_id: str, through: int) -> int:
    done = delete(webhook_news).where(_QUEUE, webhook_news.c.seq <= through)
    return connection.execute(done, {"webhook": webhook_id}).rowcount


def _drop_excess(connection: Connection, webhook_id: str) -> int:
    newest = select(webhook_news.c.seq).where(_QUEUE).order_by(webhook_news.c.seq.desc())
    excess = connection.scalar(newest.offset(MAX_WAITING).limit(1), {"webhook": webhook_id})
    return 0 if excess is None else _forget(connection, webhook_id, excess)


def _settle(connection: Connection, webhook_id: str, **changes: Any) -> None:
    change = update(webhooks).where(_THIS).values(claimed_until=0.0, **changes)
    connection.execute(change, {"webhook": webhook_id})
