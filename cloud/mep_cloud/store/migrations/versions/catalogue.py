"""catalogue."""

import sqlalchemy as sa
from alembic import op

revision = "catalogue"
down_revision = "baseline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.create_table(
        "endpoint_presence",
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("last_heartbeat", sa.Float(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("python", sa.Text(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
        ),
        sa.PrimaryKeyConstraint("endpoint_id"),
    )
    op.create_index("functions_group", "functions", ["group_id", "created"], unique=False)
    op.create_index("functions_newest", "functions", ["created"], unique=False)
    op.create_index("functions_owner", "functions", ["owner", "created"], unique=False)
    op.add_column("tasks", sa.Column("waited", sa.Float(), nullable=True))
