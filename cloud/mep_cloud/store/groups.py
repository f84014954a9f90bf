"""Groups of people. Who is in which comes with a token's owner: see :mod:`.users`."""

from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from mep_cloud.errors import LastManager, TooManyGroups
from mep_cloud.store.database import Database
from mep_cloud.store.records import GroupRecord, Member, Role
from mep_cloud.store.schema import group_members, groups, users

MOST: Final = 1000
"""Groups of one person, who need not be asked: all are looked up with their tokens."""


class Groups:
    """Repository of groups. A group always has a manager."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, group: GroupRecord, manager: str) -> None:
        """Store a new group with its first manager.

        Raises:
            TooManyGroups: they are in so many already.
        """

        def operation(connection: Connection) -> None:
            _check_room(connection, manager)
            row = {field: getattr(group, field) for field in GroupRecord.__dataclass_fields__}
            connection.execute(insert(groups).values(**row))
            first = {"group_id": group.id, "user_id": manager, "role": "manager"}
            connection.execute(insert(group_members).values(**first))

        await self._database.write(operation)

    async def get(self, group_id: str, user_id: str) -> tuple[GroupRecord, Role | None] | None:
        """A group, and what `user_id` is in it."""
        query = _with_role(user_id).where(groups.c.id == group_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else (_as_group(row), row.role)

    async def of(self, user_id: str) -> list[tuple[GroupRecord, Role]]:
        """The groups of a person, by name."""
        query = _with_role(user_id).where(group_members.c.role.is_not(None))
        query = query.order_by(groups.c.name, groups.c.id)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [(_as_group(row), row.role) for row in rows]

    async def members(self, group_id: str) -> list[Member]:
        """Who is in a group, by name."""
        query = (
            select(users.c.id, users.c.username, group_members.c.role)
            .join(users, users.c.id == group_members.c.user_id)
            .where(group_members.c.group_id == group_id)
            .order_by(users.c.username)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Member(*row) for row in rows]

    async def put(self, group_id: str, user_id: str, role: Role) -> bool:
        """Make somebody a member or a manager; False where the group is not there any more.

        Raises:
            LastManager: it is the only manager, and would be one no more.
            TooManyGroups: they are in so many others.
        """

        def operation(connection: Connection) -> bool:
            if not _lock(connection, group_id):
                return False
            if role != "manager":
                _keep_a_manager(connection, group_id, user_id)
            there = (group_members.c.group_id == group_id) & (group_members.c.user_id == user_id)
            change = update(group_members).where(there).values(role=role)
            if connection.execute(change).rowcount == 0:
                _check_room(connection, user_id)
                row = {"group_id": group_id, "user_id": user_id, "role": role}
                connection.execute(insert(group_members).values(**row))
            return True

        return await self._database.write(operation)

    async def drop(self, group_id: str, user_id: str) -> bool:
        """Take somebody out of a group; False where they were not in it.

        Raises:
            LastManager: it is the only manager.
        """

        def operation(connection: Connection) -> bool:
            _lock(connection, group_id)
            _keep_a_manager(connection, group_id, user_id)
            there = (group_members.c.group_id == group_id) & (group_members.c.user_id == user_id)
            return connection.execute(delete(group_members).where(there)).rowcount > 0

        return await self._database.write(operation)

    async def remove(self, group_id: str) -> None:
        """Delete a group. What was shared with it is its owner's alone from now on."""

        def operation(connection: Connection) -> None:
            _lock(connection, group_id)
            members = group_members.c.group_id == group_id
            connection.execute(delete(group_members).where(members))
            connection.execute(delete(groups).where(groups.c.id == group_id))

        await self._database.write(operation)


def _check_room(connection: Connection, user_id: str) -> None:
    mine = select(func.count()).where(group_members.c.user_id == user_id)
    if connection.execute(mine).scalar_one() >= MOST:
        raise TooManyGroups(user_id)


def _with_role(user_id: str) -> Any:
    mine = (group_members.c.group_id == groups.c.id) & (group_members.c.user_id == user_id)
    return select(groups, group_members.c.role).select_from(groups.outerjoin(group_members, mine))


def _lock(connection: Connection, group_id: str) -> bool:
    """Have other processes wait that change who is in the group; False: there is none."""
    this = select(groups.c.id).where(groups.c.id == group_id).with_for_update()
    return connection.scalar(this) is not None


def _keep_a_manager(connection: Connection, group_id: str, user_id: str) -> None:
    managers = group_members.c.group_id == group_id, group_members.c.role == "manager"
    mine = select(group_members.c.user_id).where(*managers, group_members.c.user_id == user_id)
    count = select(func.count()).select_from(group_members).where(*managers)
    if connection.execute(mine).first() and connection.execute(count).scalar_one() == 1:
        raise LastManager(group_id)


def _as_group(row: Any) -> GroupRecord:
    return GroupRecord(row.id, row.name, row.description, row.created)
