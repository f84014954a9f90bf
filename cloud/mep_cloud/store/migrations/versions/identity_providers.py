"""People of other identity providers, their revoked tokens, and locks of endpoints."""

import sqlalchemy as sa
from alembic import op

revision = "identity_providers"
down_revision = ("list_indexes", "policies", "webhooks_and_actions")
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.create_table(
        "ended_tokens",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_ended_tokens_expires"), "ended_tokens", ["expires"], unique=False)
    op.add_column("endpoints", sa.Column("locked_until", sa.Float(), nullable=True))
    op.add_column("users", sa.Column("provider", sa.String(), nullable=True))
    op.add_column("users", sa.Column("identity_set", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("claimed_groups", sa.Text(), nullable=True))
