"""blobs."""

import sqlalchemy as sa
from alembic import op

revision = "blobs"
down_revision = ("identity_providers", "several_processes")
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "blobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("free", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("owner", "task_id", "free"):
        op.create_index(op.f(f"ix_blobs_{column}"), "blobs", [column], unique=False)
    op.add_column("tasks", sa.Column("payload_blob", sa.LargeBinary(), nullable=True))
    op.add_column("tasks", sa.Column("result_blob", sa.LargeBinary(), nullable=True))
