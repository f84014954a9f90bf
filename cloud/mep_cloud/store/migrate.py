"""Brings a database's tables up to date, or says that they are not."""

import logging
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from sqlalchemy import Connection, inspect

from mep_cloud.errors import StoreError

BASELINE: Final = "baseline"
"""What relays had that were set up before there were migrations."""

# It tells of each revision as it goes; here one line at the end is enough.
logging.getLogger("alembic").setLevel(logging.WARNING)


def missing(connection: Connection) -> list[str]:
    """Revisions that the database does not have yet, in the order in which they run.

    Raises:
        StoreError: the database was made by a newer version.
    """
    script = ScriptDirectory.from_config(_config(connection))
    current = MigrationContext.configure(connection).get_current_heads()
    if not current and inspect(connection).has_table("settings"):
        current = (BASELINE,)
    try:
        applied = {each.revision for head in current for each in _ancestry(script, head)}
    except RevisionError as error:
        raise StoreError(
            f"The database was used by a newer version of mep-relay (its tables are at "
            f"{', '.join(sorted(current))}, which this version does not know). Install that "
            "version, or restore the backup that was made before it."
        ) from error
    every = [each.revision for each in script.walk_revisions()]
    return [revision for revision in reversed(every) if revision not in applied]


def upgrade(connection: Connection, to: str = "heads") -> list[str]:
    """Run what is missing, within the transaction that `connection` is in; what was missing.

    The caller holds a lock against other processes that would do the same.

    Raises:
        StoreError: the database was made by a newer version.
    """
    wanted = missing(connection)
    if not wanted:
        return []
    config = _config(connection)
    if not MigrationContext.configure(connection).get_current_heads() and BASELINE not in wanted:
        command.stamp(config, BASELINE)
    command.upgrade(config, to)
    return wanted


def _ancestry(script: ScriptDirectory, head: str) -> Any:
    return script.iterate_revisions(head, "base")


def _config(connection: Connection) -> Config:
    config = Config()
    where = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", where.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
