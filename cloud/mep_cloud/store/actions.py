"""Runs of functions by the action provider's API."""

import json
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from mep_cloud.store.database import Database
from mep_cloud.store.records import Action
from mep_cloud.store.schema import actions

_FIELDS = tuple(Action.__dataclass_fields__)
_COLUMNS = tuple(actions.c[field] for field in _FIELDS)
_LISTS = ("monitor_by", "manage_by", "task_ids")
STEP: Final = 500
"""Rows of one step of forgetting."""


class Actions:
    """Repository of actions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, action: Action) -> Action:
        """Store a new action; the one of this id that there was already, else this."""
        query = select(*_COLUMNS).where(actions.c.id == action.id)
        row = {field: getattr(action, field) for field in _FIELDS}
        row |= {field: json.dumps(row[field]) for field in _LISTS}

        def operation(connection: Connection) -> Action:
            earlier = connection.execute(query).first()
            if earlier is not None:
                return _as_action(earlier)
            connection.execute(insert(actions).values(**row))
            return action

        return await self._database.write(operation)

    async def get(self, action_id: str) -> Action | None:
        """One action, unless it was released."""
        query = select(*_COLUMNS).where(actions.c.id == action_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _as_action(row)

    async def remove(self, action_id: str) -> None:
        """Forget an action; its tasks are kept as long as any."""
        gone = delete(actions).where(actions.c.id == action_id)
        await self._database.write(lambda connection: connection.execute(gone))

    async def forget(self, created_before: float) -> bool:
        """One step of forgetting actions that nobody released; whether there may be more."""
        old = select(actions.c.id).where(actions.c.created < created_before).limit(STEP)
        ids = await self._database.read(lambda connection: connection.scalars(old).all())
        if ids:
            gone = delete(actions).where(actions.c.id.in_(ids))
            await self._database.write(lambda connection: connection.execute(gone))
        return len(ids) == STEP


def _as_action(row: Any) -> Action:
    values = row._asdict()
    return Action(**values | {field: json.loads(values[field]) for field in _LISTS})
