"""Statements written out once for each kind of database; their rows go to the driver as they are.

SQLAlchemy looks at every parameter of every row. For the few statements that each task takes part
in, that costs more than the database does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql.dml import UpdateBase

Row = Mapping[str, Any] | tuple[Any, ...]


class Prepared:
    """An INSERT, UPDATE or DELETE.

    Args:
        statement: all its parameters are bound by name, none has a value of its own; one for all
            databases, or one for each by the name of the dialect.
        columns: of an INSERT: its rows are tuples of these, in the order of the table. Drivers look
            for each parameter that has a name, which takes as long as another index.
    """

    def __init__(
        self, statement: UpdateBase | Mapping[str, UpdateBase], columns: Sequence[str] = ()
    ) -> None:
        self._statement = statement
        self._columns = tuple(columns)
        self._written: dict[str, str] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute it for each of the rows; there is one at least. How many rows it touched."""
        dialect = connection.dialect
        written = self._written.get(dialect.name)
        if written is None:
            written = self._written[dialect.name] = self._write(dialect)
        parameters: Any = rows if len(rows) > 1 else rows[0]
        return connection.exec_driver_sql(written, parameters).rowcount

    def _write(self, dialect: Dialect) -> str:
        statement = self._statement
        if not isinstance(statement, UpdateBase):
            statement = statement[dialect.name]
        by_name, by_place = _STYLES[dialect.name]
        like: Any = type(dialect)
        if not self._columns:
            return str(statement.compile(dialect=like(paramstyle=by_name)))
        written: Any = statement.compile(
            dialect=like(paramstyle=by_place), column_keys=self._columns
        )
        if tuple(written.positiontup) != self._columns:
            raise ValueError(f"the table has them in the order of {written.positiontup}")
        return str(written)


_STYLES: Final = {"sqlite": ("named", "qmark"), "postgresql": ("pyformat", "format")}
"""How the drivers take parameters by name, and by place."""
