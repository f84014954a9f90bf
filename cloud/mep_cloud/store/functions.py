"""Registered functions."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, Text, bindparam, insert, or_, select, union, update

from mep_cloud.store.database import Database
from mep_cloud.store.records import FunctionRecord
from mep_cloud.store.schema import functions

_ESCAPE = "/"
_FIELDS = tuple(FunctionRecord.__dataclass_fields__)
_COLUMNS = tuple(functions.c[field] for field in _FIELDS)


class Functions:
    """Repository of functions; bodies are read apart from the rest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: FunctionRecord, body: bytes) -> None:
        """Store a new function."""
        row = {field: getattr(record, field) for field in _FIELDS}
        await self._database.write(lambda c: c.execute(insert(functions).values(**row, body=body)))

    async def get(self, function_id: str) -> FunctionRecord | None:
        """A function that is not deleted."""
        query = select(*_COLUMNS).where(
            functions.c.id == function_id, functions.c.deleted.is_(None)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else FunctionRecord(*row)

    async def body(self, function_id: str) -> bytes:
        """The packed body, of a deleted function too."""
        query = select(functions.c.body).where(functions.c.id == function_id)
        return await self._database.read(lambda c: bytes(c.execute(query).scalar_one()))

    async def search(
        self, owner: str, groups: Collection[str], words: Collection[str], offset: int, limit: int
    ) -> list[FunctionRecord]:
        """Functions that every one of `words` is in, by name or description, newest first.

        Only `owner`'s own, those of `groups`, and public ones. Letter case does not count.
        """
        query = _search(len(words), in_groups=bool(groups))
        asked = {
            "owner": owner,
            "groups": tuple(groups),
            "offset": offset,
            "limit": limit,
            "last": offset + limit,
            **{f"word_{number}": _escaped(word) for number, word in enumerate(words)},
        }
        rows = await self._database.read(lambda connection: connection.execute(query, asked).all())
        return [FunctionRecord(*row) for row in rows]

    async def remove(self, function_id: str, at: float) -> None:
        """Delete a function: it takes no new tasks."""
        change = update(functions).where(functions.c.id == function_id).values(deleted=at)
        await self._database.write(lambda connection: connection.execute(change))


@lru_cache(maxsize=64)
def _search(words: int, *, in_groups: bool) -> Select[Any]:
    """The query of `Functions.search`, kept: to build it takes as long as to run it."""
    visible = [functions.c.owner == bindparam("owner"), functions.c.public.is_(True)]
    if in_groups:
        visible.append(functions.c.group_id.in_(bindparam("groups", expanding=True)))
    matches = []
    for number in range(words):
        word = bindparam(f"word_{number}", type_=Text())
        matches.append(
            or_(
                functions.c.name.icontains(word, escape=_ESCAPE),
                functions.c.description.icontains(word, escape=_ESCAPE),
            )
        )
    # Each part has its index; of an OR of them, everybody's functions would be looked at.
    parts = [
        select(*_COLUMNS)
        .where(each, functions.c.deleted.is_(None), *matches)
        .order_by(functions.c.created.desc(), functions.c.id)
        .limit(bindparam("last"))
        .subquery()
        for each in visible
    ]
    seen = union(*(select(each) for each in parts)).subquery()
    query = select(seen).order_by(seen.c.created.desc(), seen.c.id)
    return query.offset(bindparam("offset")).limit(bindparam("limit"))


def _escaped(word: str) -> str:
    """`word` with nothing in it that LIKE takes for a wildcard."""
    for each in (_ESCAPE, "%", "_"):
        word = word.replace(each, _ESCAPE + each)
    return word
