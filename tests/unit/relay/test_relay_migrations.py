"""What migrations make is what the schema says, on both databases; versions are told apart."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mep_cloud.errors import StoreError
from mep_cloud.store import migrate
from mep_cloud.store.database import Database
from mep_cloud.store.engines import postgresql_engine, sqlite_engine
from mep_cloud.store.schema import metadata
from sqlalchemy import URL, Engine, Inspector, inspect, text

NewWhere = Callable[[], Path | URL]


def engine_of(where: Path | URL) -> Engine:
    if isinstance(where, Path):
        return sqlite_engine(where, writable=True, pool_size=1)
    return postgresql_engine(where, writable=True, pool_size=1)


def picture(where: Path | URL) -> dict[str, Any]:
    """Everything that the database knows of its tables, comparable."""
    engine = engine_of(where)
    try:
        inspector = inspect(engine)
        names = [name for name in inspector.get_table_names() if name != "alembic_version"]
        return {name: table(inspector, name) for name in names}
    finally:
        engine.dispose()


def table(inspector: Inspector, name: str) -> dict[str, Any]:
    def ordered(items: Any) -> list[str]:
        return sorted(repr(sorted(item.items(), key=lambda pair: pair[0])) for item in items)

    columns = [{**each, "type": str(each["type"])} for each in inspector.get_columns(name)]
    indexes: list[Any] = list(inspector.get_indexes(name))
    for index in indexes:
        options = index.get("dialect_options", {})
        index["dialect_options"] = {key: str(value) for key, value in options.items()}
    return {
        "columns": ordered(columns),
        "key": inspector.get_pk_constraint(name)["constrained_columns"],
        "foreign": ordered(inspector.get_foreign_keys(name)),
        "unique": ordered(inspector.get_unique_constraints(name)),
        "indexes": ordered(indexes),
    }


def test_migrations_make_what_the_schema_says(new_where: NewWhere) -> None:
    migrated, direct = new_where(), new_where()
    Database(migrated).create()
    engine = engine_of(direct)
    metadata.create_all(engine)
    engine.dispose()
    made, wanted = picture(migrated), picture(direct)
    assert set(made) == set(wanted) >= {"tasks", "users"}
    for name in wanted:
        assert made[name] == wanted[name], name


def test_counted_columns_never_use_a_number_again(tmp_path: Path) -> None:
    Database(tmp_path / "db").create()
    with sqlite3.connect(tmp_path / "db") as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
        assert {name for (name,) in rows} == {"tasks", "start_tokens", "webhook_news"}
    connection.close()


def test_a_new_database_is_up_to_date(new_where: NewWhere) -> None:
    database = Database(new_where())
    database.create()
    assert database.missing() == []
    assert database.migrate() == []


def test_what_is_there_is_not_made_anew(new_where: NewWhere) -> None:
    where = new_where()
    Database(where).create()
    with pytest.raises((StoreError, FileExistsError)):
        Database(where).create()


def change(where: Path | URL, statement: str) -> None:
    engine = engine_of(where)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_a_database_from_before_migrations_is_taken_over(new_where: NewWhere) -> None:
    old, new = new_where(), new_where()
    Database(new).create()
    engine = engine_of(old)
    with engine.begin() as connection:
        migrate.upgrade(connection, to=migrate.BASELINE)
    engine.dispose()
    change(old, "DROP TABLE alembic_version")
    change(old, "INSERT INTO settings VALUES ('domain', 'example.org')")
    assert migrate.BASELINE not in Database(old).missing()
    Database(old).migrate()
    assert Database(old).missing() == []
    assert picture(old) == picture(new)


def test_user_names_of_an_older_database_are_compared_too(new_where: NewWhere) -> None:
    where = new_where()
    engine = engine_of(where)
    with engine.begin() as connection:
        migrate.upgrade(connection, to="more_indexes")
        connection.execute(
            text(
                "INSERT INTO users (id, username, name, email, organization, is_admin, created) "
                "VALUES ('1', 'Alice@example.org', '', '', '', false, 1), "
                "('2', 'alice@example.org', '', '', '', false, 1)"
            )
        )
        migrate.upgrade(connection)
        rows = connection.execute(text("SELECT name_key FROM users")).all()
    engine.dispose()
    assert [row.name_key for row in rows] == ["alice@example.org"] * 2


def test_a_newer_database_is_refused(new_where: NewWhere) -> None:
    where = new_where()
    Database(where).create()
    change(where, "DELETE FROM alembic_version")
    change(where, "INSERT INTO alembic_version VALUES ('of_the_future')")
    for act in (Database(where).missing, Database(where).migrate, Database(where).open):
        with pytest.raises(StoreError, match=r"newer version .*of_the_future"):
            act()


def test_an_older_database_is_not_opened(new_where: NewWhere) -> None:
    where = new_where()
    Database(where).create()
    change(where, "DELETE FROM alembic_version")
    change(where, "DROP TABLE settings")
    with pytest.raises(StoreError, match="mep-relay migrate"):
        Database(where).open()
