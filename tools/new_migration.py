"""Write a migration of the relay's tables: what `schema.py` has and the migrations lack.

Migrations and `schema.py` are described in :mod:`mep_cloud.store.migrations`; format afterwards.

python tools/new_migration.py NAME
"""

import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mep_cloud.store import migrations
from mep_cloud.store.database import Database
from mep_cloud.store.engines import sqlite_engine
from mep_cloud.store.schema import metadata

FILE = '''"""{name}."""

import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = {down!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    {body}
'''


def main() -> None:
    name = sys.argv[1]
    home = Path(migrations.__file__).parent
    down = ScriptDirectory(str(home)).get_heads()
    target = home / "versions" / f"{name}.py"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "database"
        Database(path).create()
        with sqlite_engine(path, writable=True, pool_size=1).begin() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            script = produce_migrations(context, metadata)
    assert script.upgrade_ops is not None
    code = render_python_code(script.upgrade_ops)
    body = "\n".join(line for line in code.splitlines() if "###" not in line).strip()
    with open(target, "x") as file:
        file.write(
            FILE.format(
                name=name, down=down[0] if len(down) == 1 else tuple(down) or None, body=body
            )
        )
    print(target)


if __name__ == "__main__":
    main()
