"""Indexes for the list of functions, and for what the sweep looks for."""

import sqlalchemy as sa
from alembic import op

revision = "more_indexes"
down_revision = ("blobs", "containers")
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; the functions of everybody, by age, are looked for no more."""
    deleted = sa.column("deleted").is_not(None)
    public = sa.column("public").is_(sa.true())
    op.create_index("actions_created", "actions", ["created"], unique=False)
    op.create_index(
        "endpoints_deleted",
        "endpoints",
        ["deleted"],
        unique=False,
        sqlite_where=deleted,
        postgresql_where=deleted,
    )
    op.drop_index("functions_newest", table_name="functions")
    op.create_index(
        "functions_public",
        "functions",
        ["created"],
        unique=False,
        sqlite_where=public,
        postgresql_where=public,
    )
