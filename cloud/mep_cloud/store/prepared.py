"""Statements written out once for each kind of database; their rows go to the driver as they are.

SQLAlchemy looks at every parameter of every row. For the few statements that each task takes part
in, that costs more than the database does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import UpdateBase


class Prepared:
    """An INSERT, UPDATE or DELETE.

    Args:
        statement: all its parameters are bound by name, none has a value of its own; one for all
            databases, or one for each by the name of the dialect.
        columns: of an INSERT: what each row has.
    """

    def __init__(
        self, statement: UpdateBase | Mapping[str, UpdateBase], columns: Sequence[str] = ()
    ) -> None:
        self._statement = statement
        self._columns = columns or None
        self._written: dict[str, str] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Execute it for each of the rows; there is one at least. How many rows it touched."""
        dialect = connection.dialect
        written = self._written.get(dialect.name)
        if written is None:
            written = self._written[dialect.name] = self._write(dialect)
        parameters = rows if len(rows) > 1 else rows[0]
        return connection.exec_driver_sql(written, parameters).rowcount

    def _write(self, dialect: Dialect) -> str:
        statement = self._statement
        if not isinstance(statement, UpdateBase):
            statement = statement[dialect.name]
        if dialect.name == "sqlite":
            # The driver takes parameters by name; by default SQLAlchemy has it count them.
            dialect = sqlite.dialect(paramstyle="named")
        return str(statement.compile(dialect=dialect, column_keys=self._columns))
