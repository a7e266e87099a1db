"""Alembic's environment. In: an open connection in the configuration's attributes. Out: migrated tables.

It is run by store/store.py alone, inside one transaction that also holds the lock.
"""

from alembic import context

from necropsy_analyzer.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
