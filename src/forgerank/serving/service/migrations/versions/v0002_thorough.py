"""Whether the faces of a job are judged in several views."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    column: sa.Column[bool] = sa.Column("thorough", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("jobs", column)
