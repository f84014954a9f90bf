"""Several relay processes on one database: who they are, and who delivers what."""

import sqlalchemy as sa
from alembic import op

revision = "several_processes"
down_revision = ("list_indexes", "policies", "webhooks_and_actions")
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    if op.get_context().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE IF NOT EXISTS result_places")
    op.create_table(
        "processes",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.Column("beat", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "homes",
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("process", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("manager", sa.Boolean(), nullable=False),
        sa.Column("warden", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
        ),
        sa.ForeignKeyConstraint(["process"], ["processes.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("endpoint_id"),
    )
    op.create_index(op.f("ix_homes_process"), "homes", ["process"], unique=False)
