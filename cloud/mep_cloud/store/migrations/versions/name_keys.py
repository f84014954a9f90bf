"""User names in a form in which those that are too much alike are the same."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "name_keys"
down_revision = "more_indexes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it. Names that are too much alike already stay: the operator renames one of them."""
    op.add_column("users", sa.Column("name_key", sa.String(), nullable=True))
    op.create_index(op.f("ix_users_name_key"), "users", ["name_key"], unique=False)
    users = sa.table("users", sa.column("id"), sa.column("username"), sa.column("name_key"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(users.c.id, users.c.username)).all():
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", row.username).casefold())
        change = sa.update(users).where(users.c.id == row.id).values(name_key=key)
        connection.execute(change)
