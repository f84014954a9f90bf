"""How the tables came to be what :mod:`mep_cloud.store.schema` says: one file for each change.

The files in ``versions/`` run in the order of their ``down_revision``, on SQLite and PostgreSQL
alike, all that are missing in one transaction (:mod:`mep_cloud.store.migrate`). ``mep-relay serve``
runs them by itself.

To add a table or a column:

1. Change ``schema.py``. A new column of an existing table is nullable or has a ``server_default``.
2. ``python tools/new_migration.py NAME`` writes ``versions/NAME.py`` from the difference between
   what the migrations make and what ``schema.py`` says. Read it; add what data needs to be moved.
   `NAME` says what the change adds (``groups``, ``task_expiry``) and becomes the revision's id.
3. ``pytest tests/unit/relay/test_relay_migrations.py`` compares both on SQLite and PostgreSQL.

A migration that was released is never changed. Two that were made at the same time may have the
same ``down_revision`` as long as they don't depend on each other: both run. ``upgrade()`` uses
``op``, and no table of ``schema.py``, which will have changed again by the time it runs. There is
no way back but the backup that was made before.

Large tables: a column without a default costs nothing on either database; an index takes as long
as reading the table, during which nothing is served.
"""
