"""Indexes for lists of endpoints, tokens of a person or an endpoint, the order of results."""

import sqlalchemy as sa
from alembic import op

revision = "list_indexes"
down_revision = "expired_tasks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    unfetched = sa.column("result_seq").is_not(None)
    op.create_index(
        "expired_tasks_order",
        "expired_tasks",
        ["result_seq"],
        unique=False,
        sqlite_where=unfetched,
        postgresql_where=unfetched,
    )
    public = sa.column("public").is_(sa.true())
    op.create_index("endpoints_owner", "endpoints", ["owner"], unique=False)
    op.create_index(
        "endpoints_public",
        "endpoints",
        ["created"],
        unique=False,
        sqlite_where=public,
        postgresql_where=public,
    )
    op.create_index("tokens_endpoint", "tokens", ["endpoint_id"], unique=False)
    op.create_index("tokens_user", "tokens", ["user_id"], unique=False)
