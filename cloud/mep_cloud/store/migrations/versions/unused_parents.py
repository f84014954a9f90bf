"""When task groups and user endpoints were used, and what the sweep looks for."""

import sqlalchemy as sa
from alembic import op

revision = "unused_parents"
down_revision = "proved_identities"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it. Of what is there nobody knows when it was used: the sweep takes it for new."""
    for table in ("task_groups", "user_endpoints"):
        used = sa.Column("used", sa.Float(), server_default="0", nullable=False)
        op.add_column(table, used)
        op.create_index(op.f(f"ix_{table}_used"), table, ["used"], unique=False)
    op.create_index(op.f("ix_tasks_user_endpoint_id"), "tasks", ["user_endpoint_id"], unique=False)
    body = sa.column("deleted").is_not(None) & (sa.column("size") > 0)
    op.create_index(
        "functions_deleted",
        "functions",
        ["deleted"],
        unique=False,
        sqlite_where=body,
        postgresql_where=body,
    )
