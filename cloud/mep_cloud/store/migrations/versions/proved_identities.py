"""Which identity somebody proved when they signed in: one that is linked, perhaps."""

import sqlalchemy as sa
from alembic import op

revision = "proved_identities"
down_revision = "name_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    for table in ("device_codes", "tokens", "web_sessions"):
        op.add_column(table, sa.Column("proved", sa.String(), nullable=True))
