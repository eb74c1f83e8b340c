"""What Alembic runs: the steps, in the transaction that `service.database.migrate` opened."""

from alembic import context

from forgerank.serving.service.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
