"""expired_tasks."""

import sqlalchemy as sa
from alembic import op

revision = "expired_tasks"
down_revision = "baseline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.create_table(
        "expired_tasks",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column(
            "result_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index(
        "expired_tasks_of_group", "expired_tasks", ["group_id", "result_seq"], unique=False
    )
    op.create_index(op.f("ix_expired_tasks_ended"), "expired_tasks", ["ended"], unique=False)
