"""Authentication policies, which endpoints name and submits are checked against."""

from typing import Any

from sqlalchemy import delete, insert, select

from mep_cloud.store.database import Database
from mep_cloud.store.records import Policy
from mep_cloud.store.schema import policies


class Policies:
    """Repository of policies. One is never changed: an endpoint names what it was shown."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, policy: Policy) -> None:
        """Store a new policy."""
        row = {
            "id": policy.id,
            "name": policy.name,
            "allowed_domains": ",".join(policy.allowed_domains),
            "excluded_domains": ",".join(policy.excluded_domains),
            "provider": policy.provider,
            "session_s": policy.session_s,
        }
        await self._database.write(lambda c: c.execute(insert(policies).values(**row)))

    async def get(self, policy_id: str) -> Policy | None:
        """One policy."""
        query = select(policies).where(policies.c.id == policy_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _as_policy(row)

    async def list(self) -> list[Policy]:
        """All of them, by name."""
        query = select(policies).order_by(policies.c.name, policies.c.id)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_as_policy(row) for row in rows]

    async def remove(self, policy_id: str) -> bool:
        """Delete one; endpoints that name it take no tasks any more."""
        gone = delete(policies).where(policies.c.id == policy_id)
        return await self._database.write(lambda c: c.execute(gone).rowcount > 0)


def _as_policy(row: Any) -> Policy:
    return Policy(
        row.id,
        row.name,
        _domains(row.allowed_domains),
        _domains(row.excluded_domains),
        row.provider,
        row.session_s,
    )


def _domains(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
