"""Authentication policies of endpoints."""

import sqlalchemy as sa
from alembic import op

revision = "policies"
down_revision = "people"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.create_table(
        "policies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("allowed_domains", sa.Text(), nullable=False),
        sa.Column("excluded_domains", sa.Text(), nullable=False),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("session_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
