"""Run by alembic: migrate the connection that :mod:`mep_cloud.store.migrate` has opened."""

from alembic import context

from mep_cloud.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
